"""Normalization of activations and of weights."""

from .batch_normalization import *
from .group_normalization import *
from .layer_normalization import *
from .spectral_norm import *
from .unit_norm import *
from .weight_norm import *

__all__: list[str] = []
__all__ += batch_normalization.__all__
__all__ += group_normalization.__all__
__all__ += layer_normalization.__all__
__all__ += spectral_norm.__all__
__all__ += unit_norm.__all__
__all__ += weight_norm.__all__
