"""Image preprocessing and augmentation."""

from .affine import *
from .aug_mix import *
from .augmentation import *
from .color import *
from .distortion import *
from .geometry import *
from .mixing import *
from .rand_augment import *
from .tone import *

__all__: list[str] = []
__all__ += affine.__all__
__all__ += aug_mix.__all__
__all__ += augmentation.__all__
__all__ += color.__all__
__all__ += distortion.__all__
__all__ += geometry.__all__
__all__ += mixing.__all__
__all__ += rand_augment.__all__
__all__ += tone.__all__
