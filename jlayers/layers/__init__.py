"""The layers by family. Every name is a constructor that a configuration can use."""

from typing import TYPE_CHECKING

from jlayers.core.compose import Pipeline as Pipeline  # as in Keras, like Input
from jlayers.core.elsewhere import missing_name
from jlayers.core.graph import Input as Input

from .attention import *
from .audio import *
from .convolution import *
from .core import *
from .features import *
from .image import *
from .merging import *
from .normalization import *
from .pooling import *
from .recurrent import *
from .regularization import *
from .reshaping import *
from .vision import *

__all__: list[str] = []
__all__ += attention.__all__
__all__ += audio.__all__
__all__ += convolution.__all__
__all__ += core.__all__
__all__ += features.__all__
__all__ += image.__all__
__all__ += merging.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += regularization.__all__
__all__ += reshaping.__all__
__all__ += vision.__all__


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.layers", name, __all__)
