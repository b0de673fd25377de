"""Encoders of text in the form of BERT, and MiniLM for sentences."""

from __future__ import annotations

from typing import Literal

from jlayers.applications._application import application
from jlayers.applications._net import Net
from jlayers.applications.published import Published
from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.layers import (
    Add,
    Arithmetic,
    DropMask,
    Dropout,
    Embedding,
    GetItem,
    GlobalAveragePooling1D,
    LayerNormalization,
    PositionEmbedding,
    TransformerEncoder,
    UnitNormalization,
)

__all__ = ["BERTBase", "MiniLM"]

TextPooling = Literal["avg", "cls"]


def _bert(
    depth: int,
    width: int,
    heads: int,
    vocabulary_size: int = 30522,
    sequence_length: int = 512,
    token_types: bool = False,
    pooling: TextPooling | None = None,
    normalize: bool = False,
    dropout: float = 0.1,
) -> Layer:
    """A Transformer's encoder of text (Devlin et al., 2019, https://arxiv.org/abs/1810.04805).

    Its tokens are numbered by `jl.WordPiece`. Number 0 fills texts up to one length: it is the mask, so that
    nothing attends to it and no mean counts it.

    Shapes: numbers of tokens `(batch, length)`, of any length up to `sequence_length`, to `(batch, length,
    features)`, or `(batch, features)` if pooled. With `token_types` a second input of the same shape says for
    each token of which text of a pair it is, 0 or 1.

    Args:
        vocabulary_size: number of tokens.
        sequence_length: number of positions that are learned.
        token_types: whether there is a second input; without it all tokens are of the first text.
        pooling: "avg" for the mean of the tokens, "cls" for the first one; None for all.
        normalize: whether the output has length 1, so that a product of two is their cosine.
        dropout: fraction of values dropped in training.
    """
    net = Net((None,), "int32", "tokens")
    words = net(Embedding(vocabulary_size, width, mask_zero=True, name="word_embeddings"), net.input)
    if token_types:
        kinds = net.add_input("types", (None,), "int32")
    else:
        kinds = net(Arithmetic("multiply", 0, name="first_text"), net.input)
    kinds = net(Embedding(2, width, name="token_type_embeddings"), kinds)
    places = net(PositionEmbedding(sequence_length, name="position_embeddings"), words)
    x = net.chain(
        net(Add(name="embeddings"), words, kinds, places),
        LayerNormalization(epsilon=1e-12, name="embeddings_norm"),
        *([Dropout(dropout, name="dropout")] if dropout else []),
    )
    for i in range(depth):
        block = TransformerEncoder(
            width,
            4 * width,
            heads,
            dropout=dropout,
            activation="gelu",
            layer_norm_epsilon=1e-12,
            name=f"encoder_{i}",
        )
        x = net(block, x)
    if pooling == "avg":
        x = net(GlobalAveragePooling1D(name="avg_pool"), x)
    elif pooling == "cls":
        x = net.chain(x, DropMask(name="drop_mask"), GetItem([":", 0], name="cls_pool"))
    elif pooling is not None:
        raise refused(ValueError, "expected 'avg', 'cls' or None", pooling=pooling)
    if normalize:
        x = net(UnitNormalization(name="unit"), x)
    return net.model(x, ["tokens", "types"] if token_types else "tokens")


_BASE = Published(128, "none")
BERTBase = application("BERTBase", _bert, _BASE, example="pooling='cls'", depth=12, width=768, heads=12)
MiniLM = application("MiniLM", _bert, _BASE, example="pooling='avg'", depth=6, width=384, heads=12)
