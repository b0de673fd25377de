"""Layers that rearrange elements and compute nothing."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import Masked, refusal, with_mask
from jlayers.layers._arguments import DataFormat, channels_at_edge, need_rank, positive

__all__ = ["Flatten", "Permute", "RepeatVector", "Reshape"]


@layer
def Flatten(data_format: DataFormat | None = None):
    """Flattens all axes after the batch into one. As in Keras.

    Shapes: `(batch, ...)` to `(batch, features)`; `(batch,)` to `(batch, 1)`.

    Args:
        data_format: "channels_first" moves axis 1 to the end first, so that weights fit both layouts.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Flatten().apply({}, {}, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 784)
    """
    last, _ = channels_at_edge(data_format)

    def apply(params: Any, x: Shaped[Array, "batch ..."]) -> Shaped[Array, "batch features"]:
        if x.ndim == 0:
            raise refused(ValueError, "expected an input with a batch dimension", x)
        x = last(x) if x.ndim > 2 else x
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    return no_params, apply


@layer
def Reshape(target_shape: tuple[int, ...]):
    """Reshapes each example. As in Keras.

    Shapes: `(batch, ...)` to `(batch, *target_shape)`. A mask is kept if the axes under it are.

    Args:
        target_shape: without the batch; one size may be -1 and is then computed.

    Raises:
        ValueError: more than one -1, a size below -1, or sizes that do not hold the elements of an example.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Reshape((4, -1)).apply({}, {}, jnp.ones((2, 12)))[0].shape
    (2, 4, 3)
    """
    target = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
    if not all(isinstance(d, int) and d >= -1 for d in target) or target.count(-1) > 1:
        raise refused(
            ValueError,
            "expected sizes of 0 or more without the batch, at most one of them -1",
            target_shape=target_shape,
        )

    def sizes(x: Any) -> tuple[Any, ...]:
        total, known = math.prod(x.shape[1:]), math.prod(d for d in target if d != -1)
        if isinstance(total, int):
            fits = total == known if -1 not in target else known and total % known == 0
            if not fits:
                raise refused(
                    ValueError,
                    f"expected target_shape to hold the {total} elements of an example",
                    x,
                    target_shape=target,
                    instead="one size may be -1, to be worked out",
                )
        return tuple(total // known if d == -1 else d for d in target)

    def init(key: Any, x: Any) -> dict[str, Any]:
        sizes(x)
        return {}

    def apply(params: Any, x: Shaped[Array, "batch ..."], *, mask: Any) -> Any:
        y = x.reshape(x.shape[0], *sizes(x))
        if mask is not None and y.shape[: mask.ndim] != mask.shape:
            raise refusal(Masked(x, mask), f"whose axes target_shape={target!r} does not keep")
        return with_mask(y, mask)

    return init, apply


@layer
def Permute(dims: tuple[int, ...]):
    """Permutes the axes after the batch, counted from 1. As in Keras.

    Shapes: `(batch, d1, d2, ...)` to the sizes in the order of `dims`; a mask follows if its axes stay first.

    Args:
        dims: `(2, 1)` swaps the first two axes after the batch.

    Raises:
        ValueError: `dims` is no order of 1, 2, ..., or does not fit the rank of the input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Permute((2, 1)).apply({}, {}, jnp.ones((8, 3, 5)))[0].shape
    (8, 5, 3)
    """
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise refused(ValueError, f"expected each of 1 to {len(dims)} once (the batch is 0)", dims=dims)

    def check(x: Any) -> None:
        need_rank(x, len(dims) + 1, f"for dims={tuple(dims)}")

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array, *, mask: Any) -> Any:
        check(x)
        y = jnp.transpose(x, (0, *dims))
        if mask is None:
            return y
        order = (0, *dims)[: mask.ndim]
        if max(order) >= mask.ndim:
            raise refusal(Masked(x, mask), f"whose axes dims={tuple(dims)} takes from the front")
        return Masked(y, jnp.transpose(mask, order))

    return init, apply


@layer
def RepeatVector(n: int):
    """Repeats each vector `n` times, as a sequence. As in Keras.

    Shapes: `(batch, features)` to `(batch, n, features)`.

    Args:
        n: number of repetitions.

    Raises:
        ValueError: `n` below 1, or an input that is not a batch of vectors.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.RepeatVector(3).apply({}, {}, jnp.ones((2, 5)))[0].shape
    (2, 3, 5)
    """
    positive("n", n)

    def check(x: Any) -> None:
        need_rank(x, 2, "(batch, features)")

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        return jnp.broadcast_to(x[:, None, :], (x.shape[0], n, x.shape[1]))

    return init, apply
