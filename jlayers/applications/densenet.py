"""DenseNet121, 169 and 201."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, pair_of_files
from jlayers.applications.resnet import norm
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Activation, AveragePooling2D, Concatenate, Conv2D, MaxPooling2D, ZeroPadding2D

__all__ = ["DenseNet121", "DenseNet169", "DenseNet201"]

preprocess_input = preprocessing("torch")

_GROWTH = 32


def _densenet(
    depths: Sequence[int],
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Each layer sees all before it (Huang et al., 2017, https://arxiv.org/abs/1608.06993).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`.
    """
    net = image_net(input_shape)
    conv = Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")
    x = net.chain(net.input, ZeroPadding2D(3), conv, norm("conv1_bn"), Activation("relu", name="conv1_relu"))
    x = net.chain(x, ZeroPadding2D(1), MaxPooling2D(3, strides=2, name="pool1"))
    channels = 64
    for i, depth in enumerate(depths):
        for j in range(depth):
            x = _grown(net, x, f"conv{i + 2}_block{j + 1}")
        channels += depth * _GROWTH
        if i < len(depths) - 1:
            channels //= 2
            x = _halved(net, x, channels, f"pool{i + 2}")
    x = net.chain(x, norm("bn"), Activation("relu", name="relu"))
    return pooled_or_classified(net, x, include_top, pooling, classes, classifier_activation)


def _grown(net: Net, x: str, name: str) -> str:
    """The features, and new ones made of them."""
    y = net.chain(
        x,
        norm(f"{name}_0_bn"),
        Activation("relu", name=f"{name}_0_relu"),
        Conv2D(4 * _GROWTH, 1, use_bias=False, name=f"{name}_1_conv"),
        norm(f"{name}_1_bn"),
        Activation("relu", name=f"{name}_1_relu"),
        Conv2D(_GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv"),
    )
    return net(Concatenate(name=f"{name}_concat"), x, y)


def _halved(net: Net, x: str, channels: int, name: str) -> str:
    """Half the channels at half the resolution."""
    conv = Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")
    relu, pool = Activation("relu", name=f"{name}_relu"), AveragePooling2D(2, strides=2, name=f"{name}_pool")
    return net.chain(x, norm(f"{name}_bn"), relu, conv, pool)


def _member(depth: int, depths: Sequence[int], top1: float, *hashes: str) -> Callable[..., Layer]:
    base = "https://storage.googleapis.com/tensorflow/keras-applications/densenet/"
    files = pair_of_files(base, f"densenet{depth}_weights_tf_dim_ordering_tf_kernels", (hashes[0], hashes[1]))
    return application(f"DenseNet{depth}", _densenet, Published(224, "torch", top1, files), depths=depths)


DenseNet121 = _member(
    121, (6, 12, 24, 16), 75.0, "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"
)
DenseNet169 = _member(
    169, (6, 12, 32, 32), 76.2, "d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"
)
DenseNet201 = _member(
    201, (6, 12, 48, 32), 77.3, "1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"
)
