"""Names that have a meaning in the state of every layer: `aux_loss`, `aux_metrics` and `carry`.

A scalar called `aux_loss` is added to the loss in training. Scalars under `aux_metrics` are in the logs, by
their own names. The arrays under `carry` are handed from one call to the next: a recurrent layer with
`stateful=True`, or attention with `cache_length`, keeps there what it needs. They begin at zero, and are the
only part of a state that inference moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.tree import flatten, map_with_path, unflatten

__all__ = [
    "AUX_LOSS",
    "AUX_METRICS",
    "CARRY",
    "is_aux_loss",
    "is_aux_metric",
    "is_carry",
    "reset_state",
    "with_new_carries",
    "without_carries",
]

AUX_LOSS = "aux_loss"
AUX_METRICS = "aux_metrics"
CARRY = "carry"


def is_aux_loss(path: str) -> bool:
    """True if the array at this path of a state is a loss.

    >>> is_aux_loss("encoder/dense/aux_loss"), is_aux_loss("aux_loss/mean")
    (True, False)
    """
    return path.rpartition("/")[2] == AUX_LOSS


def is_aux_metric(path: str) -> bool:
    """True if the array at this path of a state is a value for the logs.

    >>> is_aux_metric("encoder/dense/aux_metrics/sparsity"), is_aux_metric("aux_metrics")
    (True, False)
    """
    return AUX_METRICS in path.split("/")[:-1]


def is_carry(path: str) -> bool:
    """True if the array at this path of a state is handed from call to call.

    >>> is_carry("lstm/carry/h"), is_carry("lstm/kernel")
    (True, False)
    """
    return CARRY in path.split("/")


def reset_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a model that has seen nothing yet: carries at zero, all else as it is.

    Call it where a new sequence begins: between texts that are generated, between epochs of consecutive
    batches. What is learned, such as the running statistics of `BatchNormalization`, stays.

    Args:
        state: state of any layer or model.

    >>> import jax, jlayers as jl
    >>> rnn = jl.SimpleRNN(2, stateful=True)
    >>> x = jax.numpy.ones((1, 3, 4))
    >>> params, state = rnn.init(jax.random.key(0), x)
    >>> y, moved = rnn.apply(params, state, x)
    >>> bool((moved["carry"]["h"] == y).all())
    True
    >>> jl.reset_state(moved)
    {'carry': {'h': Array([[0., 0.]], dtype=float32)}}
    """
    if not isinstance(state, Mapping):
        raise refused(
            TypeError,
            "expected the state of a model as a dict",
            raised_by="reset_state",
            instead="write jl.reset_state(state) with what layer.init and layer.apply give beside it",
            state=type(state).__name__,
        )
    return map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if is_carry(path) else leaf, state)


def without_carries(state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that was learned and is worth saving.

    >>> without_carries({"norm": {"mean": 1}, "lstm": {"carry": {"h": 2}}})
    {'norm': {'mean': 1}}
    """
    return unflatten({path: leaf for path, leaf in flatten(state).items() if not is_carry(path)})


def with_new_carries(learned: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """The structure of `state`, with what was learned and with carries at zero.

    Args:
        learned: what `without_carries` left.
        state: arrays or specs, of the batch size to come.
    """
    known = flatten(learned)

    def leaf(path: str, value: Any) -> Any:
        return jnp.zeros(value.shape, value.dtype) if is_carry(path) else known[path]

    return map_with_path(leaf, state)
