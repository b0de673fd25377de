"""Xception."""

from __future__ import annotations

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Activation, Add, BatchNormalization, Conv2D, MaxPooling2D, SeparableConv2D

__all__ = ["Xception"]

preprocess_input = preprocessing("tf")


def _xception(
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Convolutions split in depth and space (Chollet, 2017, https://arxiv.org/abs/1610.02357).

    Shapes: images `(batch, height, width, 3)` of at least 71 by 71, prepared by `preprocess_input`.
    """
    net = image_net(input_shape, least=71)
    x = net.input
    for i, (filters, strides) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{i}"
        conv = Conv2D(filters, 3, strides=strides, use_bias=False, name=name)
        x = net.chain(x, conv, BatchNormalization(name=f"{name}_bn"), Activation("relu", name=f"{name}_act"))
    for block, filters in ((2, (128, 128)), (3, (256, 256)), (4, (728, 728))):
        x = _reduced(net, x, block, filters)
    for block in range(5, 13):
        y = x
        for i in range(1, 4):
            y = _separable(net, y, 728, f"block{block}_sepconv{i}", before=f"block{block}_sepconv{i}_act")
        x = net(Add(), y, x)
    x = _reduced(net, x, 13, (728, 1024))
    for i, filters in ((1, 1536), (2, 2048)):
        name = f"block14_sepconv{i}"
        x = net(Activation("relu", name=f"{name}_act"), _separable(net, x, filters, name))
    if include_top:
        return pooled_or_classified(net, x, True, None, classes, classifier_activation)
    return net.model(pooled(net, x, pooling, named=False))


def _separable(net: Net, x: str, filters: int, name: str, before: str | None = None) -> str:
    if before:
        x = net(Activation("relu", name=before), x)
    conv = SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)
    return net.chain(x, conv, BatchNormalization(name=f"{name}_bn"))


def _reduced(net: Net, x: str, block: int, filters: tuple[int, int]) -> str:
    """Two separable convolutions and a pooling beside a convolution of stride 2."""
    project = Conv2D(filters[1], 1, strides=2, padding="same", use_bias=False)
    skip = net.chain(x, project, BatchNormalization())
    for i in (1, 2):
        name = f"block{block}_sepconv{i}"
        before = None if (block, i) == (2, 1) else f"{name}_act"  # the first is on activations already
        x = _separable(net, x, filters[i - 1], name, before)
    pool = MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")
    return net(Add(), net(pool, x), skip)


_FILES = pair_of_files(
    "https://storage.googleapis.com/tensorflow/keras-applications/xception/",
    "xception_weights_tf_dim_ordering_tf_kernels",
    ("0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"),
)
Xception = application("Xception", _xception, Published(299, "tf", 79.0, _FILES))
