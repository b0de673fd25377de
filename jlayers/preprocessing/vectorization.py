"""Texts as sequences of token numbers, or as vectors that say which tokens occur."""

from __future__ import annotations

import dataclasses
import os
import string
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from jlayers.core.adapt import batches, learns
from jlayers.core.errors import refused
from jlayers.preprocessing.base import as_texts, check_mode, register
from jlayers.preprocessing.lookup import StringLookup, unlearned
from jlayers.preprocessing.vocabulary import Lookup, learned

__all__ = ["TextVectorization", "Vectorizer"]

_MOST_NGRAMS = 100  # a text of n tokens has up to 100 n runs
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STANDARDIZE: dict[Any, Callable[[str], str]] = {
    None: lambda text: text,
    "lower": str.lower,
    "strip_punctuation": lambda text: text.translate(_NO_PUNCTUATION),
    "lower_and_strip_punctuation": lambda text: text.lower().translate(_NO_PUNCTUATION),
}
_SPLIT: dict[Any, Callable[[str], list[str]]] = {
    None: lambda text: [text],
    "whitespace": str.split,
    "character": list,
}


@register
def TextVectorization(
    max_tokens: int | None = None,
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"]
    | Callable[[str], str]
    | None = "lower_and_strip_punctuation",
    split: Literal["whitespace", "character"] | Callable[[str], list[str]] | None = "whitespace",
    ngrams: int | tuple[int, ...] | None = None,
    output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "int",
    output_sequence_length: int | None = None,
    pad_to_max_tokens: bool = False,
    vocabulary: Sequence[str] | str | os.PathLike[str] | None = None,
    idf_weights: Sequence[float] | None = None,
    encoding: str = "utf-8",
):
    """Texts as the numbers of their tokens. As in Keras, without sparse and ragged outputs.

    Each text is standardized, split into tokens and looked up: see `StringLookup` for the vocabulary, how
    `jl.adapt(vectorization, texts)` learns it, and for "tf_idf". With "int", 0 is padding and 1 the unknown
    token, and the output is int32 `(batch, length)`; else 0 is the unknown token, and the output is float32
    `(batch, tokens)`.
    Case and white space follow Unicode; in Keras they follow ASCII.

    Args:
        max_tokens: size of the vocabulary at most, padding and the unknown token included.
        standardize: to lower case, without ASCII punctuation, both, or a function of one text.
        split: at white space, into characters, or a function from one text to its tokens; None takes each
            text whole, and the last axis of `(batch, n)` as tokens.
        ngrams: join runs of up to so many tokens, or of exactly these lengths, by a space; at most 100.
        output_mode: token numbers in order, or per text which tokens occur, how often, or weighed.
        output_sequence_length: cut or fill up to so many numbers; if not given, up to the longest text of
            each call.
        pad_to_max_tokens: whether vectors have `max_tokens` places even if the vocabulary is smaller.
        vocabulary: the tokens in order, or the path of a file with one per line.
        idf_weights: with "tf_idf", one for each token of the vocabulary.
        encoding: encoding of texts that come as bytes.

    Raises:
        ValueError: arguments that do not fit together; no vocabulary when called.
        TypeError: inputs that are not texts.

    >>> import jlayers as jl
    >>> vectorize = jl.adapt(jl.TextVectorization(output_sequence_length=4), ["The cat.", "the dog, the cat"])
    >>> vectorize.get_vocabulary()
    ['', '[UNK]', 'the', 'cat', 'dog']
    >>> vectorize(["A cat and the DOG!"]).tolist()
    [[1, 3, 1, 2]]
    """
    name = "TextVectorization"
    check_mode(name, output_mode, ("int", "multi_hot", "count", "tf_idf"))
    standardizer = standardize if callable(standardize) else _option("standardize", standardize, _STANDARDIZE)
    splitter = split if callable(split) else _option("split", split, _SPLIT)
    length = output_sequence_length
    if length is not None and (output_mode != "int" or not _is_size(length)):
        raise refused(
            ValueError,
            "expected output_sequence_length of at least 1, only with output_mode='int'",
            raised_by=name,
            output_sequence_length=length,
            output_mode=output_mode,
        )
    lookup = StringLookup(
        max_tokens,
        mask_token="",
        vocabulary=vocabulary,
        idf_weights=idf_weights,
        output_mode=output_mode,
        pad_to_max_tokens=pad_to_max_tokens,
    ).function
    lookup = dataclasses.replace(lookup, name=name)
    return Vectorizer(lookup, standardizer, splitter, split is not None, _widths(ngrams), length, encoding)


def _option(argument: str, value: Any, valid: dict[Any, Any]) -> Any:
    if value not in valid:
        names = ", ".join(map(repr, valid))
        raise refused(
            ValueError,
            f"expected {argument} out of {names} or a function",
            raised_by="TextVectorization",
            **{argument: value},
        )
    return valid[value]


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _widths(ngrams: Any) -> tuple[int, ...]:
    most = ngrams if _is_size(ngrams) else 1 if ngrams is None else None
    if isinstance(ngrams, (list, tuple)):
        most = max((width for width in ngrams if _is_size(width)), default=0)
    if most is not None and most > _MOST_NGRAMS:
        raise refused(
            ValueError,
            f"expected ngrams of at most {_MOST_NGRAMS} tokens",
            raised_by="TextVectorization",
            ngrams=ngrams,
        )
    widths = ngrams if isinstance(ngrams, (list, tuple)) else range(1, (most or 0) + 1)
    if not widths or not all(map(_is_size, widths)):
        raise refused(
            ValueError,
            "expected ngrams as a number of tokens or several",
            raised_by="TextVectorization",
            ngrams=ngrams,
        )
    return tuple(widths)


@dataclasses.dataclass(frozen=True)
class Vectorizer:
    """From texts to tokens to numbers."""

    lookup: Lookup
    standardize: Callable[[str], str]
    split: Callable[[str], list[str]]
    splits: bool
    widths: tuple[int, ...]
    length: int | None
    encoding: str

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The tokens by their numbers, with what fills up and the unknown unless told otherwise."""
        return self.lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """The number of token numbers, which an `Embedding` needs as its `input_dim`."""
        return self.lookup.vocabulary_size()

    def tokens(self, inputs: Any) -> list[list[str]]:
        """The tokens of each text."""
        texts = as_texts("TextVectorization", inputs, self.encoding)
        if texts.ndim == 1:
            texts = texts[:, None]
        if texts.ndim != 2 or (self.splits and texts.shape[1] != 1):
            raise ValueError(
                f"TextVectorization: expected texts (batch,) or (batch, 1), or with split=None "
                f"(batch, tokens), received the shape {texts.shape}"
            )
        rows = (
            [part for text in row for part in self.split(self.standardize(text))] for row in texts.tolist()
        )
        return [[" ".join(run) for width in self.widths for run in _runs(row, width)] for row in rows]

    def __call__(self, inputs: Any) -> np.ndarray:
        self.lookup.need_vocabulary()
        rows = self.tokens(inputs)
        if self.lookup.output_mode != "int":
            return self.lookup.of_rows(rows)
        length = max(map(len, rows), default=0) if self.length is None else self.length
        ids = np.zeros((len(rows), length), np.int32)
        for row, tokens in zip(ids, rows, strict=True):
            numbers = list(self.lookup.numbers(tokens[:length]))
            row[: len(numbers)] = numbers
        return ids


def _runs(tokens: list[str], width: int) -> list[list[str]]:
    return [tokens[i : i + width] for i in range(len(tokens) - width + 1)]


@learns("preprocessor", "TextVectorization", "vocabulary")
def _learn(arguments: dict[str, Any], data: Any) -> dict[str, Any]:
    vectorizer: Vectorizer = unlearned("TextVectorization", arguments)
    rows = (row for batch in batches(data) for row in vectorizer.tokens(batch))
    return learned(vectorizer.lookup, rows)
