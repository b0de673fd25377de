"""Positions in a sequence, as rotations of queries and keys, as waves, and as learned vectors."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import keeps_mask
from jlayers.core.registry import InitializerLike, RegularizerLike
from jlayers.core.shapes import describe, param_dtype, wide_dtype
from jlayers.layers._arguments import above_zero, axis_of, need_features, need_floating, positive
from jlayers.layers.attention.cache import next_positions, no_positions

__all__ = ["PositionEmbedding", "RotaryEmbedding", "SinusoidalPositionEmbedding"]


@layer
def RotaryEmbedding(
    max_wavelength: float = 10000.0,
    scaling_factor: float = 1.0,
    sequence_axis: int = 1,
    feature_axis: int = -1,
    interleaved: bool = False,
):
    """Rotates pairs of features by angles that grow with the position (Su et al., 2021).

    The product of a rotated query and a rotated key depends only on the distance between their positions.
    Pair i of n turns by `position / scaling_factor * max_wavelength ** (-i / n)`, computed in float32 or
    wider. Stands in attention layers as `position_embedding`.

    Inputs: `x[, positions]`, shape kept; `(batch, length, ..., size)` at first. `positions` are whole numbers
    `(batch, length)`, 0, 1, ... if left out: give them to continue a sequence whose beginning is cached. No
    parameters.

    Args:
        max_wavelength: about the wavelength of the slowest pair, in positions, divided by 2 pi.
        scaling_factor: divides the positions, to stretch a model over longer sequences than it was made for.
        sequence_axis: axis of the positions.
        feature_axis: axis of the features, an even number of them.
        interleaved: pair neighbors, as in the paper, and not the first half with the second, as most models.

    Raises:
        ValueError: an odd number of features, axes that the input lacks, positions that do not fit.
        TypeError: complex numbers as input, or positions that are not.

    >>> import jax, jlayers as jl
    >>> x = jax.numpy.ones((1, 3, 2))
    >>> y, _ = jl.RotaryEmbedding().apply({}, {}, x)
    >>> [[round(v, 3) for v in row] for row in y[0].tolist()]
    [[1.0, 1.0], [-0.301, 1.382], [-1.325, 0.493]]
    >>> later, _ = jl.RotaryEmbedding().apply({}, {}, x[:, :1], jax.numpy.array([[2]]))
    >>> bool((later == y[:, 2:]).all())
    True
    """
    above_zero("max_wavelength", max_wavelength)
    above_zero("scaling_factor", scaling_factor)

    def check(x: Any, positions: Any) -> tuple[int, int]:
        need_floating(x)
        sequence, feature = (axis_of(x, a) for a in (sequence_axis, feature_axis))
        size = x.shape[feature]
        if sequence == feature or 0 in (sequence, feature) or not isinstance(size, int) or size % 2:
            raise refused(
                ValueError,
                f"expected an even number of features along axis {feature_axis} and positions along "
                "another after the batch",
                x,
                sequence_axis=sequence_axis,
            )
        _check_positions(x, positions, sequence)
        return sequence, feature

    def init(key: Any, x: Any, positions: Any = None) -> dict[str, Any]:
        check(x, positions)
        return {}

    @keeps_mask(mixes=(feature_axis,))
    def apply(params: Any, x: jax.Array, positions: Any = None) -> jax.Array:
        sequence, feature = check(x, positions)
        pairs = x.shape[feature] // 2
        wide = jnp.moveaxis(x, (sequence, feature), (1, x.ndim - 1)).astype(wide_dtype(x.dtype))
        steps = _angles(wide, positions, pairs, max_wavelength, scaling_factor)
        angles = steps.reshape(*steps.shape[:2], *(1,) * (x.ndim - 3), pairs)
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        if interleaved:
            couples = wide.reshape(*wide.shape[:-1], pairs, 2)
            first, second = couples[..., 0], couples[..., 1]
        else:
            first, second = wide[..., :pairs], wide[..., pairs:]
        turned = [first * cos - second * sin, second * cos + first * sin]
        joined = jnp.stack(turned, -1).reshape(wide.shape) if interleaved else jnp.concatenate(turned, -1)
        return jnp.moveaxis(joined, (1, x.ndim - 1), (sequence, feature)).astype(x.dtype)

    return init, apply


@layer
def SinusoidalPositionEmbedding(max_wavelength: float = 10000.0, cached: bool = False):
    """Waves of many lengths that tell positions apart (Vaswani et al., 2017); `Residual` adds them.

    Feature 2i is `sin(position * max_wavelength ** (-2i / size))`, feature 2i + 1 the cosine of the same.

    Inputs: `x[, positions]`, only shape and dtype of `x` matter, `(batch, length, size)`; `positions`
    are whole numbers `(batch, length)`, 0, 1, ... if left out. The output has the shape of `x`; there are no
    parameters.

    Args:
        max_wavelength: about the wavelength of the slowest wave, in positions, divided by 2 pi.
        cached: in inference continue where the last call ended, as `Positions` does.

    Raises:
        ValueError: a wavelength of 0 or less, an input of another rank, positions that do not fit.
        TypeError: complex numbers as input, or positions that are not.

    >>> import jax, jlayers as jl
    >>> y, _ = jl.SinusoidalPositionEmbedding().apply({}, {}, jax.numpy.zeros((1, 2, 4)))
    >>> [[round(v, 3) for v in row] for row in y[0].tolist()]
    [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.01, 1.0]]
    >>> jl.Residual(jl.SinusoidalPositionEmbedding())
    Residual(SinusoidalPositionEmbedding())
    """
    above_zero("max_wavelength", max_wavelength)

    def init(key: Any, x: Any, positions: Any = None) -> dict[str, Any]:
        _check_sequence(x, positions)
        return {}

    @keeps_mask
    def apply(params: Any, x: jax.Array, positions: Any = None) -> jax.Array:
        _check_sequence(x, positions)
        size = x.shape[-1]
        angles = _angles(x, positions, size / 2, max_wavelength)
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
        waves = waves.reshape(*angles.shape[:2], -1)[..., :size]
        return jnp.broadcast_to(waves.astype(x.dtype), x.shape)

    return _continuing_positions(init, apply) if cached else (init, apply)


@layer
def PositionEmbedding(
    sequence_length: int,
    embeddings_initializer: InitializerLike = "glorot_uniform",
    embeddings_regularizer: RegularizerLike | None = None,
    cached: bool = False,
):
    """A learned vector for each position (Gehring et al., 2017); `Residual` adds them.

    Inputs: `x[, positions]`, only shape and dtype of `x` matter, `(batch, length, size)`; `positions`
    are whole numbers `(batch, length)`, 0, 1, ... if left out; one out of range gives a vector of NaN, as in
    `Embedding`. The output has the shape of `x`. Parameters: `embeddings` `(sequence_length, size)`.

    Args:
        sequence_length: greatest length.
        embeddings_initializer: first values.
        embeddings_regularizer: penalty on all vectors; see `Layer.penalty`.
        cached: in inference continue where the last call ended, as `Positions` does.

    Raises:
        ValueError: a length below 1, a longer sequence, positions that do not fit.
        TypeError: complex numbers as input, or positions that are not.

    >>> import jax, jlayers as jl
    >>> embed = jl.Sequential(jl.Embedding(1000, 8), jl.Residual(jl.PositionEmbedding(64)))
    >>> params, state = embed.init(jax.random.key(0), jax.numpy.zeros((2, 10), "int32"))
    >>> params["residual"]["layer"]["embeddings"].shape
    (64, 8)
    """
    positive("sequence_length", sequence_length)
    make = initializers.get(embeddings_initializer)

    def check(x: Any, positions: Any) -> None:
        _check_sequence(x, positions)
        if positions is None and isinstance(x.shape[1], int) and x.shape[1] > sequence_length:
            raise refused(
                ValueError, "expected at most sequence_length positions", x, sequence_length=sequence_length
            )

    def init(key: Any, x: Any, positions: Any = None) -> dict[str, Any]:
        check(x, positions)
        return {"embeddings": make(key, (sequence_length, x.shape[-1]), param_dtype(x))}

    @keeps_mask
    def apply(params: Any, x: jax.Array, positions: Any = None) -> jax.Array:
        check(x, positions)
        table: jax.Array = jnp.asarray(params["embeddings"]).astype(x.dtype)
        need_features(x, -1, table.shape[1], "features")
        if positions is None and isinstance(x.shape[1], int):
            vectors = table[None, : x.shape[1]]
        else:
            at = _positions(x, positions)
            vectors = table.at[at].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return jnp.broadcast_to(vectors, x.shape)

    return _continuing_positions(init, apply) if cached else (init, apply)


def _continuing_positions(init: Any, apply: Any) -> tuple[Any, Any]:
    """The pair with positions that continue from call to call in inference, where none are given."""

    def counted_init(key: Any, x: Any, positions: Any = None) -> Any:
        return init(key, x, positions), no_positions()

    def counted_apply(params: Any, x: Any, positions: Any = None, *, state: Any, train: bool) -> Any:
        if train or positions is not None:
            return apply(params, x, positions), state
        positions, state = next_positions(state, x, train)
        return apply(params, x, positions), state

    return counted_init, counted_apply


def _positions(x: Any, positions: Any) -> Any:
    """The positions given, or 0, 1, ... along axis 1: `(batch or 1, length)`."""
    return jnp.arange(x.shape[1])[None, :] if positions is None else positions


def _angles(x: Any, positions: Any, pairs: float, max_wavelength: float, stretch: float = 1.0) -> Any:
    """Angles `(batch or 1, length, waves)`, each wave slower than the one before, in float32 or wider."""
    wide = wide_dtype(x.dtype)
    steps = jnp.exp(jnp.arange(math.ceil(pairs)).astype(wide) * (-math.log(max_wavelength) / pairs))
    return (_positions(x, positions).astype(wide) / stretch)[:, :, None] * steps[None, None, :]


def _check_sequence(x: Any, positions: Any) -> None:
    need_floating(x)
    if len(x.shape) != 3 or not isinstance(x.shape[2], int):
        raise refused(ValueError, "expected an input (batch, length, size)", x)
    _check_positions(x, positions, 1)


def _check_positions(x: Any, positions: Any, axis: int) -> None:
    if positions is None:
        return
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise refused(TypeError, "expected positions as whole numbers", positions)
    if len(positions.shape) != 2 or any(
        p not in (1, d) for p, d in zip(positions.shape, (x.shape[0], x.shape[axis]), strict=True)
    ):
        raise refused(
            ValueError,
            f"expected positions (batch, length) for {describe(x)}",
            positions,
            instead="one row may serve the whole batch: positions[None]",
        )
