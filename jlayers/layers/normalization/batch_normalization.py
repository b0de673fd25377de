"""Batch normalization: each channel by the statistics of the batch.

Statistics are taken in float32 or wider and about the mean, so that a large mean does not cost digits of the
variance.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.layer import layer
from jlayers.core.masks import Masked, expand, refusal, with_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    above_zero,
    fraction,
    need_features,
    need_floating,
    reshaped_to,
)
from jlayers.layers.normalization._affine import Affine, fixed_sizes, normalized_axes
from jlayers.layers.normalization._batch_renorm import make_renorm
from jlayers.ops.normalization import moments

__all__ = ["BatchNormalization"]


@layer
def BatchNormalization(
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    moving_mean_initializer: InitializerLike = "zeros",
    moving_variance_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
    renorm: bool = False,
    renorm_clipping: Mapping[str, float] | None = None,
    renorm_momentum: float = 0.99,
):
    """Normalizes each channel over the batch and all positions (Ioffe and Szegedy, 2015). As in Keras.

    Training uses the statistics of the batch and moves the running ones by `moving = moving * momentum +
    batch * (1 - momentum)`, with the biased variance. Inference uses the running statistics, and so does a
    frozen layer.

    Shapes: any with a batch in front, kept. Parameters: `gamma`, `beta` `(channels,)`. State: `moving_mean`,
    `moving_variance` `(channels,)`, float32 or wider. A batch without elements moves nothing. Padding does
    not count in the statistics, and the mask is kept.

    Args:
        axis: axis of the channels.
        momentum: weight of the old running statistics.
        renorm: in training correct the batch's statistics towards the running ones, without a gradient
            through the correction (Ioffe, 2017): for small batches. Adds the state `moving_stddev`,
            `renorm_mean` and `renorm_stddev`.
        renorm_clipping: bounds of the correction `y * r + d`: `rmin` (0), `rmax` (none), `dmax` (none).
        renorm_momentum: weight of the old running statistics that the correction uses.

    Raises:
        ValueError: a momentum outside [0, 1], an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.BatchNormalization(momentum=0.9)
    >>> params, state = norm.init(jax.random.key(0), (2, 1))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[1.0], [3.0]]), train=True)
    >>> [round(v, 3) for v in y[:, 0].tolist()], [round(v, 3) for v in state["moving_mean"].tolist()]
    ([-1.0, 1.0], [0.2])
    """
    fraction("momentum", momentum)
    above_zero("epsilon", epsilon)
    correction = make_renorm(renorm_clipping, renorm_momentum) if renorm else None
    affine = Affine(center, scale, beta_initializer, gamma_initializer)
    make_mean = initializers.get(moving_mean_initializer)
    make_variance = initializers.get(moving_variance_initializer)

    def init(key: Any, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        need_floating(x)
        size = fixed_sizes(x, normalized_axes(x, axis))
        affine_key, mean_key, variance_key = jax.random.split(key, 3)
        mean = make_mean(mean_key, size, wide_dtype(x.dtype))
        variance = make_variance(variance_key, size, wide_dtype(x.dtype))
        more = correction.initial_state(mean, variance) if correction else {}
        params = affine.init(affine_key, size, param_dtype(x))
        return params, {"moving_mean": mean, "moving_variance": variance, **more}

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return old * momentum + new.reshape(old.shape).astype(old.dtype) * (1 - momentum)

    def counted_elements(mask: jax.Array, x: Any) -> jax.Array:
        """The elements that count in the statistics; all of them if none is real, to keep numbers finite."""
        return jnp.broadcast_to(expand(mask | ~jnp.any(mask), x.ndim), x.shape)

    def next_state(state: Any, mean: jax.Array, variance: jax.Array) -> dict[str, jax.Array]:
        moving = {"moving_mean": move(state["moving_mean"], mean)}
        if correction:
            return moving | correction.next_state(state, mean, variance, momentum, epsilon)
        return moving | {"moving_variance": move(state["moving_variance"], variance)}

    def apply(params: Any, x: jax.Array, *, state: Any, train: bool, mask: Any) -> tuple[Any, Any]:
        need_floating(x)
        (channels,) = normalized_axes(x, axis)
        moving = state["moving_mean"], state["moving_variance"]
        need_features(x, channels, moving[0].shape[0], "channels")
        if mask is not None and channels < mask.ndim:
            raise refusal(Masked(x, mask), f"over the channels (axis {channels})")
        wide = x.astype(wide_dtype(x.dtype))
        others = [a for a in range(x.ndim) if a != channels]
        empty = any(x.shape[a] == 0 for a in others)
        before, learns = state, train and not empty
        if learns:
            real = None if mask is None else counted_elements(mask, x)
            near, rest, mean, variance = moments(wide, others, real, stored=True)
            state = next_state(before, mean, variance)
            if mask is not None:
                state = jax.tree.map(functools.partial(jnp.where, jnp.any(mask)), state, dict(before))
        else:
            mean, variance = (reshaped_to(wide, old, [channels]) for old in moving)
            near, rest = wide - mean, jnp.zeros_like(mean)
        # Scale and shift are joined before they meet the data: one loop over them, two sums in the gradient.
        scale = jax.lax.rsqrt(variance + epsilon)
        shift = -rest * scale
        if correction and learns:
            r, d = correction.factors(before, mean, variance, epsilon)
            scale, shift = scale * r, shift * r + d
        scale, shift = affine.after(params, scale, shift, [channels])
        return with_mask((near * scale + shift).astype(x.dtype), mask), state

    return Pair(init, apply, wide=True)
