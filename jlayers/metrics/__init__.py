"""Metrics by Keras's names, as triples of pure functions over a small accumulator.

`init() -> acc`, or `init(y_pred) -> acc` where its shape follows from that of the predictions;
`update(acc, y_true, y_pred, weight=None) -> acc`; `result(acc) -> scalar`. The weight is per sample; the
training and evaluation steps pass the row mask, so that padded rows count for nothing. An accumulator lives
on the device and holds sums, so that a result is the mean over all samples of an epoch, not a mean of batch
means.

>>> import jax.numpy as jnp, jlayers as jl
>>> mae = jl.metrics.get("mae")
>>> acc = mae.update(mae.init(), jnp.zeros((2, 1)), jnp.array([[1.0], [3.0]]))
>>> acc = mae.update(acc, jnp.zeros((1, 1)), jnp.array([[5.0]]))
>>> float(mae.result(acc))
3.0
"""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.metrics import accuracy, confusion, curves, f_scores, iou, means, points, relations
from jlayers.metrics.accuracy import *
from jlayers.metrics.base import Metric, MetricLike, get, mean_of, register, registry
from jlayers.metrics.confusion import *
from jlayers.metrics.curves import *
from jlayers.metrics.f_scores import *
from jlayers.metrics.iou import *
from jlayers.metrics.means import *
from jlayers.metrics.points import *
from jlayers.metrics.relations import *

__all__ = ["Metric", "MetricLike", "get", "mean_of", "register", "registry"]
__all__ += accuracy.__all__
__all__ += confusion.__all__
__all__ += curves.__all__
__all__ += f_scores.__all__
__all__ += iou.__all__
__all__ += means.__all__
__all__ += points.__all__
__all__ += relations.__all__


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.metrics", name, __all__, registry)
