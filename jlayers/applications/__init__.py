"""Networks whose weights were published, by family: functions that return a layer.

`jl.applications.VGG16(include_top=False)` is a layer like any other, in YAML `applications.VGG16`. Names of
layers are Keras's, where Keras has the network. The package is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.core.layer import layers

from .bert import *
from .convnext import *
from .densenet import *
from .efficientnet import *
from .efficientnet_v2 import *
from .imagenet import *
from .inception_v3 import *
from .mobilenet import *
from .mobilenet_v2 import *
from .mobilenet_v3 import *
from .nasnet import *
from .published import *
from .resnet import *
from .resnet_v2 import *
from .squeezenet import *
from .vgg import *
from .vit import *
from .xception import *

resnet50, vgg16, vgg19 = resnet, vgg, vgg  # Keras's names of modules

if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        known = [n.partition(".")[2] for n in layers.group("applications")]
        raise missing_name("jlayers.applications", name, known)
