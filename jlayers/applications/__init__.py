"""Networks whose weights were published, by family: functions that return a layer.

`jl.applications.VGG16(include_top=False)` is a layer like any other, in YAML `applications.VGG16`. Names of
layers are Keras's, where Keras has the network. The package is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.core.layer import layers

from .efficientnet import *
from .imagenet import *
from .mobilenet_v2 import *
from .published import *
from .vgg import *

vgg16 = vgg19 = vgg  # Keras's names of modules

if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name(
            "jlayers.applications", name, [n.partition(".")[2] for n in layers.group("applications")]
        )
