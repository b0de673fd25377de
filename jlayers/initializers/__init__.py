"""First values of parameters: functions `f(key, shape, dtype) -> array` by Keras's names and defaults.

Keys are given at the call, so there is no `seed`. Draws are made in float32 or wider and then rounded, so
that half precision keeps the distribution.
"""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.initializers import distributions, fills, fourier, orthonormal, scaling
from jlayers.initializers.base import Initializer as Initializer
from jlayers.initializers.base import register, registry
from jlayers.initializers.distributions import *
from jlayers.initializers.fills import *
from jlayers.initializers.fourier import *
from jlayers.initializers.orthonormal import *
from jlayers.initializers.scaling import *

get = registry.get

__all__ = ["get", "register"]
__all__ += distributions.__all__
__all__ += fills.__all__
__all__ += fourier.__all__
__all__ += orthonormal.__all__
__all__ += scaling.__all__


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.initializers", name, __all__, registry)
