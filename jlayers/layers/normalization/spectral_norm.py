"""Kernels divided by their spectral norm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, layer
from jlayers.core.pair import Pair
from jlayers.core.shapes import wide_dtype
from jlayers.core.wiring import around, as_layer, child_key
from jlayers.layers._arguments import positive

__all__ = ["SpectralNormalization"]

_LEAST_SQUARE = 1e-24  # of a norm of 1e-12, as in Keras
_KERNELS = ("kernel", "embeddings")


def _unit(vector: jax.Array) -> jax.Array:
    return vector * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vector)), _LEAST_SQUARE))


def _normalized(kernel: jax.Array, u: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The kernel over its largest singular value, by power iteration from `u`, and the new `u`."""
    wide = kernel.astype(u.dtype)
    matrix = wide.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)
    v, new = jnp.zeros((1, matrix.shape[0]), u.dtype), u
    for _ in range(steps):
        v = _unit(new @ fixed.T)
        new = _unit(v @ fixed)
    # Of a kernel of zeros nothing is to be learned, and it stays as it is.
    empty = jnp.all(fixed == 0)
    sigma = jnp.where(empty, jnp.ones((), u.dtype), jnp.sum((v @ matrix) * new))
    return (wide / sigma).astype(kernel.dtype), jnp.where(empty, u, new)


@layer
def SpectralNormalization(layer: LayerLike, power_iterations: int = 1):
    """A layer with its kernel divided by its largest singular value (Miyato et al., 2018).

    The kernel is read as a matrix `(everything else, outputs)`. Its singular value is estimated by power
    iteration from the vector that the last training step left, so that it follows the kernel as this moves.
    The singular vectors count as constants in the gradient, as in the paper.

    The first training step gives Keras's numbers. Keras then overwrites the kernel with its normalized form,
    and in inference takes the kernel as it is. Here only the optimizer changes parameters, and
    the kernel is divided in every mode; training decides only whether the vector moves. So inference needs no
    training step before it, and weights do not depend on how often the layer was called.

    Shapes: those of the layer. Parameters: those of the layer, under `layer`. State: `vector_u`
    `(1, outputs)`, float32 or wider, and the state of the layer under `layer`.

    Args:
        layer: any layer with a parameter `kernel` or, as `Embedding`, `embeddings`.
        power_iterations: steps of power iteration at each call.

    Raises:
        ValueError: less than one iteration, or a layer without kernel.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> dense = jl.SpectralNormalization(jl.Dense(2, use_bias=False), power_iterations=20)
    >>> params, state = dense.init(jax.random.key(0), (1, 2))
    >>> params["layer"]["kernel"] = jnp.diag(jnp.array([4.0, 2.0]))
    >>> y, state = dense.apply(params, state, jnp.ones((1, 2)))
    >>> [round(v, 3) for v in y[0].tolist()]
    [1.0, 0.5]
    """
    positive("power_iterations", power_iterations, most=1000)
    inner = as_layer(layer, "SpectralNormalization")
    plain = around(inner)

    def kernel_name(params: Mapping[str, Any]) -> str:
        for name in _KERNELS:
            if hasattr(params.get(name), "shape"):
                return name
        raise refused(
            ValueError,
            f"expected a layer with a parameter named {' or '.join(_KERNELS)}, not {sorted(params)}",
            instead="wrap the layers inside it",
            layer=inner,
        )

    def wire(children: Mapping[str, Layer]) -> Pair:
        pair = plain.wire(children)
        draw = initializers.get("truncated_normal")

        def init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            params, state = pair.init(key, *inputs)
            inner_params = params.get("layer", {})
            kernel = inner_params[kernel_name(inner_params)]
            shape, dtype = (1, kernel.shape[-1]), wide_dtype(kernel.dtype)
            return params, {"vector_u": draw(child_key(key, "vector_u"), shape, dtype), **state}

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            inner_params, rest = params.get("layer", {}), dict(state)
            u = rest.pop("vector_u")
            name = kernel_name(inner_params)
            kernel, moved = _normalized(inner_params[name], u, power_iterations)
            params = {**params, "layer": {**inner_params, name: kernel}}
            output, rest = pair.apply(params, *inputs, state=rest, key=key, train=train)
            return output, {"vector_u": moved if train else u, **rest}

        return pair.wrap(init=init, apply=apply)

    return dataclasses.replace(plain, wire=wire)
