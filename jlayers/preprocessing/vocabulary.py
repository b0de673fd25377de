"""A vocabulary: the numbers of tokens, the tokens of numbers, and how it is learned."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.preprocessing.base import as_integers, check_mode, encoded, summed

__all__ = ["Lookup", "learned"]

_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A vocabulary and how it is read; `tokens` are those without the mask and the unknown."""

    name: str
    parse: Callable[[Any], np.ndarray]
    bucket: Callable[[Any], int]
    max_tokens: int | None
    num_oov_indices: int
    mask_token: Any
    oov_token: Any
    vocabulary: Any
    idf_weights: Any
    invert: bool
    output_mode: str
    pad_to_max_tokens: bool
    tokens: list[Any] = dataclasses.field(init=False)
    index: dict[Any, int] = dataclasses.field(init=False)
    weights: np.ndarray | None = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        _check(self)
        given = [] if self.vocabulary is None else np.asarray(self.vocabulary, dtype=object).tolist()
        special = given[: self.start] == self.special
        tokens = given[self.start :] if special else given
        _check_tokens(self, tokens)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "index", {token: i for i, token in enumerate(tokens, self.start)})
        object.__setattr__(self, "weights", _weights(self, len(given), special))

    @property
    def special(self) -> list[Any]:
        """The mask, where it has a number, and the unknown, as often as they have numbers."""
        masks = self.mask_token is not None and self.output_mode == "int"
        return [self.mask_token] * masks + [self.oov_token] * self.num_oov_indices

    @property
    def start(self) -> int:
        """The number of the first token."""
        return len(self.special)

    @property
    def depth(self) -> int:
        """The size of vectors."""
        return self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The tokens by their numbers, with the mask and the unknown unless told otherwise."""
        return [*(self.special if include_special_tokens else []), *self.tokens]

    def vocabulary_size(self) -> int:
        """The number of token numbers, which an `Embedding` needs as its `input_dim`."""
        return self.start + len(self.tokens)

    def __call__(self, inputs: Any) -> np.ndarray:
        self.need_vocabulary()
        if self.invert:
            return self.inverted(as_integers(self.name, inputs))
        values = self.parse(inputs)
        ids = np.fromiter(self.numbers(values.ravel().tolist()), np.int64, values.size).reshape(values.shape)
        if self.output_mode != "tf_idf":
            return encoded(self.name, ids, self.output_mode, self.depth)
        return encoded(self.name, ids, "count", self.depth) * self.weights

    def of_rows(self, rows: list[list[Any]]) -> np.ndarray:
        """Vectors of samples of different lengths, in other modes than "int"."""
        counts = np.array([len(row) for row in rows], np.int64)
        ids = np.fromiter(self.numbers(token for row in rows for token in row), np.int64, counts.sum())
        mode = "multi_hot" if self.output_mode == "multi_hot" else "count"
        vectors = summed(np.repeat(np.arange(len(rows)), counts), ids, len(rows), self.depth, mode)
        return vectors * self.weights if self.output_mode == "tf_idf" else vectors

    def numbers(self, tokens: Iterable[Any]) -> Iterator[int]:
        """The numbers of tokens; -1 for what is left out."""
        mask = 0 if self.output_mode == "int" else -1
        for token in tokens:
            known = self.index.get(token)
            if self.mask_token is not None and token == self.mask_token:
                yield mask
            elif known is not None:
                yield known
            elif self.num_oov_indices == 0:
                raise ValueError(
                    f"{self.name}: {token!r} is not in the vocabulary, and num_oov_indices=0 leaves no "
                    f"number for it: expected known values, or num_oov_indices=1"
                )
            else:
                first = self.start - self.num_oov_indices
                yield first + (self.bucket(token) if self.num_oov_indices > 1 else 0)

    def inverted(self, ids: np.ndarray) -> np.ndarray:
        known = self.get_vocabulary()
        table = np.array([*known, self.oov_token])
        return table[np.where((ids >= 0) & (ids < len(known)), ids, len(known))]

    def need_vocabulary(self) -> None:
        if self.vocabulary is None:
            raise ValueError(
                f"{self.name}: expected a vocabulary, received vocabulary=None: learn it from the training "
                f"data with jl.adapt, or pass vocabulary"
            )


def _check(lookup: Lookup) -> None:
    name, most = lookup.name, lookup.max_tokens
    check_mode(name, lookup.output_mode, _MODES)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most <= 1):
        raise refused(ValueError, "expected max_tokens of at least 2", raised_by=name, max_tokens=most)
    if lookup.num_oov_indices < 0:
        count = lookup.num_oov_indices
        raise refused(
            ValueError, "expected num_oov_indices of at least 0", raised_by=name, num_oov_indices=count
        )
    if most is not None and most <= lookup.start:
        numbers = f"{lookup.start}, the numbers of the mask and the unknown"
        raise refused(ValueError, f"expected max_tokens above {numbers}", raised_by=name, max_tokens=most)
    if lookup.pad_to_max_tokens and most is None:
        raise refused(
            ValueError, "expected max_tokens with pad_to_max_tokens", raised_by=name, max_tokens=None
        )
    if lookup.invert and lookup.output_mode != "int":
        raise refused(
            ValueError,
            "expected output_mode='int' with invert",
            raised_by=name,
            output_mode=lookup.output_mode,
        )
    weighed = lookup.output_mode == "tf_idf" and lookup.vocabulary is not None
    if (lookup.idf_weights is not None) != weighed:
        raise refused(
            ValueError,
            "expected idf_weights beside a vocabulary with output_mode='tf_idf', and else none",
            raised_by=name,
            output_mode=lookup.output_mode,
            idf_weights=None if weighed else "some",
        )


def _check_tokens(lookup: Lookup, tokens: list[Any]) -> None:
    name = lookup.name
    if lookup.vocabulary is None:
        return
    if not tokens:
        raise ValueError(f"{name}: expected a vocabulary of at least one token, received none")
    if twice := [token for token, count in collections.Counter(tokens).items() if count > 1]:
        raise ValueError(
            f"{name}: expected each token once in the vocabulary, received {twice[:3]} several times"
        )
    reserved = [lookup.mask_token] + [lookup.oov_token] * lookup.invert
    if wrong := [token for token in reserved if token is not None and token in tokens]:
        raise ValueError(
            f"{name}: {wrong[0]!r} is reserved, and stands inside the vocabulary: expected {lookup.special} "
            f"at its start, or only tokens"
        )
    if lookup.max_tokens is not None and lookup.start + len(tokens) > lookup.max_tokens:
        raise ValueError(
            f"{name}: expected at most max_tokens={lookup.max_tokens} tokens, {lookup.start} for the mask "
            f"and the unknown, received {lookup.start + len(tokens)}"
        )


def _weights(lookup: Lookup, given: int, special: bool) -> np.ndarray | None:
    """The weight of each number: unknown ones weigh the mean, unused ones nothing."""
    if lookup.idf_weights is None:
        return None
    weights = np.asarray(lookup.idf_weights, np.float32)
    if weights.shape != (given,) or not np.isfinite(weights).all():
        raise ValueError(
            f"{lookup.name}: expected one finite idf weight for each of the {given} tokens of the "
            f"vocabulary, received the shape {weights.shape}"
        )
    if not special:
        weights = np.concatenate([np.full(lookup.start, weights.mean(), np.float32), weights])
    return np.pad(weights, (0, max(0, (lookup.max_tokens or 0) - len(weights)) * lookup.pad_to_max_tokens))


# ------------------------------------------------------------------------------------------- learning


def learned(lookup: Lookup, documents: Iterable[Iterable[Any]]) -> dict[str, Any]:
    """The vocabulary of documents that are split into tokens; with "tf_idf" its weights, too."""
    counts: collections.Counter[Any] = collections.Counter()
    found: collections.Counter[Any] = collections.Counter()
    total = 0
    for document in documents:
        tokens = list(document)
        counts.update(tokens)
        found.update(set(tokens))
        total += 1
    for token in {lookup.mask_token, lookup.oov_token} - {None}:
        counts.pop(token, None)
    if not counts:
        raise ValueError(
            f"{lookup.name}: expected tokens to learn from, received {total} samples without any"
        )
    order = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
    most = None if lookup.max_tokens is None else lookup.max_tokens - lookup.start
    vocabulary = order[:most]
    if lookup.output_mode != "tf_idf":
        return {"vocabulary": vocabulary}
    weights = [float(np.log(1 + total / (1 + found[token]))) for token in vocabulary]
    return {"vocabulary": vocabulary, "idf_weights": weights}
