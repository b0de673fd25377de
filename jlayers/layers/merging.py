"""Layers of several inputs: `layer(a, b)` or, as in Keras, `layer([a, b])` on nodes of a graph.

A position of the output is real where it is real in all inputs. An input without a mask is real everywhere.
(In Keras the mask is lost if one input has none.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import expand, intersection, with_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe, wide_dtype
from jlayers.layers._arguments import axis_of, need_floating

__all__ = ["Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"]


def _several(inputs: Sequence[Any], exactly: int | None = None) -> list[Any]:
    """The inputs, given one by one or in one list."""
    if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
        inputs = inputs[0]
    if not inputs or (exactly and len(inputs) != exactly):
        wanted = "at least one input" if exactly is None else f"{exactly} inputs"
        received = f"{len(inputs)}: {describe(list(inputs))}" if inputs else "none"
        raise refused(ValueError, f"expected {wanted}, received {received}")
    return list(inputs)


def _agree(sizes: Sequence[Any]) -> bool:
    """True if sizes may be equal; a size that is not known yet may equal any."""
    return len({d for d in sizes if isinstance(d, int)}) <= 1


def _check_broadcast(inputs: Sequence[Any]) -> None:
    ranks = {len(x.shape) for x in inputs}
    shapes = [(*x.shape[:1], *(1,) * (max(ranks) - len(x.shape)), *x.shape[1:]) for x in inputs]
    sides = list(zip(*shapes, strict=True))
    if not all(_agree([d for d in side if d != 1]) for side in sides):
        raise refused(ValueError, "expected inputs whose sizes are equal or 1", list(inputs))
    if 0 in ranks and len(ranks) > 1:
        raise refused(ValueError, "expected inputs with a batch", list(inputs))


def merging_pair(combine: Callable[[list[jax.Array]], jax.Array], exactly: int | None = None) -> Pair:
    """The pair of a layer that combines elements; smaller ranks gain axes of size 1 after the batch.

    A position is real if it is real in all inputs. An input without a mask is real everywhere.
    """

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        _check_broadcast(_several(inputs, exactly))
        return {}

    def apply(params: Any, *inputs: Any, mask: Any) -> Any:
        xs, masks = (_several(values, exactly) for values in (inputs, mask))
        _check_broadcast(xs)
        rank = max(x.ndim for x in xs)

        def aligned(value: Any, x: Any) -> Any:
            return None if value is None else jnp.expand_dims(value, range(1, 1 + rank - x.ndim))

        output = combine([aligned(x, x) for x in xs])
        real = intersection(*(aligned(m, x) for m, x in zip(masks, xs, strict=True)))
        return with_mask(output, None if real is None else jnp.broadcast_to(real, output.shape[: real.ndim]))

    return Pair(init, apply, wide=True)


def _total(xs: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, xs)


@layer
def Add():
    """The sum of its inputs. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: no input, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Add().apply({}, {}, jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 20.0]]))[0].tolist()
    [[11.0, 22.0]]
    """
    return merging_pair(_total)


@layer
def Subtract():
    """The first input minus the second. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: not two inputs, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Subtract().apply({}, {}, jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 20.0]]))[0].tolist()
    [[-9.0, -18.0]]
    """
    return merging_pair(lambda xs: xs[0] - xs[1], exactly=2)


@layer
def Multiply():
    """The product of its inputs, element by element. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: no input, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Multiply().apply({}, {}, jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 20.0]]))[0].tolist()
    [[10.0, 40.0]]
    """
    return merging_pair(lambda xs: functools.reduce(jnp.multiply, xs))


@layer
def Average():
    """The mean of its inputs. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: no input, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Average().apply({}, {}, jnp.array([[1.0, 2.0]]), jnp.array([[10.0, 20.0]]))[0].tolist()
    [[5.5, 11.0]]
    """
    return merging_pair(lambda xs: _total(xs) / len(xs))


@layer
def Maximum():
    """The maximum of its inputs, element by element. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: no input, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Maximum().apply({}, {}, jnp.array([[1.0, 20.0]]), jnp.array([[10.0, 2.0]]))[0].tolist()
    [[10.0, 20.0]]
    """
    return merging_pair(lambda xs: functools.reduce(jnp.maximum, xs))


@layer
def Minimum():
    """The minimum of its inputs, element by element. As in Keras.

    Shapes: sizes that are equal or 1; smaller ranks gain axes after the batch.

    Raises:
        ValueError: no input, or shapes that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Minimum().apply({}, {}, jnp.array([[1.0, 20.0]]), jnp.array([[10.0, 2.0]]))[0].tolist()
    [[1.0, 2.0]]
    """
    return merging_pair(lambda xs: functools.reduce(jnp.minimum, xs))


@layer
def Concatenate(axis: int = -1):
    """Joins its inputs along `axis`. As in Keras.

    Shapes: equal but for `axis`. Masks are joined along `axis`, too; if that is behind their axes, a position
    is real where it is so in all inputs. An input without a mask is real everywhere.

    Args:
        axis: along which to join; 0 is the batch.

    Raises:
        ValueError: no input, or sizes that differ along another axis.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Concatenate().apply({}, {}, jnp.ones((2, 3)), jnp.ones((2, 4)))[0].shape
    (2, 7)
    """

    def check(inputs: Sequence[Any]) -> int:
        joined = axis_of(inputs[0], axis)
        others = [[d for a, d in enumerate(x.shape) if a != joined] for x in inputs]
        if len({len(x.shape) for x in inputs}) > 1 or not all(map(_agree, zip(*others, strict=True))):
            raise refused(
                ValueError, "expected inputs that differ only along the given axis", list(inputs), axis=axis
            )
        return joined

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        check(_several(inputs))
        return {}

    def apply(params: Any, *inputs: Any, mask: Any) -> Any:
        xs, masks = _several(inputs), _several(mask)
        joined = check(xs)
        return with_mask(jnp.concatenate(xs, axis=joined), joined_mask(xs, masks, joined))

    def joined_mask(xs: list[Any], masks: list[Any], joined: int) -> Any:
        rank = max((m.ndim for m in masks if m is not None), default=0)
        if joined >= rank:
            return intersection(*masks)
        full = [jnp.ones((), bool) if m is None else expand(m, rank) for m in masks]
        full = [jnp.broadcast_to(m, x.shape[:rank]) for m, x in zip(full, xs, strict=True)]
        return jnp.concatenate(full, axis=joined)

    return init, apply


@layer
def Dot(axes: int | tuple[int, int], normalize: bool = False):
    """The inner product of two inputs, per example. As in Keras.

    Shapes: `(batch, ..., n)` and `(batch, ..., n)` to the batch, the other axes of the first and then those
    of the second; of vectors, `(batch, 1)`.

    Args:
        axes: the axis to sum over, one for both inputs or one for each; not the batch.
        normalize: scale to length 1 along the axis first, which gives the cosine.

    Raises:
        ValueError: not two inputs, the batch as axis, or sizes that differ.
        TypeError: complex numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Dot(1).apply({}, {}, jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]))[0].tolist()
    [[11.0]]
    """
    pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
    if len(pair) != 2 or not all(isinstance(a, int) and a != 0 for a in pair):
        raise refused(ValueError, "expected one axis or two, not 0 (the batch)", axes=axes)

    def check(inputs: Sequence[Any]) -> tuple[int, int]:
        a, b = _several(inputs, exactly=2)
        for x in (a, b):
            need_floating(x)
        i, j = axis_of(a, pair[0]), axis_of(b, pair[1])
        if 0 in (i, j) or not _agree([a.shape[i], b.shape[j]]) or not _agree([a.shape[0], b.shape[0]]):
            raise refused(
                ValueError,
                "expected one batch size and equal sizes along axes, neither of which is the batch",
                [a, b],
                axes=pair,
            )
        return i, j

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        check(inputs)
        return {}

    def unit_vectors(x: jax.Array, axis: int) -> jax.Array:
        wide = x.astype(wide_dtype(x.dtype))
        length = lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(wide), axis=axis, keepdims=True), 1e-12))
        return (wide * length).astype(x.dtype)

    def apply(params: Any, *inputs: Any) -> jax.Array:
        i, j = check(inputs)
        a, b = _several(inputs)
        if normalize:
            a, b = unit_vectors(a, i), unit_vectors(b, j)
        product = lax.dot_general(a, b, (((i,), (j,)), ((0,), (0,))))
        return product[:, None] if product.ndim == 1 else product

    return init, apply
