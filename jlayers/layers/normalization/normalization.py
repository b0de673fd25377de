"""Normalisation: data brought to mean 0 and variance 1, then scaled and moved by learned parameters.

Statistics are taken in float32 or wider and about the mean, so that a large mean does not eat the variance.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import Masked, expand, keeps_mask, refusal, with_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import axis_of, fraction, need_features, need_floating, positive, reshaped_to
from jlayers.layers.normalization._batch_renorm import renorm_of
from jlayers.ops.normalization import moments, normalized

__all__ = [
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
]


class _Affine:
    """The learned `gamma` and `beta` of a normalisation, along `axes` of the data."""

    def __init__(self, center: bool, scale: bool, beta: Any, gamma: Any):
        self.makers = {"gamma": initializers.get(gamma)} if scale else {}
        self.makers |= {"beta": initializers.get(beta)} if center else {}

    def init(self, key: Any, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        keys = dict(zip(["gamma", "beta"], jax.random.split(key), strict=True))
        return {name: make(keys[name], shape, dtype) for name, make in self.makers.items()}

    def apply(self, params: Any, x: jax.Array, axes: Sequence[int]) -> jax.Array:
        if "gamma" in self.makers:
            x = x * reshaped_to(x, params["gamma"], axes)
        if "beta" in self.makers:
            x = x + reshaped_to(x, params["beta"], axes)
        return x

    def after(
        self, params: Any, scale: jax.Array, shift: jax.Array, axes: Sequence[int]
    ) -> tuple[jax.Array, jax.Array]:
        """The scale and the shift that do the work of `x * scale + shift` and of `apply` after it."""
        if "gamma" in self.makers:
            gamma = reshaped_to(scale, params["gamma"], axes)
            scale, shift = scale * gamma, shift * gamma
        if "beta" in self.makers:
            shift = shift + reshaped_to(shift, params["beta"], axes)
        return scale, shift


def _check_epsilon(epsilon: float) -> None:
    if not epsilon > 0:
        raise refused(ValueError, "expected epsilon > 0", epsilon=epsilon)


def _axes(x: Any, axis: int | Sequence[int]) -> list[int]:
    """The normalised axes from the front, in order."""
    axes = sorted(axis_of(x, a) for a in ([axis] if isinstance(axis, int) else axis))
    if not axes or len(set(axes)) < len(axes) or 0 in axes:
        raise refused(ValueError, "expected distinct axes after the batch", x, axis=axis)
    return axes


def _sizes(x: Any, axes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(x.shape[a] for a in axes)
    if not all(isinstance(d, int) for d in sizes):
        wanted = f"a fixed size along axis {tuple(axes)}, for which parameters are made"
        raise refused(ValueError, f"expected {wanted}", x)
    return sizes


def _need_sizes(params: Any, x: Any, axes: Sequence[int]) -> None:
    for parameter in params.values():
        for axis, size in zip(axes, parameter.shape, strict=True):
            need_features(x, axis, size, "elements")


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
    """Normalises each channel over the batch and all positions (Ioffe and Szegedy, 2015). As in Keras.

    In training by the statistics of the batch, which move the running ones:
    `moving = moving * momentum + batch * (1 - momentum)`, with the biased variance. Otherwise, and when the
    layer is frozen, by the running statistics.

    Shapes: any with a batch in front, kept. Parameters: `gamma`, `beta` `(channels,)`. State: `moving_mean`,
    `moving_variance` `(channels,)`, float32 or wider. A batch of no elements moves nothing. Padding is
    left out of the statistics, and the mask is kept.

    Args:
        axis: of the channels.
        momentum: weight of the old running statistics.
        renorm: in training correct the batch's statistics towards running ones, with no gradient through the
            correction (Ioffe, 2017), for small batches. More state: `moving_stddev`, `renorm_mean`,
            `renorm_stddev`.
        renorm_clipping: bounds of the correction `y * r + d`: `rmin` (0), `rmax` (none), `dmax` (none).
        renorm_momentum: weight of the old running statistics that the correction aims at.

    Raises:
        ValueError: a momentum outside [0, 1], an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.BatchNormalization(momentum=0.9)
    >>> params, state = norm.init(jax.random.key(0), (2, 1))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[1.0], [3.0]]), train=True)
    >>> [round(v, 3) for v in y[:, 0].tolist()], [round(v, 3) for v in state["moving_mean"].tolist()]
    ([-1.0, 1.0], [0.2])
    """
    fraction("momentum", momentum)
    _check_epsilon(epsilon)
    correction = renorm_of(renorm_clipping, renorm_momentum) if renorm else None
    affine = _Affine(center, scale, beta_initializer, gamma_initializer)
    make_mean = initializers.get(moving_mean_initializer)
    make_variance = initializers.get(moving_variance_initializer)

    def init(key: Any, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        need_floating(x)
        size = _sizes(x, _axes(x, axis))
        affine_key, mean_key, variance_key = jax.random.split(key, 3)
        mean = make_mean(mean_key, size, wide_dtype(x.dtype))
        variance = make_variance(variance_key, size, wide_dtype(x.dtype))
        more = correction.begin(mean, variance) if correction else {}
        params = affine.init(affine_key, size, param_dtype(x))
        return params, {"moving_mean": mean, "moving_variance": variance, **more}

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return old * momentum + new.reshape(old.shape).astype(old.dtype) * (1 - momentum)

    def counted(mask: jax.Array, x: Any) -> jax.Array:
        """What enters the statistics: all, for the sake of finite numbers, where nothing is real."""
        return jnp.broadcast_to(expand(mask | ~jnp.any(mask), x.ndim), x.shape)

    def moved(state: Any, mean: jax.Array, variance: jax.Array) -> dict[str, jax.Array]:
        moving = {"moving_mean": move(state["moving_mean"], mean)}
        if correction:
            return moving | correction.moved(state, mean, variance, momentum, epsilon)
        return moving | {"moving_variance": move(state["moving_variance"], variance)}

    def apply(params: Any, x: jax.Array, *, state: Any, train: bool, mask: Any) -> tuple[Any, Any]:
        need_floating(x)
        (channels,) = _axes(x, axis)
        moving = state["moving_mean"], state["moving_variance"]
        need_features(x, channels, moving[0].shape[0], "channels")
        if mask is not None and channels < mask.ndim:
            raise refusal(Masked(x, mask), f"over the channels (axis {channels})")
        wide = x.astype(wide_dtype(x.dtype))
        others = [a for a in range(x.ndim) if a != channels]
        empty = any(x.shape[a] == 0 for a in others)
        before, learns = state, train and not empty
        if learns:
            real = None if mask is None else counted(mask, x)
            near, rest, mean, variance = moments(wide, others, real, stored=True)
            state = moved(before, mean, variance)
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


@layer
def LayerNormalization(
    axis: int | tuple[int, ...] = -1,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Normalises each example over `axis` (Ba et al., 2016). As in Keras.

    Shapes: any with a batch in front, kept, and so is a mask over other axes than `axis`.
    Parameters: `gamma`, `beta`, of the joint shape of `axis`.

    Args:
        axis: the axis, or axes, to normalise over.

    Raises:
        ValueError: an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.LayerNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2))
    >>> [round(v, 3) for v in norm.apply(params, state, jax.numpy.array([[1.0, 3.0]]))[0][0].tolist()]
    [-1.0, 1.0]
    """
    _check_epsilon(epsilon)
    affine = _Affine(center, scale, beta_initializer, gamma_initializer)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        sizes = _sizes(x, _axes(x, axis))
        return affine.init(key, sizes, param_dtype(x))

    @keeps_mask(mixes=(axis,) if isinstance(axis, int) else axis)
    def apply(params: Any, x: jax.Array) -> jax.Array:
        need_floating(x)
        axes = _axes(x, axis)
        _need_sizes(params, x, axes)
        wide = x.astype(wide_dtype(x.dtype))
        return affine.apply(params, normalized(wide, tuple(axes), epsilon), axes).astype(x.dtype)

    return Pair(init, apply, wide=True)


@layer
def GroupNormalization(
    groups: int = 32,
    axis: int = -1,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Normalises each example over groups of channels and all positions (Wu and He, 2018). As in Keras.

    A mask is refused: padding would enter the statistics, as it does in Keras.

    Shapes: any with a batch in front, kept. Parameters: `gamma`, `beta` `(channels,)`.

    Args:
        groups: number of groups; -1 for one per channel (instance normalisation).
        axis: of the channels.

    Raises:
        ValueError: groups that do not divide the channels, an epsilon of 0 or less, or an unknown axis.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.GroupNormalization(groups=2)
    >>> params, state = norm.init(jax.random.key(0), (1, 4))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[1.0, 3.0, 10.0, 30.0]]))
    >>> [round(v, 2) for v in y[0].tolist()]
    [-1.0, 1.0, -1.0, 1.0]
    """
    if groups != -1:
        positive("groups", groups)
    _check_epsilon(epsilon)
    affine = _Affine(center, scale, beta_initializer, gamma_initializer)

    def channels_of(x: Any) -> tuple[int, int]:
        need_floating(x)
        (channels,) = _axes(x, axis)
        (size,) = _sizes(x, [channels])
        if groups != -1 and size % groups:
            raise refused(
                ValueError,
                f"expected the channels (axis {channels}) to be a multiple of groups",
                x,
                groups=groups,
            )
        return channels, size

    def init(key: Any, x: Any) -> dict[str, Any]:
        return affine.init(key, (channels_of(x)[1],), param_dtype(x))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        channels, size = channels_of(x)
        _need_sizes(params, x, [channels])
        wide = jnp.moveaxis(x.astype(wide_dtype(x.dtype)), channels, -1)
        count = size if groups == -1 else groups
        split = wide.reshape(*wide.shape[:-1], count, size // count)
        near, rest, _, variance = moments(split, [*range(1, x.ndim - 1), x.ndim])
        y = ((near - rest) * jax.lax.rsqrt(variance + epsilon)).reshape(wide.shape)
        return affine.apply(params, jnp.moveaxis(y, -1, channels), [channels]).astype(x.dtype)

    return Pair(init, apply, wide=True)


@layer
def InstanceNormalization(
    axis: int = -1,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Normalises each channel of each example over all positions (https://arxiv.org/abs/1607.08022).

    `GroupNormalization` with a group per channel. Shapes: any with a batch in front, kept. Parameters:
    `gamma`, `beta` `(channels,)`.

    Args:
        axis: of the channels.

    Raises:
        ValueError: an epsilon of 0 or less, or an unknown axis.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.InstanceNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2, 1))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[[1.0], [3.0]]]))
    >>> [round(v, 2) for v in y[0, :, 0].tolist()]
    [-1.0, 1.0]
    """
    return GroupNormalization(
        -1,
        axis=axis,
        epsilon=epsilon,
        center=center,
        scale=scale,
        beta_initializer=beta_initializer,
        gamma_initializer=gamma_initializer,
        beta_regularizer=beta_regularizer,
        gamma_regularizer=gamma_regularizer,
        beta_constraint=beta_constraint,
        gamma_constraint=gamma_constraint,
    )


@layer
def RMSNormalization(axis: int | tuple[int, ...] = -1, epsilon: float = 1e-6):
    """Divides by the root of the mean square over `axis` (Zhang and Sennrich, 2019). As in Keras.

    Shapes: any with a batch in front, kept, and so is a mask over other axes than `axis`.
    Parameters: `scale`, of the joint shape of `axis`.

    Args:
        axis: the axis, or axes, to normalise over.
        epsilon: added to the mean square.

    Raises:
        ValueError: an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.RMSNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2))
    >>> [round(v, 3) for v in norm.apply(params, state, jax.numpy.array([[1.0, 7.0]]))[0][0].tolist()]
    [0.2, 1.4]
    """
    _check_epsilon(epsilon)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        sizes = _sizes(x, _axes(x, axis))
        return {"scale": jnp.ones(sizes, param_dtype(x))}

    @keeps_mask(mixes=(axis,) if isinstance(axis, int) else axis)
    def apply(params: Any, x: jax.Array) -> jax.Array:
        need_floating(x)
        axes = _axes(x, axis)
        _need_sizes(params, x, axes)
        wide = x.astype(wide_dtype(x.dtype))
        square = jnp.mean(jnp.square(wide), axis=tuple(axes), keepdims=True)
        y = wide * jax.lax.rsqrt(square + epsilon)
        return (y * reshaped_to(y, params["scale"], axes)).astype(x.dtype)

    return Pair(init, apply, wide=True)
