"""Optimizers, gradient transformations and learning-rate schedules: optax's, by optax's names, a closed list.

Arguments and defaults are optax's and are read off its signatures. Two things are ours: `learning_rate` has
Keras's default (0.001, and 0.01 for plain gradient descent), and it may be a number, a schedule, or a
schedule by name. Where optax and Keras differ in another default (adamw's `weight_decay` is 1e-4 here and
0.004 in Keras), optax's stands, so that its documentation holds. Keras adds its `epsilon` before the bias
correction: `adam(epsilon_hat=1e-7)` is Keras's Adam. `ftrl` and `clip_by_norm` are Keras's, since optax has
neither.

A list means one after the other (`optax.chain`):

>>> import jlayers as jl
>>> optimizer = jl.optimizers.get(
...     [
...         {"clip_by_global_norm": {"max_norm": 1.0}},
...         {"adamw": {"learning_rate": {"cosine_decay_schedule": {"init_value": 1e-3, "decay_steps": 100}}}},
...     ]
... )
>>> jl.optimizers.get("SGD")
sgd()

**Weight decay** spares biases and normalizations by patterns of the parameters' paths: what fits one decays,
the rest does not. In YAML the same, `{adamw: {weight_decay: 0.01, mask: '**/kernel'}}`.

>>> jl.optimizers.adamw(weight_decay=0.01, mask=["**/kernel", "**/embeddings"])
adamw(weight_decay=0.01, mask=['**/kernel', '**/embeddings'])

**Several optimizers**, by patterns of paths: `multi_optimizer`. A **schedule-free** optimizer trains with
other parameters than those to evaluate with; `fit`, `evaluate` and `predict` take the right ones, and
`state.to_evaluate()` has them.

Your own optimizer, any `optax.GradientTransformation`, goes wherever one of these does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jlayers.core.elsewhere import missing_name
from jlayers.optimizers import entries as entries  # fills the registries
from jlayers.optimizers.base import Optimizer, OptimizerLike, chain, has_patterns, registry
from jlayers.optimizers.base import lenient as lenient
from jlayers.optimizers.keras_words import keras_word
from jlayers.optimizers.multi import multi_optimizer
from jlayers.optimizers.rate import learning_rates, rates_at, with_rate_factor
from jlayers.optimizers.schedule_free import averaged, restarted
from jlayers.optimizers.schedules import (
    ScheduleLike,
    get_schedule,
    join_schedules,
    register_schedule,
    schedules,
)

__all__ = [
    "Optimizer",
    "OptimizerLike",
    "ScheduleLike",
    "averaged",
    "chain",
    "get",
    "get_schedule",
    "has_patterns",
    "join_schedules",
    "keras_word",
    "learning_rates",
    "multi_optimizer",
    "rates_at",
    "register_schedule",
    "restarted",
    "with_rate_factor",
]

get = registry.get


def __getattr__(name: str) -> Callable[..., Any]:
    """`jl.optimizers.adam` and its like, in Keras's spelling too: the registered constructor."""
    for table in (registry, schedules):
        if not name.startswith("_") and name in table:
            return table[name]
    raise missing_name(__name__, name, __dir__())


def __dir__() -> list[str]:
    return sorted([*__all__, *registry, *schedules])
