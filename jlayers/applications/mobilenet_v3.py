"""MobileNetV3Small and MobileNetV3Large."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jlayers.applications._application import application
from jlayers.applications._net import (
    ImageShape,
    Net,
    Pooling,
    check_classes,
    image_net,
    make_divisible,
    pooled,
)
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, WeightsFile
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    Add,
    Arithmetic,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Multiply,
    ReLU,
    Rescaling,
)

__all__ = ["MobileNetV3Large", "MobileNetV3Small"]

preprocess_input = preprocessing("none")

# Of each block: expansion, filters, whether its window is the large one, stride, whether it weighs its
# channels, whether its activation is hard_swish.
_SMALL = (
    (1, 16, False, 2, True, False),
    (72 / 16, 24, False, 2, False, False),
    (88 / 24, 24, False, 1, False, False),
    (4, 40, True, 2, True, True),
    (6, 40, True, 1, True, True),
    (6, 40, True, 1, True, True),
    (3, 48, True, 1, True, True),
    (3, 48, True, 1, True, True),
    (6, 96, True, 2, True, True),
    (6, 96, True, 1, True, True),
    (6, 96, True, 1, True, True),
)
_LARGE = (
    (1, 16, False, 1, False, False),
    (4, 24, False, 2, False, False),
    (3, 24, False, 1, False, False),
    (3, 40, True, 2, True, False),
    (3, 40, True, 1, True, False),
    (3, 40, True, 1, True, False),
    (6, 80, False, 2, False, True),
    (2.5, 80, False, 1, False, True),
    (2.3, 80, False, 1, False, True),
    (2.3, 80, False, 1, False, True),
    (6, 112, False, 1, True, True),
    (6, 112, False, 1, True, True),
    (6, 160, True, 2, True, True),
    (6, 160, True, 1, True, True),
    (6, 160, True, 1, True, True),
)


def _mobilenet_v3(
    blocks: Sequence[tuple[float, int, bool, int, bool, bool]],
    last: int,
    input_shape: ImageShape | None = None,
    alpha: float = 1.0,
    minimalistic: bool = False,
    include_top: bool = True,
    classes: int = 1000,
    pooling: Pooling | None = None,
    dropout_rate: float = 0.2,
    classifier_activation: ActivationLike | None = "softmax",
    include_preprocessing: bool = True,
) -> Layer:
    """Blocks found by a search (Howard et al., 2019, https://arxiv.org/abs/1905.02244).

    Convolutions of stride 2 pad as `padding="same"` does, for which Keras has layers of their own.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, pixels from 0 to 255, or from -1 to 1
    without `include_preprocessing`.

    Args:
        alpha: factor of all numbers of channels.
        minimalistic: without windows of 5 by 5, weighed channels and hard_swish.
        dropout_rate: fraction of the last features dropped in training, before the classifier.
    """
    net = image_net(input_shape)
    x = net.input
    if include_preprocessing:
        x = net(Rescaling(1 / 127.5, -1.0), x)
    x = _normalized(net, x, Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv"), "conv_bn")
    x = net(_activation(not minimalistic), x)
    channels = 16
    for i, (expand, filters, large, strides, weigh, hard) in enumerate(blocks):
        block = _Block(
            f"expanded_conv_{i}_" if i else "expanded_conv_",
            channels,
            make_divisible(channels * expand) if i else channels,
            make_divisible(filters * alpha),
            5 if large and not minimalistic else 3,
            strides,
            weigh and not minimalistic,
            hard and not minimalistic,
        )
        x, channels = block(net, x), make_divisible(filters * alpha)
    conv = Conv2D(make_divisible(channels * 6), 1, padding="same", use_bias=False, name="conv_1")
    x = net(_activation(not minimalistic), _normalized(net, x, conv, "conv_1_bn"))
    if not include_top:
        return net.model(pooled(net, x, pooling))
    check_classes(classes)
    wide = make_divisible(last * alpha) if alpha > 1 else last
    x = net.chain(
        x,
        GlobalAveragePooling2D(keepdims=True),
        Conv2D(wide, 1, padding="same", name="conv_2"),
        _activation(not minimalistic),
        *([Dropout(dropout_rate)] if dropout_rate else []),
        Conv2D(classes, 1, padding="same", name="logits"),
        Flatten(),
        Activation(classifier_activation or "linear", name="predictions"),
    )
    return net.model(x)


def _activation(hard: bool) -> Layer:
    return Activation("hard_swish") if hard else ReLU()


def _normalized(net: Net, x: str, conv: Layer, name: str) -> str:
    return net.chain(x, conv, BatchNormalization(momentum=0.999, name=name))


@dataclasses.dataclass(frozen=True)
class _Block:
    """Expand the channels, look at neighbors, weigh the channels, project, and add the input."""

    prefix: str
    channels: int
    inside: int
    filters: int
    size: int
    strides: int
    weigh: bool
    hard: bool

    def __call__(self, net: Net, x: str) -> str:
        prefix, y = self.prefix, x
        if prefix != "expanded_conv_":
            expand = Conv2D(self.inside, 1, padding="same", use_bias=False, name=f"{prefix}expand")
            y = net(_activation(self.hard), _normalized(net, y, expand, f"{prefix}expand_bn"))
        depthwise = DepthwiseConv2D(
            self.size, strides=self.strides, padding="same", use_bias=False, name=f"{prefix}depthwise"
        )
        y = net(_activation(self.hard), _normalized(net, y, depthwise, f"{prefix}depthwise_bn"))
        y = self._weighed(net, y) if self.weigh else y
        project = Conv2D(self.filters, 1, padding="same", use_bias=False, name=f"{prefix}project")
        y = _normalized(net, y, project, f"{prefix}project_bn")
        return (
            net(Add(name=f"{prefix}add"), x, y) if self.strides == 1 and self.channels == self.filters else y
        )

    def _weighed(self, net: Net, x: str) -> str:
        prefix = f"{self.prefix}squeeze_excite_"
        weight = net.chain(
            x,
            GlobalAveragePooling2D(keepdims=True, name=f"{prefix}avg_pool"),
            Conv2D(make_divisible(self.inside * 0.25), 1, padding="same", name=f"{prefix}conv"),
            ReLU(name=f"{prefix}relu"),
            Conv2D(self.inside, 1, padding="same", name=f"{prefix}conv_1"),
            Arithmetic("add", 3.0),  # these three are a hard sigmoid
            ReLU(6.0),
            Arithmetic("multiply", 1 / 6),
        )
        return net(Multiply(name=f"{prefix}mul"), x, weight)


# MD5 of the weights with and without the classifier.
_HASHES = {
    "large_224_0.75_float": (
        "765b44a33ad4005b3ac83185abf1d0eb",
        "40af19a13ebea4e2ee0c676887f69a2e",
    ),
    "large_224_1.0_float": (
        "59e551e166be033d707958cf9e29a6a7",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "large_minimalistic_224_1.0_float": (
        "675e7b876c45c57e9e63e6d90a36599c",
        "ec5221f64a2f6d1ef965a614bdae7973",
    ),
    "small_224_0.75_float": (
        "cb65d4e5be93758266aa0a7f2c6708b7",
        "ebdb5cc8e0b497cd13a7c275d475c819",
    ),
    "small_224_1.0_float": (
        "8768d4c2e7dee89b9d02b2d03d65d862",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "small_minimalistic_224_1.0_float": (
        "99cd97fb2fcdad2bf028eb838de69e37",
        "cde8136e733e811080d9fcd8a252f7e4",
    ),
}


def _weights(kind: str) -> Callable[[Mapping[str, Any]], WeightsFile]:
    def find(arguments: Mapping[str, Any]) -> WeightsFile:
        simple = "_minimalistic" if arguments["minimalistic"] else ""
        name = f"{kind}{simple}_224_{float(arguments['alpha'])}_float"
        if name not in _HASHES:
            error = ValueError(
                f"MobileNetV3: expected alpha=1.0, or 0.75 without minimalistic, as published, received "
                f"alpha={arguments['alpha']}, minimalistic={arguments['minimalistic']}"
            )
            raise about(error, alpha=arguments["alpha"])
        base = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3/"
        top = arguments["include_top"]
        end = "" if top else "_no_top_v2"
        return WeightsFile(f"{base}weights_mobilenet_v3_{name}{end}.h5", _HASHES[name][0 if top else 1])

    return find


MobileNetV3Small = application(
    "MobileNetV3Small",
    _mobilenet_v3,
    Published(224, "none", 68.1, _weights("small")),
    blocks=_SMALL,
    last=1024,
)
MobileNetV3Large = application(
    "MobileNetV3Large",
    _mobilenet_v3,
    Published(224, "none", 75.6, _weights("large")),
    blocks=_LARGE,
    last=1280,
)
