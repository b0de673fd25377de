"""MobileNetV2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.applications._application import application
from jlayers.applications._net import (
    ImageShape,
    Net,
    Pooling,
    image_net,
    make_divisible,
    pooled_or_classified,
)
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, WeightsFile, square_size
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Add, BatchNormalization, Conv2D, DepthwiseConv2D, ReLU

__all__ = ["MobileNetV2"]

preprocess_input = preprocessing("tf")

# Filters, repeats and stride of each stage; the first layer of the first stage does not expand.
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


def _mobilenet_v2(
    input_shape: ImageShape | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Inverted residuals with linear bottlenecks (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

    Convolutions of stride 2 pad as `padding="same"` does, for which Keras has layers of their own.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`.

    Args:
        alpha: factor of all numbers of channels.
    """
    net = image_net(input_shape)
    channels = make_divisible(32 * alpha)
    x = _conv_bn_relu(
        net,
        net.input,
        Conv2D(channels, 3, strides=2, padding="same", use_bias=False, name="Conv1"),
        "bn_Conv1",
        "Conv1_relu",
    )
    block = 0
    for filters, repeats, stride in _STAGES:
        for i in range(repeats):
            to = make_divisible(int(filters * alpha))
            x = _inverted_residual(net, x, block, channels, to, 1 if i else stride)
            channels, block = to, block + 1
    last = Conv2D(make_divisible(1280 * max(alpha, 1.0)), 1, use_bias=False, name="Conv_1")
    x = _conv_bn_relu(net, x, last, "Conv_1_bn", "out_relu")
    return pooled_or_classified(net, x, include_top, pooling, classes, classifier_activation, named=False)


def _conv_bn_relu(net: Net, x: str, conv: Layer, norm: str, relu: str | None) -> str:
    x = net.chain(x, conv, BatchNormalization(momentum=0.999, name=norm))
    return net(ReLU(6.0, name=relu), x) if relu else x


def _inverted_residual(net: Net, x: str, block: int, channels: int, filters: int, stride: int) -> str:
    prefix = f"block_{block}_" if block else "expanded_conv_"
    y = x
    if block:
        expand = Conv2D(6 * channels, 1, padding="same", use_bias=False, name=f"{prefix}expand")
        y = _conv_bn_relu(net, y, expand, f"{prefix}expand_BN", f"{prefix}expand_relu")
    depthwise = DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{prefix}depthwise")
    y = _conv_bn_relu(net, y, depthwise, f"{prefix}depthwise_BN", f"{prefix}depthwise_relu")
    project = Conv2D(filters, 1, padding="same", use_bias=False, name=f"{prefix}project")
    y = _conv_bn_relu(net, y, project, f"{prefix}project_BN", None)
    return net(Add(name=f"{prefix}add"), x, y) if stride == 1 and channels == filters else y


def _weights(arguments: Mapping[str, Any]) -> WeightsFile:
    alpha = float(arguments["alpha"])
    if alpha not in (known := (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)):
        error = ValueError(
            f"MobileNetV2: weights were published for alpha in {known}, received alpha={alpha}"
        )
        raise about(error, alpha=alpha)
    size = square_size(arguments["input_shape"], (96, 128, 160, 192, 224))
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}"
    end = "" if arguments["include_top"] else "_no_top"
    base = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    return WeightsFile(f"{base}{name}{end}.h5", None)


MobileNetV2 = application("MobileNetV2", _mobilenet_v2, Published(224, "tf", 71.3, _weights))
