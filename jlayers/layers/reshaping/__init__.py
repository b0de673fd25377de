"""Layers that reshape, crop, pad and repeat."""

from .cropping import *
from .padding import *
from .reshaping import *
from .upsampling import *

__all__: list[str] = []
__all__ += cropping.__all__
__all__ += padding.__all__
__all__ += reshaping.__all__
__all__ += upsampling.__all__
