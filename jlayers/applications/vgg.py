"""VGG16 and VGG19."""

from __future__ import annotations

from collections.abc import Sequence

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Pooling, classifier, image_net, pooled
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Conv2D, Dense, Flatten, MaxPooling2D

__all__ = ["VGG16", "VGG19"]

preprocess_input = preprocessing("caffe")


def _vgg(
    depths: Sequence[int],
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Very deep convolutions of 3 by 3 (Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`. With the
    classifier its dense layers fix the size, which is 224 by 224 unless `input_shape` says another.
    """
    net = image_net(input_shape, default=224 if include_top else None)
    x = net.input
    for i, (depth, filters) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True), 1):
        for j in range(1, depth + 1):
            conv = Conv2D(filters, 3, activation="relu", padding="same", name=f"block{i}_conv{j}")
            x = net(conv, x)
        x = net(MaxPooling2D(2, name=f"block{i}_pool"), x)
    if not include_top:
        return net.model(pooled(net, x, pooling, named=False))
    hidden = [Dense(4096, activation="relu", name=name) for name in ("fc1", "fc2")]
    x = net.chain(x, Flatten(name="flatten"), *hidden, classifier(classes, classifier_activation))
    return net.model(x)


def _published(name: str, *hashes: str) -> Published:
    base = f"https://storage.googleapis.com/tensorflow/keras-applications/{name}/"
    files = pair_of_files(base, f"{name}_weights_tf_dim_ordering_tf_kernels", (hashes[0], hashes[1]))
    return Published(224, "caffe", 71.3, files)


VGG16 = application(
    "VGG16",
    _vgg,
    _published("vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    depths=(2, 2, 3, 3, 3),
)
VGG19 = application(
    "VGG19",
    _vgg,
    _published("vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
    depths=(2, 2, 4, 4, 4),
)
