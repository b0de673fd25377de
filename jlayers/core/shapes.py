"""Shapes and dtypes as values: what `init` sees, and how error messages show inputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

__all__ = ["as_spec", "describe", "is_shape", "param_dtype", "pluralize", "shape_text", "wide_dtype"]


def _is_dim(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, np.integer)) or export.is_symbolic_dim(value)


def is_shape(value: Any) -> bool:
    """True for a tuple or list of dimensions such as `(32, 28, 28, 1)`."""
    return isinstance(value, (tuple, list)) and all(map(_is_dim, value)) and type(value) in (tuple, list)


def as_spec(value: Any) -> Any:
    """Arrays, shape tuples (float32) and `jax.ShapeDtypeStruct`s, in any pytree, as `ShapeDtypeStruct`s."""

    def leaf(x: Any) -> jax.ShapeDtypeStruct:
        if is_shape(x):
            return jax.ShapeDtypeStruct(tuple(x), jnp.float32)
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))
        raise TypeError(
            f"expected an array, a jax.ShapeDtypeStruct or a shape with the batch dimension included, "
            f"such as (32, 28, 28, 1); received {x!r}"
        )

    return jax.tree.map(leaf, value, is_leaf=is_shape)


def shape_text(shape: Any) -> str:
    """A shape for people: symbolic dimensions show as None.

    >>> shape_text((8, 28, 28, 1))
    '(8, 28, 28, 1)'
    """
    dims = [str(d) if isinstance(d, (int, np.integer)) else "None" for d in shape]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def describe(value: Any) -> str:
    """Inputs for an error message: `float32(8, 28, 28, 1)`; a value may have a `__describe__` of its own."""

    def leaf(x: Any) -> str:
        if hasattr(x, "__describe__"):
            return x.__describe__()
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"{x.dtype}{shape_text(x.shape)}"
        return repr(x)

    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(describe, value))
    return leaf(value)


def param_dtype(x: Any) -> Any:
    """The dtype for parameters beside input `x`: that of `x` if it is floating, else float32."""
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.dtype(jnp.float32)


def wide_dtype(dtype: Any) -> Any:
    """The dtype to sum and to draw in: float32, or float64 for float64."""
    return jnp.dtype(jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32)


def pluralize(count: int, noun: str) -> str:
    """A count with its noun.

    >>> pluralize(1, "input"), pluralize(3, "input")
    ('1 input', '3 inputs')
    """
    return f"{count} {noun}" + ("" if count == 1 else "s")
