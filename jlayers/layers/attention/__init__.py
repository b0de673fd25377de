"""Attention, positions, caches, and the transformer blocks made of them."""

from .attention import *
from .attention_heads import *
from .cache import *
from .position import *
from .transformer import *

__all__: list[str] = []
__all__ += attention.__all__
__all__ += attention_heads.__all__
__all__ += cache.__all__
__all__ += position.__all__
__all__ += transformer.__all__
