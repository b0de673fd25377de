"""`check_layer`: all properties that a layer must have, checked by one call, for your own layers, too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import describe, is_shape
from jlayers.core.spelling import nearest
from jlayers.testing.case import Case
from jlayers.testing.properties import PROPERTIES

__all__ = ["check_layer"]


def check_layer(
    layer: Layer, *inputs: Any, key: jax.Array | None = None, skip: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Check that a layer keeps the contract of all layers, by running it on some inputs.

    The properties, by name:

    - `init`: `params` and `state` are nested dicts of arrays; the same key gives the same values, and
      shapes give the same values as arrays.
    - `state`: `apply` returns the state in the structure, shapes and dtypes that it took.
    - `jit`: the compiled `apply` returns what the eager one does.
    - `once`: a second call, with the returned state and other values, does not compile again.
    - `vmap`: mapped over stacked inputs, `apply` returns what a loop returns.
    - `rows`: in inference, a row of the output depends only on that row of the input.
    - `empty`: a batch without rows works.
    - `symbolic`: the batch size may be unknown, as in the functional form.
    - `sizes`: sizes between the batch and the last axis, such as time or height, may be unknown, too.
    - `gradient`: gradients by parameters and inputs agree with finite differences.
    - `dtype`: bfloat16 inputs give bfloat16 parameters and outputs.
    - `precision`: with `precision="mixed_bfloat16"` parameters and state stay float32, outputs are bfloat16.
    - `pickle`, `data`: the layer survives pickling, and JSON by way of `to_data`.
    - `keys`: one key, one result; a layer that draws gives other results for other keys and raises
      `MissingKeyError` in training without one.
    - `inference`: `train=False` draws nothing and changes no state except `carry`.
    - `carry`: the arrays that one call hands to the next begin at zero, where `reset_state` sets them back.
    - `frozen`: when frozen, the layer runs in inference mode in training, too.
    - `mask`: given sequences `(batch, time, ...)` with padding, the layer either refuses them and says so,
      or what stands in padding changes neither the state nor what is real in the output; and a mask without
      padding changes nothing.

    Args:
        layer: any layer; give it few units, since every check compiles it.
        *inputs: what `apply` takes, the batch first: arrays, or shapes for float32 normal draws. Give
            a batch of two rows or more.
        key: where all draws come from; `jax.random.key(0)` if None.
        skip: properties that the layer does not have by its nature, each with the reason:
            `{"rows": "compares the samples of a batch"}`.

    Raises:
        AssertionError: a property does not hold; says which, for which layer, what was expected and what
            was received.
        ValueError: an unknown property in `skip`, or one without a reason.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> from jlayers.core.layer import no_params
    >>> from jlayers.testing import check_layer
    >>> check_layer(jl.Dense(3), (2, 4))
    >>> @jl.layer
    ... def Center():
    ...     def apply(params, x):
    ...         return x - jnp.mean(x, axis=0, keepdims=True)
    ...     return no_params, apply
    >>> check_layer(Center(), (2, 4), skip={"rows": "subtracts the batch's mean"})
    >>> check_layer(Center(), (2, 4))
    Traceback (most recent call last):
    AssertionError: Center() fails 'rows' ...
    """
    for name, reason in skip.items():
        if name not in PROPERTIES:
            wrong = ValueError(f"check_layer: no property is named {name!r}: {nearest(name, PROPERTIES)}")
            raise about(wrong, name, skip=skip)
        if not (isinstance(reason, str) and reason.strip()):
            wrong = ValueError(f"check_layer: expected the reason to skip {name!r}, received {reason!r}")
            raise about(wrong, name, skip=skip)
    if not isinstance(layer, Layer):
        raise refused(TypeError, "expected a layer", raised_by="check_layer", layer=layer)
    key = jax.random.key(0) if key is None else key
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def drawn(value: Any) -> jax.Array:
        return jnp.asarray(rng.normal(size=value), jnp.float32) if is_shape(value) else jnp.asarray(value)

    case = Case(layer, jax.tree.map(drawn, inputs, is_leaf=is_shape), key, rng)
    for name, check in PROPERTIES.items():
        if name in skip:
            continue
        try:
            check(case)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            raise AssertionError(
                f"{layer!r} fails {name!r} on {describe(case.inputs)}: {kind}{error}"
            ) from error
