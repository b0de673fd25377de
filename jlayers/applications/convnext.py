"""ConvNeXt Tiny, Small and Base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Net, Pooling, check_classes, image_net, pooled
from jlayers.applications.imagenet import DEVIATION, MEAN, preprocessing
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.published import Published, pair_of_files
from jlayers.core.compose import Sequential
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Activation,
    Add,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    LayerNormalization,
    LayerScale,
    Normalization,
)

__all__ = ["ConvNeXtBase", "ConvNeXtSmall", "ConvNeXtTiny"]

preprocess_input = preprocessing("none")


def _convnext(
    prefix: str,
    depths: Sequence[int],
    widths: Sequence[int],
    include_top: bool = True,
    include_preprocessing: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """A convolutional network made like a Transformer (Liu et al., 2022, https://arxiv.org/abs/2201.03545).

    Shapes: images `(batch, height, width, 3)` of at least 32 by 32, pixels from 0 to 255; without
    `include_preprocessing` normalized by ImageNet's mean and deviation.
    """
    net = image_net(input_shape)
    x = net.input
    if include_preprocessing and net.channels == 3:
        mean, variance = [255 * m for m in MEAN], [(255 * d) ** 2 for d in DEVIATION]
        x = net(Normalization(mean=mean, variance=variance, name=f"{prefix}_prestem_normalization"), x)
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        x = net(_halved(prefix, i - 1, width) if i else _stem(prefix, width), x)
        for j in range(depth):
            x = _block(net, x, width, f"{prefix}_stage_{i}_block_{j}")
    if not include_top:
        x = pooled(net, x, pooling, named=False)
        return net.model(net(LayerNormalization(epsilon=1e-6), x))
    check_classes(classes)
    x = net.chain(
        x,
        GlobalAveragePooling2D(name=f"{prefix}_head_gap"),
        LayerNormalization(epsilon=1e-6, name=f"{prefix}_head_layernorm"),
        Dense(classes, activation=classifier_activation, name=f"{prefix}_head_dense"),
    )
    return net.model(x)


def _stem(prefix: str, width: int) -> Layer:
    conv = Conv2D(width, 4, strides=4, name=f"{prefix}_stem_conv")
    norm = LayerNormalization(epsilon=1e-6, name=f"{prefix}_stem_layernorm")
    return Sequential(conv, norm, name=f"{prefix}_stem")


def _halved(prefix: str, i: int, width: int) -> Layer:
    norm = LayerNormalization(epsilon=1e-6, name=f"{prefix}_downsampling_layernorm_{i}")
    conv = Conv2D(width, 2, strides=2, name=f"{prefix}_downsampling_conv_{i}")
    return Sequential(norm, conv, name=f"{prefix}_downsampling_block_{i}")


def _block(net: Net, x: str, width: int, name: str) -> str:
    """A depthwise convolution of 7 by 7 and a dense network at each place, scaled to begin small."""
    y = net.chain(
        x,
        Conv2D(width, 7, padding="same", groups=width, name=f"{name}_depthwise_conv"),
        LayerNormalization(epsilon=1e-6, name=f"{name}_layernorm"),
        Dense(4 * width, name=f"{name}_pointwise_conv_1"),
        Activation("gelu", name=f"{name}_gelu"),
        Dense(width, name=f"{name}_pointwise_conv_2"),
        LayerScale(1e-6, name=f"{name}_layer_scale"),
        Activation("linear", name=f"{name}_identity"),
    )
    return net(Add(), x, y)


def _member(
    size: str, depths: Sequence[int], widths: Sequence[int], top1: float, *hashes: str
) -> Callable[..., Layer]:
    """A member, with the SHA-256 of its official weights with and without the classifier."""
    prefix, base = f"convnext_{size.lower()}", "https://storage.googleapis.com/tensorflow/keras-applications/"
    facts = Published(224, "none", top1, pair_of_files(f"{base}convnext/", prefix, (hashes[0], hashes[1])))
    return application(f"ConvNeXt{size}", _convnext, facts, prefix=prefix, depths=depths, widths=widths)


ConvNeXtTiny = _member(
    "Tiny", (3, 3, 9, 3), (96, 192, 384, 768), 81.3,
    "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
)  # fmt: skip
ConvNeXtSmall = _member(
    "Small", (3, 3, 27, 3), (96, 192, 384, 768), 82.3,
    "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
)  # fmt: skip
ConvNeXtBase = _member(
    "Base", (3, 3, 27, 3), (128, 256, 512, 1024), 85.3,
    "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
)  # fmt: skip
