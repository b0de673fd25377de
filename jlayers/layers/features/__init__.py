"""Preprocessing of numeric features."""

from .categories import *
from .features import *

__all__: list[str] = []
__all__ += categories.__all__
__all__ += features.__all__
