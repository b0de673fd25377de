"""EfficientNet B0 to B7, and EfficientNet-Lite 0 to 4."""

from __future__ import annotations

import math
from collections.abc import Callable

from jlayers.applications._application import application
from jlayers.applications._mbconv import CLASSIFIER, KERNEL, Bottleneck, conv_bn
from jlayers.applications._net import (
    ImageShape,
    Net,
    Pooling,
    image_net,
    make_divisible,
    pooled_or_classified,
)
from jlayers.applications.imagenet import DEVIATION, MEAN, preprocessing
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Conv2D, Dropout, Normalization, Rescaling

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
]

preprocess_input = preprocessing("none")

# Kernel size, repeats, channels in and out, expansion, stride.
_STAGES = (
    (3, 1, 32, 16, 1, 1),
    (3, 2, 16, 24, 6, 2),
    (5, 2, 24, 40, 6, 2),
    (3, 3, 40, 80, 6, 2),
    (5, 3, 80, 112, 6, 1),
    (5, 4, 112, 192, 6, 2),
    (3, 1, 192, 320, 6, 1),
)


def _efficientnet(
    width: float,
    depth: float,
    dropout: float,
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Width, depth and resolution that grow together (Tan and Le, 2019, https://arxiv.org/abs/1905.11946).

    The network scales pixels itself. ImageNet's mean and deviation are arguments of its layer
    `normalization`; in Keras they are 7 numbers among the weights. Images of other than three channels are
    only divided by 255. Convolutions of stride 2 pad as `padding="same"` does, for which Keras has layers of
    their own.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, pixels from 0 to 255.
    """
    net = image_net(input_shape)
    x = net(Rescaling(1 / 255), net.input)
    if net.channels == 3:
        x = net(Normalization(mean=list(MEAN), variance=[d**2 for d in DEVIATION]), x)
    x = _body(net, x, width, depth, se_ratio=0.25, activation="swish", scale_ends=True)
    drop = Dropout(dropout, name="top_dropout")
    return pooled_or_classified(
        net, x, include_top, pooling, classes, classifier_activation, drop, kernel_initializer=CLASSIFIER
    )


def _efficientnet_lite(
    width: float,
    depth: float,
    dropout: float,
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """EfficientNet for small devices (Liu, 2020, in github.com/tensorflow/tpu).

    It has no squeeze-and-excitation, ReLU6 for swish, and a first and last stage of one size in all members.
    Keras lacks it; layers are named as in Keras's EfficientNet.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by
    `jl.applications.preprocess_input(x, mode="lite")`.
    """
    net = image_net(input_shape)
    x = _body(net, net.input, width, depth, se_ratio=0.0, activation="relu6", scale_ends=False)
    drop = Dropout(dropout, name="top_dropout")
    return pooled_or_classified(
        net, x, include_top, pooling, classes, classifier_activation, drop, kernel_initializer=CLASSIFIER
    )


def _body(
    net: Net, x: str, width: float, depth: float, se_ratio: float, activation: str, scale_ends: bool
) -> str:
    """Stem, stages and the last convolution.

    Args:
        net: the network.
        x: its last node.
        width: factor of the numbers of channels.
        depth: factor of the repeats.
        se_ratio: ratio of the squeeze-and-excitation.
        activation: in all places.
        scale_ends: whether stem, first and last stage and last convolution grow, too.
    """

    def round_filters(filters: int) -> int:
        return make_divisible(filters * width)

    ends = round_filters if scale_ends else int
    repeats = [
        n if not scale_ends and i in (0, len(_STAGES) - 1) else math.ceil(depth * n)
        for i, (_, n, *_) in enumerate(_STAGES)
    ]
    stem = Conv2D(
        ends(32), 3, strides=2, padding="same", use_bias=False, kernel_initializer=KERNEL, name="stem_conv"
    )
    x = conv_bn(net, x, stem, "stem_bn", activation, "stem_")
    block, blocks, channels = 0, sum(repeats), ends(32)
    for i, ((size, _, _, out, expand, strides), n) in enumerate(zip(_STAGES, repeats, strict=True)):
        for j in range(n):
            bottleneck = Bottleneck(
                channels,
                round_filters(out),
                size,
                1 if j else strides,
                expand,
                se_ratio,
                drop=0.2 * block / blocks,
                activation=activation,
            )
            x = bottleneck(net, x, f"block{i + 1}{chr(97 + j)}_")
            channels, block = round_filters(out), block + 1
    last = Conv2D(ends(1280), 1, padding="same", use_bias=False, kernel_initializer=KERNEL, name="top_conv")
    return conv_bn(net, x, last, "top_bn", activation, "top_")


def _member(
    number: int, width: float, depth: float, size: int, dropout: float, top1: float, with_top: str, notop: str
) -> Callable[..., Layer]:
    """A member, with the MD5 of its official weights with and without the classifier."""
    base, name = "https://storage.googleapis.com/keras-applications/", f"efficientnetb{number}"
    facts = Published(size, "none", top1, pair_of_files(base, name, (with_top, notop)))
    return application(
        f"EfficientNetB{number}", _efficientnet, facts, width=width, depth=depth, dropout=dropout
    )


def _lite_member(
    number: int, width: float, depth: float, size: int, dropout: float, top1: float
) -> Callable[..., Layer]:
    name, facts = f"EfficientNetLite{number}", Published(size, "lite", top1)
    return application(name, _efficientnet_lite, facts, width=width, depth=depth, dropout=dropout)


EfficientNetB0 = _member(
    0, 1.0, 1.0, 224, 0.2, 77.1, "902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"
)
EfficientNetB1 = _member(
    1, 1.0, 1.1, 240, 0.2, 79.1, "1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"
)
EfficientNetB2 = _member(
    2, 1.1, 1.2, 260, 0.3, 80.1, "b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"
)
EfficientNetB3 = _member(
    3, 1.2, 1.4, 300, 0.3, 81.6, "ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"
)
EfficientNetB4 = _member(
    4, 1.4, 1.8, 380, 0.4, 82.9, "18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"
)
EfficientNetB5 = _member(
    5, 1.6, 2.2, 456, 0.4, 83.6, "ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"
)
EfficientNetB6 = _member(
    6, 1.8, 2.6, 528, 0.5, 84.0, "165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"
)
EfficientNetB7 = _member(
    7, 2.0, 3.1, 600, 0.5, 84.3, "8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"
)
EfficientNetLite0 = _lite_member(0, 1.0, 1.0, 224, 0.2, 75.1)
EfficientNetLite1 = _lite_member(1, 1.0, 1.1, 240, 0.2, 76.7)
EfficientNetLite2 = _lite_member(2, 1.1, 1.2, 260, 0.3, 77.6)
EfficientNetLite3 = _lite_member(3, 1.2, 1.4, 280, 0.3, 79.8)
EfficientNetLite4 = _lite_member(4, 1.4, 1.8, 300, 0.3, 81.5)
