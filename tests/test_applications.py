"""Applications: Keras's weights and numbers by name, arguments, specs, preprocessing, class names."""

import importlib.resources
import pickle

import applications_keras as same
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_values import keras_values

import jlayers as jl
from jlayers import applications
from jlayers.config.reader import read_text  # noqa: F401
from jlayers.core.layer import layers

NAMES = [name.partition(".")[2] for name in layers.group("applications")]
KERAS_LACKS = ("EfficientNetLite", "SqueezeNet", "ViT", "BERT", "MiniLM")
IN_KERAS = [name for name in NAMES if not name.startswith(KERAS_LACKS)]
FEW = ["VGG16", "MobileNetV2", "EfficientNetB0"]  # whose numbers are compared by default
