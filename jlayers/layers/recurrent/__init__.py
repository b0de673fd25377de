"""Recurrent layers, their cells, and wrappers for sequences."""

from .cells import *
from .conv_recurrent import *
from .linear_recurrence import *
from .recurrent import *
from .rnn import *
from .sequence_wrappers import *

__all__: list[str] = []
__all__ += cells.__all__
__all__ += conv_recurrent.__all__
__all__ += linear_recurrence.__all__
__all__ += recurrent.__all__
__all__ += rnn.__all__
__all__ += sequence_wrappers.__all__
