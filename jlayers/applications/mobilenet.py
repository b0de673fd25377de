"""MobileNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, check_classes, image_net, pooled
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, WeightsFile, square_size
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    ReLU,
    Reshape,
    ZeroPadding2D,
)

__all__ = ["MobileNet"]

preprocess_input = preprocessing("tf")

_FILTERS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_HALVES = (2, 4, 6, 12)  # the blocks of stride 2


def _mobilenet(
    input_shape: ImageShape | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 0.001,
    include_top: bool = True,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Depthwise and pointwise convolutions (Howard et al., 2017, https://arxiv.org/abs/1704.04861).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`.

    Args:
        alpha: factor of all numbers of channels.
        depth_multiplier: outputs of a depthwise convolution for each channel.
        dropout: fraction of the pooled features dropped in training, before the classifier.
    """
    net = image_net(input_shape)
    stem = Conv2D(int(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="conv1")
    x = _normalized(net, net.input, stem, "conv1")
    for i, filters in enumerate(_FILTERS, 1):
        half = i in _HALVES
        if half:
            x = net(ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{i}"), x)
        depthwise = DepthwiseConv2D(
            3,
            strides=2 if half else 1,
            padding="valid" if half else "same",
            depth_multiplier=depth_multiplier,
            use_bias=False,
            name=f"conv_dw_{i}",
        )
        x = _normalized(net, x, depthwise, f"conv_dw_{i}")
        pointwise = Conv2D(int(filters * alpha), 1, padding="same", use_bias=False, name=f"conv_pw_{i}")
        x = _normalized(net, x, pointwise, f"conv_pw_{i}")
    if not include_top:
        return net.model(pooled(net, x, pooling, named=False))
    check_classes(classes)
    x = net.chain(
        x,
        GlobalAveragePooling2D(keepdims=True),
        Dropout(dropout, name="dropout"),
        Conv2D(classes, 1, padding="same", name="conv_preds"),
        Reshape((classes,), name="reshape_2"),
        Activation(classifier_activation or "linear", name="predictions"),
    )
    return net.model(x)


def _normalized(net: Net, x: str, conv: Layer, name: str) -> str:
    return net.chain(x, conv, BatchNormalization(name=f"{name}_bn"), ReLU(6.0, name=f"{name}_relu"))


def _weights(arguments: Mapping[str, Any]) -> WeightsFile:
    texts = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}
    alpha, multiplier = float(arguments["alpha"]), arguments["depth_multiplier"]
    if alpha not in texts or multiplier != 1:
        error = ValueError(
            f"MobileNet: weights were published for alpha in {tuple(texts)} and depth_multiplier=1, "
            f"received alpha={alpha}, depth_multiplier={multiplier}"
        )
        raise about(error, alpha=alpha)
    size = square_size(arguments["input_shape"], (128, 160, 192, 224))
    end = "" if arguments["include_top"] else "_no_top"
    base = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
    return WeightsFile(f"{base}mobilenet_{texts[alpha]}_{size}_tf{end}.h5", None)


MobileNet = application("MobileNet", _mobilenet, Published(224, "tf", 70.4, _weights))
