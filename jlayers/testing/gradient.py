"""The property of gradients: they agree with finite differences along a random direction."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.testing.case import Case, dot, is_float, jitted
from jlayers.transform.freeze import trainable_mask

__all__ = ["check_gradient"]


def check_gradient(case: Case) -> None:
    params, state = case.made
    point, structure = jax.tree.flatten((params, case.inputs))
    trained = jax.tree.leaves((trainable_mask(case.layer, params), jax.tree.map(is_float, case.inputs)))
    moving = [i for i, (x, t) in enumerate(zip(point, trained, strict=True)) if t and is_float(x)]
    if not moving:
        return

    def placed(values: list[Any]) -> tuple[Any, Any]:
        full = list(point)
        for i, x in zip(moving, values, strict=True):
            full[i] = x
        return jax.tree.unflatten(structure, full)

    def outputs(values: list[Any]) -> list[Any]:
        params, inputs = placed(values)
        output, _ = case.layer.apply(params, state, *inputs, key=case.key, train=True)
        return list(filter(is_float, jax.tree.leaves(output)))

    start = [point[i] for i in moving]
    # Steps of equal size along each axis, so that no entry is lost in rounding.
    direction = [case.rng.choice([-1.0, 1.0], size=x.shape) for x in start]
    like = list(filter(is_float, jax.tree.leaves(case.trained[0])))
    weights = [jnp.asarray(case.rng.normal(size=y.shape), y.dtype) for y in like]
    (gradients,) = jitted(lambda values: jax.vjp(outputs, values)[1](weights))(start)
    slope = dot(gradients, direction)

    def value(step: float) -> float:
        pairs = zip(start, direction, strict=True)
        moved = [jnp.asarray(np.asarray(x) + np.asarray(step * d, x.dtype)) for x, d in pairs]
        params, inputs = placed(moved)
        output, _ = case.run(True, params=params, inputs=inputs)
        return dot(filter(is_float, jax.tree.leaves(output)), weights)

    # A kink between the two points spoils one step size, rounding another; a wrong gradient fails all.
    size = float(np.sqrt(dot(like, like) * dot(weights, weights)))
    for step in (1e-2, 3e-3, 1e-3):
        measured = (value(step) - value(-step)) / (2 * step)
        if abs(measured - slope) <= 1e-2 * abs(slope) + 1e-6 * size / step:
            return
    raise AssertionError(
        f"slope along a random direction of parameters and inputs: expected {measured:.6g} by finite "
        f"differences, received {slope:.6g} by the gradient"
    )
