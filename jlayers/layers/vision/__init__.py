"""Parts of vision models."""

from .patches import *
from .residual_branches import *
from .squeeze_excite import *
from .tokens import *

__all__: list[str] = []
__all__ += patches.__all__
__all__ += residual_branches.__all__
__all__ += squeeze_excite.__all__
__all__ += tokens.__all__
