"""Initializers, regularizers and constraints are for the variables that they are for in Keras."""

import inspect

import jax
import keras
import numpy as np
import pytest
from keras_parity import relaxed
from test_activity import CASES as PENALIZED

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.core.tree import flatten

CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell")
CASES = {
    **PENALIZED,
    **{name: ({"units": 2}, (2, 3)) for name in CELLS},
    "BatchNormalization": ({}, (2, 3)),
    "GroupNormalization": ({"groups": 1}, (2, 3)),
    "LayerNormalization": ({}, (2, 3)),
    "PReLU": ({}, (2, 3)),
    "ReversibleEmbedding": ({"input_dim": 5, "output_dim": 3, "tie_weights": False}, (2, 4)),
}
ROLES = ("_initializer", "_regularizer", "_constraint")


def options_of(name):
    """Arguments by role, each with a number of its own."""
    given = inspect.signature(getattr(keras.layers, name).__init__).parameters
    own = [a for a in inspect.signature(getattr(jl, name)).parameters if a in given]
    return {a: i + 2.0 for i, a in enumerate(own) if a.endswith(ROLES) and a != "activity_regularizer"}


def test_every_layer_with_such_an_argument_is_here():
    own = {n for n in layers if layers[n].__module__.startswith("jlayers.") and hasattr(keras.layers, n)}
    assert CASES.keys() == {name for name in own if options_of(name)}


@pytest.mark.parametrize("name", CASES)
def test_arguments_are_for_the_variables_that_they_are_for_in_keras(name):
    arguments, shape = CASES[name]
    arguments = {k: v for k, v in arguments.items() if not k.endswith(ROLES)}
    options = options_of(name)
    theirs = getattr(keras.layers, name)(**arguments, **{a: of_keras(a, v) for a, v in options.items()})
    with relaxed()[0], relaxed()[1]:
        theirs.build(shape, shape) if "Attention" in name else theirs.build(shape)
    expected = [
        (
            v.name,
            np.asarray(v.value),
            getattr(v.regularizer, "l2", None),
            getattr(v.constraint, "max_value", None),
        )
        for v in (*theirs.trainable_variables, *theirs.non_trainable_variables)
        if "seed" not in v.path
    ]
    ours = getattr(jl, name)(**arguments, **{a: of_ours(a, v) for a, v in options.items()})
    x = jax.ShapeDtypeStruct(shape, "int32" if "Embedding" in name else "float32")
    params, state = ours.init(jax.random.key(0), x)
    values = [item for tree in (params, state) for item in flatten(tree).items() if "carry" not in item[0]]
    found = {role: by_path(ours, params, role) for role in ("regularizer", "constraint")}
    assert len(values) == len(expected)
    for (path, value), (variable, wanted, l2, max_value) in zip(values, expected, strict=True):
        assert path.rpartition("/")[2] == variable
        np.testing.assert_allclose(value, wanted)
        assert found["regularizer"].get(path) == l2
        assert found["constraint"].get(path) == max_value


def of_keras(argument, value):
    if argument.endswith("_initializer"):
        return keras.initializers.Constant(value)
    return (
        keras.regularizers.L2(value)
        if argument.endswith("_regularizer")
        else keras.constraints.MaxNorm(value)
    )


def of_ours(argument, value):
    if argument.endswith("_initializer"):
        return jl.initializers.constant(value)
    return jl.l2(value) if argument.endswith("_regularizer") else jl.constraints.max_norm(value)


def by_path(layer, params, role):
    """The number of the regularizer or constraint of each parameter that has one."""
    found, flat = {}, flatten(params)
    for path, inner in layer.walk():
        above = f"{path}/" if path else ""
        own = {p.removeprefix(above): leaf for p, leaf in flat.items() if p.startswith(above)}
        for name, value in inner.parameter_arguments(own, role):
            found[above + name] = value.spec.arguments["l2" if role == "regularizer" else "max_value"]
    return found
