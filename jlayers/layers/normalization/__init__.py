"""Normalization of activations and of weights."""

from .normalization import *
from .unit_norm import *
from .weight_norm import *

__all__: list[str] = []
__all__ += normalization.__all__
__all__ += unit_norm.__all__
__all__ += weight_norm.__all__
