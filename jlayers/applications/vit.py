"""ViT-B/16."""

from __future__ import annotations

from jlayers.applications._application import application
from jlayers.applications._net import ImageShape, Pooling, check_classes, image_net
from jlayers.applications.imagenet import decode_predictions as decode_predictions
from jlayers.applications.imagenet import preprocessing
from jlayers.applications.published import Published
from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.registry import ActivationLike
from jlayers.layers import (
    Add,
    ClassToken,
    Dense,
    GetItem,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LayerNormalization,
    PatchEmbedding,
    PositionEmbedding,
    TransformerEncoder,
)

__all__ = ["ViTB16"]

preprocess_input = preprocessing("torch")


def _vit(
    patch: int,
    depth: int,
    width: int,
    heads: int,
    include_top: bool = True,
    input_shape: ImageShape | None = None,
    pooling: Pooling | None = None,
    classes: int = 1000,
    classifier_activation: ActivationLike | None = "softmax",
) -> Layer:
    """A Transformer on patches of an image (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929).

    Keras lacks it. Without the classifier the output is the sequence of the class token and the patches. With
    "avg" or "max" it is pooled over all of them.

    Shapes: images `(batch, height, width, 3)` of whole patches, prepared by `preprocess_input`; of 224 by 224
    unless `input_shape` says another size, for which the positions are learned.
    """
    net = image_net(input_shape, default=224)
    height, width_, _ = input_shape or (224, 224, 3)
    assert height is not None  # image_net has looked at it
    assert width_ is not None
    if height % patch or width_ % patch:
        raise refused(
            ValueError, f"expected height and width to be multiples of {patch}", input_shape=input_shape
        )
    length = 1 + (height // patch) * (width_ // patch)
    x = net.chain(
        net.input,
        PatchEmbedding(patch, width, name="patch_embedding"),
        ClassToken(name="class_token"),
    )
    x = net(Add(name="embeddings"), x, net(PositionEmbedding(length, name="position_embedding"), x))
    for i in range(depth):
        block = TransformerEncoder(
            width,
            4 * width,
            heads,
            activation="gelu",
            layer_norm_epsilon=1e-6,
            normalize_first=True,
            name=f"encoder_{i}",
        )
        x = net(block, x)
    x = net(LayerNormalization(epsilon=1e-6, name="norm"), x)
    if include_top:
        check_classes(classes)
        top = Dense(classes, activation=classifier_activation, name="predictions")
        return net.model(net.chain(x, GetItem([":", 0], name="class_output"), top))
    if pooling is None:
        return net.model(x)
    if pooling not in ("avg", "max"):
        raise refused(ValueError, "expected 'avg', 'max' or None", pooling=pooling)
    pool = GlobalAveragePooling1D if pooling == "avg" else GlobalMaxPooling1D
    return net.model(net(pool(name=f"{pooling}_pool"), x))


ViTB16 = application("ViTB16", _vit, Published(224, "torch", 81.1), patch=16, depth=12, width=768, heads=12)
