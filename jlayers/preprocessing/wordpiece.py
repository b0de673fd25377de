"""Texts as the numbers of pieces of words, as BERT and its like read them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.preprocessing.base import as_texts, register

__all__ = ["WordPiece"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@register
def WordPiece(
    vocabulary: Sequence[str] | str | os.PathLike[str],
    lowercase: bool = True,
    output_sequence_length: int | None = None,
    encoding: str = "utf-8",
):
    """Texts as the numbers of pieces of words (Devlin et al., 2019), by the library `tokenizers`.

    A text becomes `[CLS] pieces [SEP]`; words that the vocabulary lacks are cut into the longest pieces that
    it has, those inside a word written `##piece`. The output is int32 `(batch, length)`, filled up with the
    number of `[PAD]`. A text that is too long is cut before its `[SEP]`.

    Args:
        vocabulary: the pieces in order, or the path of a file with one per line (`vocab.txt`). It has
            `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]`.
        lowercase: to lower case and without accents first, as uncased models expect.
        output_sequence_length: cut or fill up to so many numbers; if not given, up to the longest text of
            each call.
        encoding: encoding of texts that come as bytes.

    Raises:
        ValueError: a vocabulary without the four special pieces, or with one twice; a length below 2.
        TypeError: inputs that are not texts.
        ImportError: `tokenizers` is not installed.

    >>> import jlayers as jl
    >>> pieces = jl.WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s"])
    >>> pieces(["The cats", "the dog"]).tolist()
    [[2, 4, 5, 6, 3], [2, 4, 1, 3, 0]]
    """
    assert not isinstance(vocabulary, (str, os.PathLike))  # a file was read when the arguments were bound
    pieces = list(vocabulary)
    if lacking := [piece for piece in _SPECIAL if piece not in pieces]:
        raise ValueError(
            f"WordPiece: expected a vocabulary with {', '.join(_SPECIAL)}, received one of {len(pieces)} "
            f"pieces without {lacking[0]}"
        )
    if len(set(pieces)) < len(pieces):
        twice = next(piece for piece in pieces if pieces.count(piece) > 1)
        raise ValueError(f"WordPiece: expected each piece once, received {twice!r} twice")
    if output_sequence_length is not None and output_sequence_length < 2:
        raise refused(
            ValueError,
            "expected room for [CLS] and [SEP]",
            raised_by="WordPiece",
            output_sequence_length=output_sequence_length,
        )
    return Tokenizer(pieces, lowercase, output_sequence_length, encoding)


@dataclasses.dataclass
class Tokenizer:
    """The function that `WordPiece` returns; it loads the tokenizers library at its first call."""

    pieces: list[str]
    lowercase: bool
    length: int | None
    encoding: str
    _made: Any = None

    def __call__(self, texts: Any) -> np.ndarray:
        flat = as_texts("WordPiece", texts, self.encoding)
        if flat.ndim == 2 and flat.shape[1] == 1:
            flat = flat[:, 0]
        if flat.ndim != 1:
            raise ValueError(
                f"WordPiece: expected one text for each sample, received texts of the shape {flat.shape}"
            )
        numbers = [encoded.ids for encoded in self._tokenizer().encode_batch(flat.tolist())]
        length = self.length or max(map(len, numbers), default=0)
        filled = np.full((len(numbers), length), self.pieces.index("[PAD]"), np.int32)
        for row, ids in zip(filled, numbers, strict=True):
            row[: len(ids)] = ids
        return filled

    def get_vocabulary(self) -> list[str]:
        return list(self.pieces)

    def _tokenizer(self) -> Any:
        if self._made is None:
            try:
                import tokenizers
            except ImportError:
                raise ImportError(
                    "WordPiece needs tokenizers: pip install 'jlayers[text]', or pip install tokenizers"
                ) from None
            numbers = {piece: i for i, piece in enumerate(self.pieces)}
            made = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))
            made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=self.lowercase)
            made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
            ends = [(piece, numbers[piece]) for piece in ("[SEP]", "[CLS]")]
            made.post_processor = tokenizers.processors.BertProcessing(*ends)
            if self.length is not None:
                made.enable_truncation(self.length)
            self._made = made
        return self._made
