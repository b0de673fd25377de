"""Layers that regularize: dropout, noise and a penalty on activations."""

from .activity import *
from .dropout import *
from .noise import *

__all__: list[str] = []
__all__ += activity.__all__
__all__ += dropout.__all__
__all__ += noise.__all__
