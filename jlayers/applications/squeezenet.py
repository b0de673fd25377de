"""SqueezeNet 1.1."""

from __future__ import annotations

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, check_classes, image_net, pooled
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    Concatenate,
    Conv2D,
    Dropout,
    GlobalAveragePooling2D,
    MaxPooling2D,
)

__all__ = ["SqueezeNet"]

preprocess_input = preprocessing("caffe")


def _squeezenet(
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Version 1.1, of few weights (Iandola et al., 2016, https://arxiv.org/abs/1602.07360).

    Keras lacks it. Layers are named as in Caffe's network, with `_` for `/`. As there, a pooling keeps a last
    window that is not full.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`; the
    weights were made for 227 by 227.
    """
    net = image_net(input_shape)
    x = net.chain(
        net.input,
        Conv2D(64, 3, strides=2, name="conv1"),
        Activation("relu", name="relu_conv1"),
        _pool("pool1"),
    )
    for i, filters in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        x = _fire(net, x, filters, f"fire{i}")
        if i in (3, 5):
            x = net(_pool(f"pool{i}"), x)
    if not include_top:
        return net.model(pooled(net, x, pooling))
    check_classes(classes)
    x = net.chain(
        x,
        Dropout(0.5, name="drop9"),
        Conv2D(classes, 1, name="conv10"),
        Activation("relu", name="relu_conv10"),
        GlobalAveragePooling2D(name="pool10"),
        Activation(classifier_activation or "linear", name="predictions"),
    )
    return net.model(x)


def _pool(name: str) -> Layer:
    return MaxPooling2D(3, strides=2, padding=((0, 1), (0, 1)), name=name)


def _fire(net: Net, x: str, filters: int, name: str) -> str:
    """Few channels, from which 1 by 1 and 3 by 3 convolutions make many."""

    def conv(x: str, filters: int, size: int, role: str) -> str:
        layer = Conv2D(filters, size, padding="same", name=f"{name}_{role}")
        return net.chain(x, layer, Activation("relu", name=f"{name}_relu_{role}"))

    x = conv(x, filters, 1, "squeeze1x1")
    sides = [conv(x, 4 * filters, n, f"expand{n}x{n}") for n in (1, 3)]
    return net(Concatenate(name=f"{name}_concat"), *sides)


SqueezeNet = application("SqueezeNet", _squeezenet, Published(227, "caffe", 57.5))
