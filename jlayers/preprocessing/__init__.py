"""Text and categories made into numbers on the host, before the model: plain NumPy, without TensorFlow."""

from jlayers.preprocessing.base import PreprocessorLike, get, register, registry
from jlayers.preprocessing.hashing import HashedCrossing, Hashing
from jlayers.preprocessing.lookup import IntegerLookup, StringLookup
from jlayers.preprocessing.vectorization import TextVectorization

__all__ = [
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "PreprocessorLike",
    "StringLookup",
    "TextVectorization",
    "get",
    "register",
    "registry",
]
