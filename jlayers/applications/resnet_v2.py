"""ResNet50V2, 101V2 and 152V2."""

from __future__ import annotations

from collections.abc import Sequence

from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.resnet import member, norm, stem
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Activation, Add, Conv2D, MaxPooling2D, ZeroPadding2D

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2"]

preprocess_input = preprocessing("tf")


def _resnet_v2(
    depths: Sequence[int],
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Residual networks that normalize first (He et al., 2016, https://arxiv.org/abs/1603.05027).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`.
    """
    net = image_net(input_shape)
    x = stem(net, normalized=False, use_bias=True)
    for i, depth in enumerate(depths):
        for j in range(depth):
            last = j == depth - 1 and i < len(depths) - 1
            x = _block(net, x, f"conv{i + 2}_block{j + 1}", 64 * 2**i, 2 if last else 1, first=not j)
    x = net.chain(x, norm("post_bn"), Activation("relu", name="post_relu"))
    return pooled_or_classified(net, x, include_top, pooling, classes, classifier_activation)


def _block(net: Net, x: str, name: str, filters: int, strides: int, first: bool) -> str:
    """As in version 1, on normalized input; the last block of a stage has the stride."""
    before = net.chain(x, norm(f"{name}_preact_bn"), Activation("relu", name=f"{name}_preact_relu"))
    skip = x
    if first:
        skip = net(Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv"), before)
    elif strides > 1:
        skip = net(MaxPooling2D(1, strides=strides), x)
    y = net.chain(
        before,
        Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv"),
        norm(f"{name}_1_bn"),
        Activation("relu", name=f"{name}_1_relu"),
        ZeroPadding2D(1, name=f"{name}_2_pad"),
        Conv2D(filters, 3, strides=strides, use_bias=False, name=f"{name}_2_conv"),
        norm(f"{name}_2_bn"),
        Activation("relu", name=f"{name}_2_relu"),
        Conv2D(4 * filters, 1, name=f"{name}_3_conv"),
    )
    return net(Add(name=f"{name}_out"), skip, y)


ResNet50V2 = member(
    _resnet_v2, "ResNet50V2", (3, 4, 6, 3), "tf", 76.0,
    "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917",
)  # fmt: skip
ResNet101V2 = member(
    _resnet_v2, "ResNet101V2", (3, 4, 23, 3), "tf", 77.2,
    "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5",
)  # fmt: skip
ResNet152V2 = member(
    _resnet_v2, "ResNet152V2", (3, 8, 36, 3), "tf", 78.0,
    "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33",
)  # fmt: skip
