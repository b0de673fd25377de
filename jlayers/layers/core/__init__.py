"""Core layers: dense, embedding, activations, masking, and what Keras files under core."""

from .activation import *
from .arithmetic import *
from .dense import *
from .einsum import *
from .embedding import *
from .experts import *
from .function import *
from .gated import *
from .masking import *
from .reversible import *
from .ternary import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += arithmetic.__all__
__all__ += dense.__all__
__all__ += einsum.__all__
__all__ += embedding.__all__
__all__ += experts.__all__
__all__ += function.__all__
__all__ += gated.__all__
__all__ += masking.__all__
__all__ += reversible.__all__
__all__ += ternary.__all__
