"""Normalization of kernels: direction and length of the weights of each output are learned separately."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, layer
from jlayers.core.pair import Pair
from jlayers.core.remaking import open_to_gradients
from jlayers.core.shapes import wide_dtype
from jlayers.core.tree import flatten, unflatten
from jlayers.core.wiring import around, as_layer
from jlayers.layers._kernels import find_kernels, without_gradient

__all__ = ["WeightNormalization"]


@layer
def WeightNormalization(layer: LayerLike):
    """A layer with kernels that act as `g * kernel / ||kernel||`, a norm and a `g` for each output feature.

    Weight normalization (Salimans and Kingma, 2016, https://arxiv.org/abs/1602.07868). The kernels are all
    parameters of two or more dimensions called `kernel` or `embeddings`, or ending with `_kernel`; the last
    axis counts the outputs. `g` starts as the norm, so that the layer starts as it was. Norms are taken in
    float32 or wider; of a kernel column of zeros the quotient is zero.

    Shapes: those of the layer. Parameters: those of the layer, under `layer`, which give only directions;
    and under `g`, by the path of each kernel, `(outputs,)`. A `Repeat` gives them its leading axis.

    Args:
        layer: any layer with kernels, or several in a container.

    Raises:
        ValueError: a layer without kernels.

    >>> import jax, jlayers as jl
    >>> dense = jl.WeightNormalization(jl.Dense(2, use_bias=False))
    >>> params, state = dense.init(jax.random.key(0), (1, 2))
    >>> params["layer"]["kernel"] = jax.numpy.array([[3.0, 0.0], [4.0, 9.0]])
    >>> params["g"]["kernel"] = jax.numpy.array([10.0, 1.0])
    >>> [round(v, 3) for v in dense.apply(params, state, jax.numpy.ones((1, 2)))[0][0].tolist()]
    [14.0, 1.0]
    """
    inner = as_layer(layer, "WeightNormalization")
    plain = around(inner)

    def wire(children: Mapping[str, Layer]) -> Pair:
        base = children["layer"]
        pair = plain.wire({"layer": open_to_gradients(base)})

        def init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            params, state = pair.init(key, *inputs)
            g = {}
            for path, kernel, stacked in find_kernels(base, params.get("layer", {})):
                norm = jnp.sqrt(_square(kernel, stacked))
                g[path] = jnp.squeeze(norm, _axes_of(kernel, stacked)).astype(kernel.dtype)
            if not g:
                raise refused(
                    ValueError,
                    "expected a layer with parameters named kernel, embeddings or ..._kernel, of two or "
                    f"more dimensions, not {sorted(flatten(params.get('layer', {})))}",
                    layer=inner,
                )
            return {**params, "g": unflatten(g)}, state

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            fixed = without_gradient(base, params["layer"])
            flat, g = flatten(fixed), flatten(params["g"])
            for path, kernel, stacked in find_kernels(base, fixed):
                length = jnp.expand_dims(g[path], _axes_of(kernel, stacked)).astype(wide_dtype(kernel.dtype))
                flat[path] = (kernel.astype(length.dtype) * length * _inverse_norm(kernel, stacked)).astype(
                    kernel.dtype
                )
            return pair.apply({"layer": unflatten(flat)}, *inputs, state=state, key=key, train=train)

        return pair.wrap(init=init, apply=apply)

    return dataclasses.replace(plain, wire=wire)


def _axes_of(kernel: Any, stacked: int) -> tuple[int, ...]:
    return tuple(range(stacked, kernel.ndim - 1))


def _square(kernel: Float[Array, "*stack_and_rows outputs"], stacked: int) -> Array:
    wide = kernel.astype(wide_dtype(kernel.dtype))
    return jnp.sum(jnp.square(wide), axis=_axes_of(kernel, stacked), keepdims=True)


def _inverse_norm(kernel: Array, stacked: int) -> Array:
    square = _square(kernel, stacked)
    return jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)
