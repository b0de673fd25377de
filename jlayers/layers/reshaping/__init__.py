"""Layers that reshape, crop, pad and repeat."""

from .reshaping import *
from .resizing import *

__all__: list[str] = []
__all__ += reshaping.__all__
__all__ += resizing.__all__
