"""Convolutions of one, two and three dimensions."""

from .convolution import *
from .depthwise import *
from .separable import *
from .transposed import *

__all__: list[str] = []
__all__ += convolution.__all__
__all__ += depthwise.__all__
__all__ += separable.__all__
__all__ += transposed.__all__
