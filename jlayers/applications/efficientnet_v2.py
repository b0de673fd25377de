"""EfficientNetV2 B0 to B3, S, M and L."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from jlayers.applications._application import application
from jlayers.applications._mbconv import CLASSIFIER, KERNEL, Bottleneck, conv_bn
from jlayers.applications._net import ImageShape, Pooling, image_net, pooled_or_classified
from jlayers.applications.imagenet import DEVIATION, MEAN, preprocessing
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import Conv2D, Dropout, Normalization, Rescaling

__all__ = [
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
]

preprocess_input = preprocessing("none")

# Of each stage: repeats, channels in and out, expansion, stride, whether it is fused. Those that are not
# fused weigh their channels.
_Stage = tuple[int, int, int, int, int, bool]
_B: Sequence[_Stage] = (
    (1, 32, 16, 1, 1, True),
    (2, 16, 32, 4, 2, True),
    (2, 32, 48, 4, 2, True),
    (3, 48, 96, 4, 2, False),
    (5, 96, 112, 6, 1, False),
    (8, 112, 192, 6, 2, False),
)
_S: Sequence[_Stage] = (
    (2, 24, 24, 1, 1, True),
    (4, 24, 48, 4, 2, True),
    (4, 48, 64, 4, 2, True),
    (6, 64, 128, 4, 2, False),
    (9, 128, 160, 6, 1, False),
    (15, 160, 256, 6, 2, False),
)
_M: Sequence[_Stage] = (
    (3, 24, 24, 1, 1, True),
    (5, 24, 48, 4, 2, True),
    (5, 48, 80, 4, 2, True),
    (7, 80, 160, 4, 2, False),
    (14, 160, 176, 6, 1, False),
    (18, 176, 304, 6, 2, False),
    (5, 304, 512, 6, 1, False),
)
_L: Sequence[_Stage] = (
    (4, 32, 32, 1, 1, True),
    (7, 32, 64, 4, 2, True),
    (7, 64, 96, 4, 2, True),
    (10, 96, 192, 4, 2, False),
    (19, 192, 224, 6, 1, False),
    (25, 224, 384, 6, 2, False),
    (7, 384, 640, 6, 1, False),
)


def _efficientnet_v2(
    stages: Sequence[_Stage],
    width: float,
    depth: float,
    normalize: bool,
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
    include_preprocessing: bool = True,
) -> Layer:
    """Fused bottlenecks in the early stages (Tan and Le, 2021, https://arxiv.org/abs/2104.00298).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, pixels from 0 to 255. Without
    `include_preprocessing` they are expected as the network would scale them: B0 to B3 by ImageNet's mean and
    deviation, S, M and L from -1 to 1.
    """
    net = image_net(input_shape)
    x = net.input
    if include_preprocessing and normalize and net.channels == 3:
        statistics = Normalization(mean=list(MEAN), variance=[d**2 for d in DEVIATION])
        x = net.chain(x, Rescaling(1 / 255), statistics)
    elif include_preprocessing:
        x = net(Rescaling(1 / 128, -1.0), x)

    def round_filters(filters: int) -> int:
        return max(8, int(filters * width + 4) // 8 * 8)

    channels = round_filters(stages[0][1])
    stem = Conv2D(
        channels, 3, strides=2, padding="same", use_bias=False, kernel_initializer=KERNEL, name="stem_conv"
    )
    x = conv_bn(net, x, stem, "stem_bn", "swish", "stem_", momentum=0.9)
    # Keras counts the blocks before they are repeated more often, so that the last rates are above 0.2.
    block, blocks = 0, sum(repeats for repeats, *_ in stages)
    for i, (repeats, _, out, expand, strides, fused) in enumerate(stages):
        for j in range(math.ceil(depth * repeats)):
            bottleneck = Bottleneck(
                channels,
                round_filters(out),
                3,
                1 if j else strides,
                expand,
                se_ratio=0.0 if fused else 0.25,
                drop=0.2 * block / blocks,
                fused=fused,
                momentum=0.9,
                depthwise_name="dwconv2",
            )
            x = bottleneck(net, x, f"block{i + 1}{chr(97 + j)}_")
            channels, block = round_filters(out), block + 1
    last = Conv2D(
        round_filters(1280), 1, padding="same", use_bias=False, kernel_initializer=KERNEL, name="top_conv"
    )
    x = conv_bn(net, x, last, "top_bn", "swish", "top_", momentum=0.9)
    drop = Dropout(0.2, name="top_dropout")
    return pooled_or_classified(
        net, x, include_top, pooling, classes, classifier_activation, drop, kernel_initializer=CLASSIFIER
    )


def _member(
    name: str, stages: Sequence[_Stage], width: float, depth: float, size: int, top1: float, *hashes: str
) -> Callable[..., Layer]:
    """A member, with the MD5 of its official weights with and without the classifier."""
    base = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
    files = pair_of_files(base, f"efficientnetv2-{name.lower()}", (hashes[0], hashes[1]))
    return application(
        f"EfficientNetV2{name}",
        _efficientnet_v2,
        Published(size, "none", top1, files),
        stages=stages,
        width=width,
        depth=depth,
        normalize=stages is _B,
    )


EfficientNetV2B0 = _member(
    "B0", _B, 1.0, 1.0, 224, 78.7, "21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"
)
EfficientNetV2B1 = _member(
    "B1", _B, 1.0, 1.1, 240, 79.8, "069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"
)
EfficientNetV2B2 = _member(
    "B2", _B, 1.1, 1.2, 260, 80.5, "424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"
)
EfficientNetV2B3 = _member(
    "B3", _B, 1.2, 1.4, 300, 82.0, "1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"
)
EfficientNetV2S = _member(
    "S", _S, 1.0, 1.0, 384, 83.9, "e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"
)
EfficientNetV2M = _member(
    "M", _M, 1.0, 1.0, 480, 85.3, "a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"
)
EfficientNetV2L = _member(
    "L", _L, 1.0, 1.0, 480, 85.7, "27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"
)
