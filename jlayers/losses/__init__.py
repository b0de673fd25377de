"""Losses by Keras's names: a loss is a pure function `f(y_true, y_pred)` that gives one value per sample.

The training step takes the mean over the real samples. As in Keras, a loss of numbers averages over the
last axis and a loss of classes runs along it. Targets and predictions must have equal shapes: they are never
broadcast. In training, targets of shape `(batch,)` are given the axis of predictions `(batch, 1)`.

>>> import jax.numpy as jnp, jlayers as jl
>>> mse = jl.losses.get("mse")
>>> mse(jnp.zeros((2, 3)), jnp.ones((2, 3))).tolist()
[1.0, 1.0]
"""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.losses import cross_entropies, decoding, embeddings, hinges, overlap, regression, sequences
from jlayers.losses.base import Loss, LossLike, get, register, registry
from jlayers.losses.cross_entropies import *
from jlayers.losses.decoding import *
from jlayers.losses.embeddings import *
from jlayers.losses.hinges import *
from jlayers.losses.overlap import *
from jlayers.losses.regression import *
from jlayers.losses.sequences import *

__all__ = ["Loss", "LossLike", "get", "register", "registry"]
__all__ += cross_entropies.__all__
__all__ += decoding.__all__
__all__ += embeddings.__all__
__all__ += hinges.__all__
__all__ += overlap.__all__
__all__ += regression.__all__
__all__ += sequences.__all__


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.losses", name, __all__, registry)
