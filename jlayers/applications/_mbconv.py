"""Mobile inverted bottlenecks, the blocks of all EfficientNets."""

from __future__ import annotations

import dataclasses
from typing import Any

from jlayers.applications._net import Net
from jlayers.core.layer import Layer
from jlayers.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    Multiply,
    ReLU,
    Reshape,
)

__all__ = ["CLASSIFIER", "KERNEL", "Bottleneck", "conv_bn"]

KERNEL = {"VarianceScaling": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"}}
CLASSIFIER = {"VarianceScaling": {"scale": 1 / 3, "mode": "fan_out", "distribution": "uniform"}}


def activate(activation: str, name: str) -> Layer:
    return ReLU(6.0, name=name) if activation == "relu6" else Activation(activation, name=name)


def conv_bn(
    net: Net, x: str, conv: Layer, name: str, activation: str | None, prefix: str, momentum: float = 0.99
) -> str:
    """A convolution, its normalization `{name}`, and an activation named after `prefix`."""
    x = net.chain(x, conv, BatchNormalization(momentum=momentum, name=name))
    return net(activate(activation, f"{prefix}activation"), x) if activation else x


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """One block: expand the channels, look at neighbors, weigh the channels, project, and add the input.

    Attributes:
        channels: channels of the input.
        filters: filters of the output.
        kernel_size: kernel size of the convolution that looks at neighbors.
        strides: strides of that convolution.
        expand: factor of the channels inside.
        se_ratio: channels of the squeeze-and-excitation by those of the input; 0 for none.
        drop: rate at which training leaves the block out for a sample.
        fused: expand and look at neighbors in one full convolution.
        activation: inside.
        momentum: momentum of the normalizations.
        depthwise_name: name of the depthwise convolution.
    """

    channels: int
    filters: int
    kernel_size: int
    strides: int
    expand: int
    se_ratio: float
    drop: float
    fused: bool = False
    activation: str = "swish"
    momentum: float = 0.99
    depthwise_name: str = "dwconv"

    def __call__(self, net: Net, x: str, prefix: str) -> str:
        inside = self.channels * self.expand
        y = self._fused(net, x, prefix) if self.fused else self._separated(net, x, prefix, inside)
        if self.strides == 1 and self.channels == self.filters:
            if self.drop:
                y = net(Dropout(self.drop, noise_shape=(None, 1, 1, 1), name=f"{prefix}drop"), y)
            y = net(Add(name=f"{prefix}add"), y, x)
        return y

    def _separated(self, net: Net, x: str, prefix: str, inside: int) -> str:
        if self.expand != 1:
            x = self._conv(net, x, inside, 1, 1, prefix, "expand", self.activation)
        depthwise = DepthwiseConv2D(
            self.kernel_size,
            strides=self.strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=KERNEL,
            name=f"{prefix}{self.depthwise_name}",
        )
        x = conv_bn(net, x, depthwise, f"{prefix}bn", self.activation, prefix, self.momentum)
        x = self._excited(net, x, prefix, inside)
        return self._conv(net, x, self.filters, 1, 1, prefix, "project", None)

    def _fused(self, net: Net, x: str, prefix: str) -> str:
        if self.expand == 1:
            size, strides, last = self.kernel_size, self.strides, self.activation
        else:
            inside = self.channels * self.expand
            x = self._conv(net, x, inside, self.kernel_size, self.strides, prefix, "expand", self.activation)
            size, strides, last = 1, 1, None
        x = self._excited(net, x, prefix, self.channels * self.expand)
        return self._conv(net, x, self.filters, size, strides, prefix, "project", last)

    def _conv(
        self, net: Net, x: str, filters: int, size: int, strides: int, prefix: str, role: str, activation: Any
    ) -> str:
        conv = Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=KERNEL,
            name=f"{prefix}{role}_conv",
        )
        return conv_bn(net, x, conv, f"{prefix}{role}_bn", activation, f"{prefix}{role}_", self.momentum)

    def _excited(self, net: Net, x: str, prefix: str, inside: int) -> str:
        if not self.se_ratio:
            return x
        few = max(1, int(self.channels * self.se_ratio))
        options: dict[str, Any] = {"padding": "same", "kernel_initializer": KERNEL}
        weight = net.chain(
            x,
            GlobalAveragePooling2D(name=f"{prefix}se_squeeze"),
            Reshape((1, 1, inside), name=f"{prefix}se_reshape"),
            Conv2D(few, 1, activation=self.activation, name=f"{prefix}se_reduce", **options),
            Conv2D(inside, 1, activation="sigmoid", name=f"{prefix}se_expand", **options),
        )
        return net(Multiply(name=f"{prefix}se_excite"), x, weight)
