"""Texts and whole numbers as their numbers in a vocabulary, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jlayers.core.adapt import batches, learns
from jlayers.core.errors import refused
from jlayers.preprocessing.base import as_integers, as_texts, register, registry
from jlayers.preprocessing.fingerprint import farmhash, siphash
from jlayers.preprocessing.hashing import Salt, salt_key
from jlayers.preprocessing.vocabulary import Lookup, learned

__all__ = ["IntegerLookup", "StringLookup", "unlearned"]

OutputMode = Literal["int", "one_hot", "multi_hot", "count", "tf_idf"]


@register
def StringLookup(
    max_tokens: int | None = None,
    num_oov_indices: int = 1,
    mask_token: str | None = None,
    oov_token: str = "[UNK]",
    vocabulary: Sequence[str] | str | os.PathLike[str] | None = None,
    idf_weights: Sequence[float] | None = None,
    invert: bool = False,
    output_mode: OutputMode = "int",
    pad_to_max_tokens: bool = False,
    encoding: str = "utf-8",
    salt: Salt = None,
):
    """Texts, each taken whole, as their numbers in a vocabulary. As in Keras, without sparse outputs.

    The vocabulary is given, or learned by `jl.adapt(lookup, texts)`: the most frequent first, and equally
    frequent ones in reverse sorted order. The first numbers stand for the mask token, if there is one, and
    for unknown texts; if there are several unknown numbers, a hash of the text chooses one. With other modes
    than "int" the mask token has no number and is left out. "tf_idf" is the count times the weight `log(1 +
    documents / (1 + documents with the token))`; a document is an entry along the first axis, and unknown
    tokens get the mean weight.

    Shapes: as the layers' `CategoryEncoding`; "int" is int32 where Keras has int64, vectors are float32.

    Args:
        max_tokens: size of the vocabulary at most, the mask and the unknown included.
        num_oov_indices: numbers for unknown texts; with 0 an unknown text is an error.
        mask_token: stands for a place without text.
        oov_token: what an unknown number becomes with `invert`.
        vocabulary: the texts in order, or the path of a file with one per line.
        idf_weights: with "tf_idf", one for each text of the vocabulary.
        invert: from numbers to texts.
        output_mode: the number, a vector for each text, or per sample which occur, how often, or weighed.
        pad_to_max_tokens: whether vectors have `max_tokens` places even if the vocabulary is smaller.
        encoding: encoding of texts that come as bytes.
        salt: a number, or two, that make another choice among several unknown numbers.

    Raises:
        ValueError: arguments that do not fit together; a vocabulary with a text twice, or with the mask
            token; no vocabulary, or an unknown text without a number for it, when called.
        TypeError: inputs that are not texts.

    >>> import jlayers as jl
    >>> lookup = jl.StringLookup(vocabulary=["red", "green"])
    >>> lookup([["green", "blue"]]).tolist()
    [[2, 0]]
    >>> jl.StringLookup(vocabulary=["red", "green"], invert=True)([2, 1, 0]).tolist()
    ['green', 'red', '[UNK]']
    """
    key = None if salt is None else salt_key("StringLookup", salt)

    def bucket(text: Any) -> int:
        data = text.encode()
        return (farmhash(data) if key is None else siphash(data, key)) % num_oov_indices

    return Lookup(
        "StringLookup",
        lambda value: as_texts("StringLookup", value, encoding),
        bucket,
        max_tokens,
        num_oov_indices,
        mask_token,
        oov_token,
        vocabulary,
        idf_weights,
        invert,
        output_mode,
        pad_to_max_tokens,
    )


@register
def IntegerLookup(
    max_tokens: int | None = None,
    num_oov_indices: int = 1,
    mask_token: int | None = None,
    oov_token: int = -1,
    vocabulary: Sequence[int] | None = None,
    idf_weights: Sequence[float] | None = None,
    invert: bool = False,
    output_mode: OutputMode = "int",
    pad_to_max_tokens: bool = False,
    oov_method: Literal["floormod", "farmhash"] = "floormod",
    salt: Salt = None,
):
    """Whole numbers, such as codes of products, as their numbers in a vocabulary; see `StringLookup`.

    Args:
        max_tokens: size of the vocabulary at most, the mask and the unknown included.
        num_oov_indices: numbers for unknown values; with 0 an unknown value is an error.
        mask_token: stands for a place without value.
        oov_token: what an unknown number becomes with `invert`; it is not learned.
        vocabulary: the values in order.
        idf_weights: with "tf_idf", one for each value of the vocabulary.
        invert: from numbers to values, int64.
        output_mode: the number, a vector for each value, or per sample which occur, how often, or weighed.
        pad_to_max_tokens: whether vectors have `max_tokens` places even if the vocabulary is smaller.
        oov_method: how one of several unknown numbers is chosen: by the remainder, or by a hash.
        salt: a number, or two, that make another choice with "farmhash".

    Raises:
        ValueError: as `StringLookup`; a salt with "floormod".
        TypeError: inputs that are not whole numbers.

    >>> import jlayers as jl
    >>> jl.IntegerLookup(vocabulary=[12, 1138, 42])([[12, 42], [7, 7]]).tolist()
    [[1, 3], [0, 0]]
    """
    if oov_method not in ("floormod", "farmhash") or (salt is not None and oov_method != "farmhash"):
        raise refused(
            ValueError,
            "expected oov_method 'floormod', or 'farmhash' with or without a salt",
            raised_by="IntegerLookup",
            oov_method=oov_method,
            salt=salt,
        )
    if vocabulary is not None:
        as_integers("IntegerLookup: vocabulary", vocabulary)
    key = None if salt is None else salt_key("IntegerLookup", salt)

    def bucket(value: Any) -> int:
        data = str(value).encode()
        if oov_method == "floormod":
            return value % num_oov_indices
        return (farmhash(data) if key is None else siphash(data, key)) % num_oov_indices

    return Lookup(
        "IntegerLookup",
        lambda value: as_integers("IntegerLookup", value),
        bucket,
        max_tokens,
        num_oov_indices,
        mask_token,
        oov_token,
        vocabulary,
        idf_weights,
        invert,
        output_mode,
        pad_to_max_tokens,
    )


def _learn(name: str) -> None:
    @learns("preprocessor", name, "vocabulary")
    def learn(arguments: dict[str, Any], data: Any) -> dict[str, Any]:
        lookup = unlearned(name, arguments)
        rows = (row for batch in batches(data) for row in np.atleast_1d(lookup.parse(batch)))
        return learned(lookup, (np.ravel(row).tolist() for row in rows))


def unlearned(name: str, arguments: dict[str, Any]) -> Any:
    """The same without what it learned before."""
    return registry.build(name, {**arguments, "vocabulary": None, "idf_weights": None}).function


_learn("StringLookup")
_learn("IntegerLookup")
