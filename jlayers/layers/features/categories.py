"""Numbers as categories, and categories as vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer, Num

from jlayers.core.adapt import batches, learns, numbers
from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe, param_dtype, wide_dtype
from jlayers.layers._arguments import choice, positive

__all__ = ["CategoryEncoding", "Discretization"]

Numbers = Num[Array, "batch *rest"]
Ids = Integer[Array, "batch *rest"]
Vectors = Float[Array, "batch *encoded"]


# --------------------------------------------------------------------------------------------- bins


@layer
def Discretization(
    bin_boundaries: Sequence[float] | None = None,
    num_bins: int | None = None,
    epsilon: float = 0.01,
    output_mode: Literal["int", "one_hot", "multi_hot", "count"] = "int",
):
    """Sorts numbers into bins. As in Keras, without sparse outputs.

    Boundaries `[0, 1]` make the bins below 0, from 0 to below 1, and from 1 on; NaN falls into the last.
    `jl.adapt(layer, data)` chooses `num_bins - 1` boundaries so that the bins hold equal shares of the data.
    One array is counted exactly; of an iterable of batches a summary of `1 / epsilon` values is kept.

    Shapes: "int" keeps the shape and gives int32. "one_hot" `(batch, ..., n)` to `(batch, ..., n, bins)`, and
    a last axis of 1 is replaced. "multi_hot" and "count" take the last axis for the values of one sample:
    `(batch, ..., n)` to `(batch, ..., bins)`. An array `(n,)` outside of a model is one sample.

    Args:
        bin_boundaries: in increasing order.
        num_bins: how many bins `jl.adapt` makes.
        epsilon: the error that each share may have when the data come in batches.
        output_mode: the bin's number, a vector for each value, or per sample the bins that occur in it or
            how often.

    Raises:
        ValueError: neither boundaries nor a number of bins, both that do not fit, boundaries out of order;
            no boundaries when the layer is used; one value per sample with "multi_hot" or "count".

    >>> import jax.numpy as jnp, jlayers as jl
    >>> layer = jl.Discretization([0.0, 1.0])
    >>> layer.apply({}, {}, jnp.array([[-0.5, 0.0, 3.0]]))[0].tolist()
    [[0, 1, 2]]
    >>> jl.adapt(jl.Discretization(num_bins=4), jnp.arange(8.0))
    Discretization(bin_boundaries=[1.0, 3.0, 5.0], num_bins=4)
    """
    choice("output_mode", output_mode, ("int", "one_hot", "multi_hot", "count"))
    _check_bins(bin_boundaries, num_bins, epsilon)

    def check(x: Any) -> None:
        if bin_boundaries is None:
            raise refused(
                ValueError,
                "expected boundaries",
                instead="take them from training data with jl.adapt(layer, data), or pass bin_boundaries",
                bin_boundaries=None,
            )
        _need_samples(output_mode, x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: Numbers) -> Numbers:
        check(x)
        edges = np.asarray(bin_boundaries, np.float64)
        dtype = param_dtype(x)
        if jnp.issubdtype(
            x.dtype, jnp.integer
        ):  # not as float32, which whole numbers beyond 2**24 do not fit
            limits = np.iinfo(x.dtype)
            least = np.ceil(edges[edges <= limits.max])  # a whole number reaches the edge from here on
            reached = jnp.asarray(np.maximum(least, limits.min).astype(x.dtype))
        else:
            x = x.astype(wide_dtype(dtype))
            reached = jnp.asarray(edges, x.dtype)
        bins = jnp.searchsorted(reached, x, side="right").astype(jnp.int32)
        return bins if output_mode == "int" else _encode_ids(bins, output_mode, len(edges) + 1, dtype)

    return Pair(init, apply, wide=True)


def _check_bins(bin_boundaries: Any, num_bins: Any, epsilon: Any) -> None:
    if bin_boundaries is None and num_bins is None:
        raise refused(
            ValueError,
            "expected bin_boundaries, or num_bins for jl.adapt to find them",
            bin_boundaries=None,
            num_bins=None,
        )
    if num_bins is not None:
        positive("num_bins", num_bins)
    if not isinstance(epsilon, (int, float)) or not 0 < epsilon < 1:
        raise refused(ValueError, "expected epsilon between 0 and 1", epsilon=epsilon)
    if bin_boundaries is None:
        return
    edges = np.asarray(bin_boundaries, np.float64)
    if edges.ndim != 1 or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
        raise refused(ValueError, "expected finite boundaries in rising order", bin_boundaries=bin_boundaries)
    if num_bins is not None and len(edges) != num_bins - 1:
        raise refused(
            ValueError,
            f"expected {num_bins - 1} boundaries between {num_bins} bins, not {len(edges)}",
            instead="pass only one of the two arguments",
            bin_boundaries=bin_boundaries,
            num_bins=num_bins,
        )


@learns("layer", "Discretization", "bin_boundaries")
def _boundaries(arguments: dict[str, Any], data: Any) -> dict[str, Any]:
    """Quantiles, with lines between the steps of the distribution of the data."""
    bins = arguments["num_bins"]
    if bins is None:
        raise refused(ValueError, "expected the number of bins to make from the data", num_bins=None)
    parts = math.ceil(1 / arguments["epsilon"])
    values = reached = np.zeros(0)
    for index, batch in enumerate(batches(data)):
        new = np.sort(numbers(batch, "Discretization", index).ravel())
        summary = _summary(values, reached, parts)
        values, reached = _sum_of_distributions(*summary, new, np.arange(1.0, new.size + 1))
    if not values.size:
        raise refused(ValueError, "expected at least one batch to adapt to, received none")
    shares = np.arange(1, bins) / bins
    return {"bin_boundaries": np.interp(shares * reached[-1], reached, values).tolist()}


def _sum_of_distributions(
    values: np.ndarray, reached: np.ndarray, new: np.ndarray, new_reached: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of two distributions: rising values, and how many numbers lie up to each."""
    if not values.size:
        return new, new_reached
    both = np.append(values, new)
    sums = np.append(
        reached + np.interp(values, new, new_reached, left=0),
        new_reached + np.interp(new, values, reached, left=0),
    )
    order = np.lexsort((sums, both))
    return both[order], sums[order]


def _summary(values: np.ndarray, reached: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """About `parts` points of the distribution, at equal shares."""
    if len(values) <= parts:
        return values, reached
    marks = np.linspace(0, reached[-1], parts + 1)
    return np.interp(marks, reached, values), marks


# ----------------------------------------------------------------------------------------- categories


@layer
def CategoryEncoding(
    num_tokens: int,
    output_mode: Literal["one_hot", "multi_hot", "count"] = "multi_hot",
):
    """Encodes whole numbers as vectors of ones and zeros, or of counts. As in Keras, without sparse outputs.

    A compiled function cannot raise on the values of its data: a number outside 0 to `num_tokens - 1` gives a
    vector of NaN, as in `Embedding`, where Keras on JAX leaves it out.

    Shapes: "one_hot" `(batch, ..., n)` to `(batch, ..., n, num_tokens)`, and a last axis of 1 is replaced.
    "multi_hot" and "count" take the last axis for the tokens of one sample: `(batch, ..., n)` to `(batch,
    ..., num_tokens)`. An array `(n,)` outside of a model is one sample, as in Keras; in a model it would be
    the batch and is refused. The output is float32, or has the dtype of the weights: a second input in the
    shape of the first, only with "count", that says how much each token counts.

    Args:
        num_tokens: how many different numbers there are.
        output_mode: a vector for each number, or per sample the numbers that occur in it or how often.

    Raises:
        ValueError: fewer than 1 token, weights without "count" or in another shape, one number per sample
            with "multi_hot" or "count".
        TypeError: an input that is not of whole numbers.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> layer = jl.CategoryEncoding(4, output_mode="count")
    >>> layer.apply({}, {}, jnp.array([[0, 1, 1], [3, 3, 3]]))[0].tolist()
    [[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]]
    """
    positive("num_tokens", num_tokens)
    choice("output_mode", output_mode, ("one_hot", "multi_hot", "count"))

    def apply(params: Any, ids: Ids, count_weights: Any = None) -> Vectors:
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise refused(
                TypeError,
                "expected whole numbers",
                ids,
                instead="convert with x.astype('int32'), and in a graph write jl.Input(shape, dtype='int32')",
            )
        _need_samples(output_mode, ids)
        if count_weights is not None and (output_mode != "count" or count_weights.shape != ids.shape):
            raise refused(
                ValueError,
                f"expected weights only with output_mode='count', one for each of {describe(ids)}",
                count_weights,
                output_mode=output_mode,
            )
        dtype = jnp.float32 if count_weights is None else count_weights.dtype
        return _encode_ids(ids, output_mode, num_tokens, dtype, count_weights)

    return no_params, apply


def _need_samples(output_mode: str, x: Any) -> None:
    """Refuse a batch whose samples have no axis of their own: all of it would become one vector.

    In a model, which is traced, the first axis is the batch. An array at hand is one sample, as in Keras.
    """
    if output_mode in ("multi_hot", "count") and len(x.shape) < 2 and isinstance(x, Tracer):
        raise refused(
            ValueError,
            "expected the values of each sample along the last axis",
            x,
            instead="add an axis with x[:, None] for one value per sample",
            output_mode=output_mode,
        )


def _encode_ids(ids: jax.Array, mode: str, depth: int, dtype: Any, weights: Any = None) -> jax.Array:
    if mode == "one_hot" and ids.ndim > 1 and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if mode != "one_hot" and ids.ndim == 0:
        ids = ids[None]
    valid = (ids >= 0) & (ids < depth)
    hot = jax.nn.one_hot(ids, depth, dtype=dtype)
    if mode == "one_hot":
        return jnp.where(valid[..., None], hot, jnp.asarray(jnp.nan, dtype))
    if weights is not None:
        hot = hot * weights[..., None]
    encoded = hot.sum(-2) if mode == "count" else hot.max(-2, initial=0)
    return jnp.where(valid.all(-1, keepdims=True), encoded, jnp.asarray(jnp.nan, dtype))
