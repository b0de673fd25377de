"""Pooling over windows, over a grid of a given size, and over everything."""

from .adaptive_pooling import *
from .global_pooling import *
from .pooling import *

__all__: list[str] = []
__all__ += adaptive_pooling.__all__
__all__ += global_pooling.__all__
__all__ += pooling.__all__
