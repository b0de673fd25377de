"""The same constructor call in jlayers and in Keras, with the same weights: outputs, gradients, state."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import layers


def relaxed():
    """Keras is not written for strict promotion."""
    return jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")


def data(shape, dtype="float32", seed=0, high=5):
    """Numbers without ties; whole ones up to `high`."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("int"):
        return rng.integers(0, high, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def parity(name: str, *inputs: Any, train: bool = False, tol: float = 1e-5, **arguments: Any) -> None:
    """Assert that `name(**arguments)` of both libraries agrees on `inputs`.

    Compared are the names and shapes of all variables, the output, the gradients of a random weighted sum of
    it with respect to floating inputs and all trainable variables, and the state after the call.
    """
    theirs = keras_values(lambda: _keras(name, arguments, inputs, train))
    variables, expected = theirs["variables"], theirs["values"]
    weights = _weights(variables)
    ours = getattr(jl, name)(**arguments)
    order: list[str] = []

    def init() -> Any:
        params, state = ours.init(jax.random.key(0), *inputs)
        order.extend(params)
        return params, state

    params, state = jax.eval_shape(init)
    made = {k: (v.shape, str(v.dtype)) for k, v in {**params, **state}.items()}
    assert made == {k: (v.shape, str(v.dtype)) for k, v in weights.items()}, "names, shapes and dtypes"
    assert order == [name for name, *_, trained in variables if trained], "the order of the variables"
    params, state = ({k: weights[k] for k in group} for group in (params, state))
    actual = _run_ours(ours, params, state, inputs, train)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for what, a in actual.items():
        for got, want in zip(jax.tree.leaves(a), jax.tree.leaves(expected[what]), strict=True):
            assert got.shape == want.shape, f"{what}: {got.shape} {want.shape}"
            assert got.dtype == want.dtype, f"{what}: {got.dtype} {want.dtype}"
            scale = max(1.0, float(np.max(np.abs(want), initial=0)))
            np.testing.assert_allclose(
                got, want, rtol=tol, atol=tol * scale, err_msg=f"{name} {arguments} {what}"
            )
    # The constructor's call survives its data form, and with it the layer.
    again = layers.get(ours.to_data())
    assert again.spec == ours.spec


def _weights(variables: Any) -> dict[str, Any]:
    """Random values for variables of Keras; variances stay positive."""
    rng = np.random.default_rng(7)
    values = {}
    for name, shape, dtype, _ in variables:
        value = rng.normal(size=shape).astype(dtype)
        values[name] = jnp.asarray(np.abs(value) + 0.5 if "variance" in name else value)
    return values


def _floating(inputs: Any) -> list[Any]:
    return [x for x in inputs if np.issubdtype(x.dtype, np.floating)]


def _merge(inputs: Any, floating: Any) -> list[Any]:
    floating = iter(floating)
    return [next(floating) if np.issubdtype(x.dtype, np.floating) else x for x in inputs]


def _weighted(y: Any) -> Any:
    return (
        jnp.sum(y * jnp.asarray(data(y.shape, seed=3), y.dtype))
        if jnp.issubdtype(y.dtype, jnp.floating)
        else 0.0
    )


def _keras(name: str, arguments: dict[str, Any], inputs: Any, train: bool) -> dict[str, Any]:
    """The variables of Keras's layer but those of random generators, and what it computes."""
    import keras

    constructor = getattr(keras.layers, name)
    options = inspect.signature(constructor.__init__).parameters
    # The values are replaced below: drawing them would cost more than all the rest.
    zeros = {option: "zeros" for option in options if option.endswith("_initializer")}
    layer = constructor(**{**zeros, **arguments})
    layer.build([x.shape for x in inputs] if len(inputs) > 1 else inputs[0].shape)
    trainable = {id(v) for v in layer.trainable_variables}
    variables = [
        [v.name, list(v.shape), str(v.dtype), id(v) in trainable]
        for v in layer.variables
        if "seed" not in v.path
    ]
    return {"variables": variables, "values": _run_keras(layer, _weights(variables), inputs, train)}


def _run_keras(layer: Any, weights: dict[str, Any], inputs: Any, train: bool) -> dict[str, Any]:
    frozen = [weights.get(v.name, v.value) for v in layer.non_trainable_variables]
    names = [v.name for v in layer.trainable_variables]

    def loss(trained: Any, floating: Any) -> Any:
        xs = _merge(inputs, floating)
        mode = {"training": True} if train else {}  # refused by layers that have no such mode
        y, moved = layer.stateless_call(
            [trained[n] for n in names], frozen, xs if len(xs) > 1 else xs[0], **mode
        )
        pairs = zip(layer.non_trainable_variables, moved, strict=True)
        state = {v.name: m for v, m in pairs if "seed" not in v.path}
        return _weighted(y), (y, state)

    trained = {n: weights[n] for n in names}
    return _with_gradients(loss, trained, _floating(inputs))


def _run_ours(layer: Any, params: Any, state: Any, inputs: Any, train: bool) -> dict[str, Any]:
    def loss(trained: Any, floating: Any) -> Any:
        y, moved = layer.apply(trained, state, *_merge(inputs, floating), train=train)
        return _weighted(y), (y, moved)

    return _with_gradients(loss, params, _floating(inputs))


def _with_gradients(loss: Any, trained: Any, floating: Any) -> dict[str, Any]:
    floating = [jnp.asarray(x) for x in floating]
    quick = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here
    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), compiler_options=quick)
    (_, (y, state)), (by_params, by_inputs) = step(trained, floating)
    return {"output": y, "state": state, "params gradient": by_params, "inputs gradient": by_inputs}
