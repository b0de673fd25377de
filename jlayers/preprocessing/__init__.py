"""Text and categories made into numbers on the host, before the model: plain NumPy, without TensorFlow."""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.preprocessing.base import PreprocessorLike, get, register, registry
from jlayers.preprocessing.hashing import HashedCrossing, Hashing
from jlayers.preprocessing.lookup import IntegerLookup, StringLookup
from jlayers.preprocessing.vectorization import TextVectorization
from jlayers.preprocessing.wordpiece import WordPiece

__all__ = [
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "PreprocessorLike",
    "StringLookup",
    "TextVectorization",
    "WordPiece",
    "get",
    "register",
    "registry",
]


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.preprocessing", name, __all__)
