"""InceptionV3."""

from __future__ import annotations

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    MaxPooling2D,
)

__all__ = ["InceptionV3"]

preprocess_input = preprocessing("tf")


def _inception_v3(
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Branches of factored convolutions (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).

    Shapes: images `(batch, height, width, 3)` of at least 75 by 75, prepared by `preprocess_input`.
    """
    net = image_net(input_shape, least=75)
    x = _conv(net, net.input, 32, 3, strides=2, padding="valid")
    x = _conv(net, x, 32, 3, padding="valid")
    x = net(MaxPooling2D(3, strides=2), _conv(net, x, 64, 3))
    x = _conv(net, x, 80, 1, padding="valid")
    x = net(MaxPooling2D(3, strides=2), _conv(net, x, 192, 3, padding="valid"))
    for i, filters in enumerate((32, 64, 64)):
        x = _squares(net, x, filters, f"mixed{i}")
    x = _reduced(net, x, "mixed3")
    for i, filters in enumerate((128, 160, 160, 192)):
        x = _crosses(net, x, filters, f"mixed{4 + i}")
    x = _reduced_again(net, x, "mixed8")
    for i in range(2):
        x = _split(net, x, i)
    if include_top:
        return pooled_or_classified(net, x, True, None, classes, classifier_activation)
    return net.model(pooled(net, x, pooling, named=False))


def _conv(
    net: Net, x: str, filters: int, size: int | tuple[int, int], strides: int = 1, padding: str = "same"
) -> str:
    conv = Conv2D(filters, size, strides=strides, padding=padding, use_bias=False)
    return net.chain(x, conv, BatchNormalization(scale=False), Activation("relu"))


def _convs(net: Net, x: str, *shapes: tuple[int, int | tuple[int, int]]) -> str:
    for filters, size in shapes:
        x = _conv(net, x, filters, size)
    return x


def _pooled(net: Net, x: str, filters: int) -> str:
    return _conv(net, net(AveragePooling2D(3, strides=1, padding="same"), x), filters, 1)


def _squares(net: Net, x: str, filters: int, name: str) -> str:
    """One 5 by 5 convolution, and two of 3 by 3, beside each other."""
    branches = [
        _conv(net, x, 64, 1),
        _convs(net, x, (48, 1), (64, 5)),
        _convs(net, x, (64, 1), (96, 3), (96, 3)),
        _pooled(net, x, filters),
    ]
    return net(Concatenate(name=name), *branches)


def _reduced(net: Net, x: str, name: str) -> str:
    branches = [
        _conv(net, x, 384, 3, strides=2, padding="valid"),
        _conv(net, _convs(net, x, (64, 1), (96, 3)), 96, 3, strides=2, padding="valid"),
        net(MaxPooling2D(3, strides=2), x),
    ]
    return net(Concatenate(name=name), *branches)


def _crosses(net: Net, x: str, filters: int, name: str) -> str:
    """7 by 7 convolutions as 1 by 7 and 7 by 1, once and twice."""
    few, row, column = filters, (1, 7), (7, 1)
    branches = [
        _conv(net, x, 192, 1),
        _convs(net, x, (few, 1), (few, row), (192, column)),
        _convs(net, x, (few, 1), (few, column), (few, row), (few, column), (192, row)),
        _pooled(net, x, 192),
    ]
    return net(Concatenate(name=name), *branches)


def _reduced_again(net: Net, x: str, name: str) -> str:
    crossed = ((192, 1), (192, (1, 7)), (192, (7, 1)))
    branches = [
        _conv(net, _conv(net, x, 192, 1), 320, 3, strides=2, padding="valid"),
        _conv(net, _convs(net, x, *crossed), 192, 3, strides=2, padding="valid"),
        net(MaxPooling2D(3, strides=2), x),
    ]
    return net(Concatenate(name=name), *branches)


def _split(net: Net, x: str, i: int) -> str:
    """3 by 3 convolutions as 1 by 3 and 3 by 1 side by side."""

    def sides(y: str, name: str | None) -> str:
        return net(Concatenate(name=name), _conv(net, y, 384, (1, 3)), _conv(net, y, 384, (3, 1)))

    branches = [
        _conv(net, x, 320, 1),
        sides(_conv(net, x, 384, 1), f"mixed9_{i}"),
        sides(_convs(net, x, (448, 1), (384, 3)), None),
        _pooled(net, x, 192),
    ]
    return net(Concatenate(name=f"mixed{9 + i}"), *branches)


_FILES = pair_of_files(
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/",
    "inception_v3_weights_tf_dim_ordering_tf_kernels",
    ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
)
InceptionV3 = application("InceptionV3", _inception_v3, Published(299, "tf", 77.9, _FILES))
