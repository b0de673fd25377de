"""ResNet50, 101 and 152, and the frame that they share with version 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Activation, Add, BatchNormalization, Conv2D, MaxPooling2D, ZeroPadding2D

__all__ = ["ResNet50", "ResNet101", "ResNet152"]

preprocess_input = preprocessing("caffe")


def norm(name: str) -> Layer:
    return BatchNormalization(epsilon=1.001e-5, name=name)


def stem(net: Net, normalized: bool, use_bias: bool) -> str:
    """A convolution of 7 by 7 and a pooling, each of stride 2."""
    conv = Conv2D(64, 7, strides=2, use_bias=use_bias, name="conv1_conv")
    x = net.chain(net.input, ZeroPadding2D(3, name="conv1_pad"), conv)
    if normalized:
        x = net.chain(x, norm("conv1_bn"), Activation("relu", name="conv1_relu"))
    return net.chain(x, ZeroPadding2D(1, name="pool1_pad"), MaxPooling2D(3, strides=2, name="pool1_pool"))


def _resnet(
    depths: Sequence[int],
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Residual learning (He et al., 2016, https://arxiv.org/abs/1512.03385).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`.
    """
    net = image_net(input_shape)
    x = stem(net, normalized=True, use_bias=True)
    for i, depth in enumerate(depths):
        for j in range(depth):
            x = _block(net, x, f"conv{i + 2}_block{j + 1}", 64 * 2**i, 2 if i and not j else 1, first=not j)
    return pooled_or_classified(net, x, include_top, pooling, classes, classifier_activation)


def _block(net: Net, x: str, name: str, filters: int, strides: int, first: bool) -> str:
    """1 by 1, 3 by 3 and 1 by 1 convolutions beside a skip connection, which the first block projects."""
    skip = x
    if first:
        project = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")
        skip = net.chain(x, project, norm(f"{name}_0_bn"))
    y = net.chain(
        x,
        Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv"),
        norm(f"{name}_1_bn"),
        Activation("relu", name=f"{name}_1_relu"),
        Conv2D(filters, 3, padding="same", name=f"{name}_2_conv"),
        norm(f"{name}_2_bn"),
        Activation("relu", name=f"{name}_2_relu"),
        Conv2D(4 * filters, 1, name=f"{name}_3_conv"),
        norm(f"{name}_3_bn"),
    )
    return net(Activation("relu", name=f"{name}_out"), net(Add(name=f"{name}_add"), skip, y))


def member(
    build: Callable[..., Layer], name: str, depths: Sequence[int], mode: str, top1: float, *hashes: str
) -> Callable[..., Layer]:
    """A member, with the MD5 of its official weights with and without the classifier."""
    base = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    files = pair_of_files(base, f"{name.lower()}_weights_tf_dim_ordering_tf_kernels", (hashes[0], hashes[1]))
    facts = Published(224, "caffe" if mode == "caffe" else "tf", top1, files)
    return application(name, build, facts, depths=depths)


ResNet50 = member(
    _resnet, "ResNet50", (3, 4, 6, 3), "caffe", 74.9,
    "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626",
)  # fmt: skip
ResNet101 = member(
    _resnet, "ResNet101", (3, 4, 23, 3), "caffe", 76.4,
    "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21",
)  # fmt: skip
ResNet152 = member(
    _resnet, "ResNet152", (3, 8, 36, 3), "caffe", 76.6,
    "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c",
)  # fmt: skip
