"""NASNetMobile."""

from __future__ import annotations

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, image_net, pooled_or_classified
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published, WeightsFile
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Cropping2D,
    MaxPooling2D,
    SeparableConv2D,
    ZeroPadding2D,
)

__all__ = ["NASNetMobile"]

preprocess_input = preprocessing("tf")


def _nasnet(
    blocks: int,
    stem_filters: int,
    last_filters: int,
    size: int,
    input_shape: ImageShape | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """Cells found by a search (Zoph et al., 2018, https://arxiv.org/abs/1707.07012).

    Separable convolutions of stride 2 pad as `padding="same"` does, for which Keras has layers of their own.
    The size of the images must be known, as a max pooling sees zeros around them that depend on it.

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, prepared by `preprocess_input`; of 224 by
    224 unless `input_shape` says another size.
    """
    net = image_net(input_shape, default=size)
    height, width, _ = input_shape or (size, size, 3)
    assert height is not None  # image_net has looked at it
    assert width is not None
    cells = _Cells(net, (height - 1) // 2, (width - 1) // 2)
    filters = last_filters // 24
    stem = Conv2D(
        stem_filters, 3, strides=2, use_bias=False, kernel_initializer="he_normal", name="stem_conv1"
    )
    x, before = net.chain(net.input, stem, _norm("stem_bn1")), None
    x, before = cells.reduce(x, before, filters // 4, "stem_1"), x
    x, before = cells.reduce(x, before, filters // 2, "stem_2"), x
    for stage in range(3):
        if stage:
            x, before = cells.reduce(x, before, filters * 2**stage, f"reduce_{stage * blocks}"), x
        for i in range(blocks):
            name = f"{stage * blocks + i + (1 if stage else 0)}"
            x, before = cells.normal(x, before, filters * 2**stage, name), x
    x = net(Activation("relu"), x)
    return pooled_or_classified(net, x, include_top, pooling, classes, classifier_activation, named=False)


def _norm(name: str) -> Layer:
    return BatchNormalization(momentum=0.9997, name=name)


class _Cells:
    """Cells on a net, and what is known of its nodes: height, width and channels."""

    def __init__(self, net: Net, height: int, width: int):
        self.net = net
        self.size = (height, width)
        self.shapes: dict[str, tuple[tuple[int, int], int]] = {}

    def _remember(self, x: str, channels: int) -> str:
        self.shapes[x] = (self.size, channels)
        return x

    def _separable(self, x: str, filters: int, size: int, name: str, strides: int = 1) -> str:
        for i, step in ((1, strides), (2, 1)):
            conv = SeparableConv2D(
                filters, size, strides=step, padding="same", use_bias=False, name=f"separable_conv_{i}_{name}"
            )
            x = self.net.chain(x, Activation("relu"), conv, _norm(f"separable_conv_{i}_bn_{name}"))
        return x

    def _conv(self, x: str, filters: int, name: str) -> str:
        options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
        return self.net(Conv2D(filters, 1, name=name, **options), x)

    def _adjusted(self, before: str | None, x: str, filters: int, name: str) -> str:
        """The output of the cell before the last, brought to the size and the channels of this cell."""
        if before is None:
            return x
        size, channels = self.shapes.get(before, ((0, 0), 0))  # the stem, which is larger
        if size != self.size:
            return self._halved(before, filters, name)
        if channels == filters:
            return before
        y = self._conv(self.net(Activation("relu"), before), filters, f"adjust_conv_projection_{name}")
        return self.net(_norm(f"adjust_bn_{name}"), y)

    def _halved(self, x: str, filters: int, name: str) -> str:
        """Every second place, beside every second place from the next one on."""
        net = self.net
        x = net(Activation("relu", name=f"adjust_relu_1_{name}"), x)
        left = net(AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_1_{name}"), x)
        left = self._conv(left, filters // 2, f"adjust_conv_1_{name}")
        right = net.chain(
            x,
            ZeroPadding2D(((0, 1), (0, 1))),
            Cropping2D(((1, 0), (1, 0))),
            AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_2_{name}"),
        )
        right = self._conv(right, filters // 2, f"adjust_conv_2_{name}")
        return net.chain(net(Concatenate(), left, right), _norm(f"adjust_bn_{name}"))

    def normal(self, x: str, before: str | None, filters: int, name: str) -> str:
        net = self.net
        p = self._adjusted(before, x, filters, name)
        h = self._conv(net(Activation("relu"), x), filters, f"normal_conv_1_{name}")
        h = net(_norm(f"normal_bn_1_{name}"), h)

        def pool(y: str, place: str) -> str:
            return net(AveragePooling2D(3, strides=1, padding="same", name=f"normal_{place}_{name}"), y)

        def add(i: int, a: str, b: str) -> str:
            return net(Add(name=f"normal_add_{i}_{name}"), a, b)

        sums = [
            add(
                1,
                self._separable(h, filters, 5, f"normal_left1_{name}"),
                self._separable(p, filters, 3, f"normal_right1_{name}"),
            ),
            add(
                2,
                self._separable(p, filters, 5, f"normal_left2_{name}"),
                self._separable(p, filters, 3, f"normal_right2_{name}"),
            ),
            add(3, pool(h, "left3"), p),
            add(4, pool(p, "left4"), pool(p, "right4")),
            add(5, self._separable(h, filters, 3, f"normal_left5_{name}"), h),
        ]
        return self._remember(net(Concatenate(name=f"normal_concat_{name}"), p, *sums), 6 * filters)

    def reduce(self, x: str, before: str | None, filters: int, name: str) -> str:
        net = self.net
        p = self._adjusted(before, x, filters, name)
        h = self._conv(net(Activation("relu"), x), filters, f"reduction_conv_1_{name}")
        h = net(_norm(f"reduction_bn_1_{name}"), h)
        zeros = tuple((n % 2, 1) for n in self.size)
        padded = net(ZeroPadding2D(zeros, name=f"reduction_pad_1_{name}"), h)
        self.size = (-(-self.size[0] // 2), -(-self.size[1] // 2))

        def separable(y: str, size: int, place: str) -> str:
            return self._separable(y, filters, size, f"reduction_{place}_{name}", strides=2)

        def largest(place: str) -> str:
            return net(MaxPooling2D(3, strides=2, name=f"reduction_{place}_{name}"), padded)

        one = net(Add(name=f"reduction_add_1_{name}"), separable(h, 5, "left1"), separable(p, 7, "right1"))
        two = net(Add(name=f"reduction_add_2_{name}"), largest("left2"), separable(p, 7, "right2"))
        mean = net(AveragePooling2D(3, strides=2, name=f"reduction_left3_{name}"), padded)
        three = net(Add(name=f"reduction_add3_{name}"), mean, separable(p, 5, "right3"))
        smooth = AveragePooling2D(3, strides=1, padding="same", name=f"reduction_left4_{name}")
        four = net(Add(), two, net(smooth, one))
        last = self._separable(one, filters, 3, f"reduction_left4_{name}")
        five = net(Add(name=f"reduction_add4_{name}"), last, largest("right5"))
        together = net(Concatenate(name=f"reduction_concat_{name}"), two, three, four, five)
        return self._remember(together, 4 * filters)


_BASE = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-mobile"
_FILES = (
    WeightsFile(f"{_BASE}.h5", "020fb642bf7360b370c678b08e0adf61"),
    WeightsFile(f"{_BASE}-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63"),
)
NASNetMobile = application(
    "NASNetMobile",
    _nasnet,
    Published(224, "tf", 74.4, lambda arguments: _FILES[0 if arguments["include_top"] else 1]),
    blocks=4,
    stem_filters=32,
    last_filters=1056,
    size=224,
)
