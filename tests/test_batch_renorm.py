"""Batch renormalization against Keras, over several batches: outputs, gradients, state."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data, parity
from keras_values import keras_values

import jlayers as jl

CLIPPED = {"renorm": True, "renorm_clipping": {"rmin": 0.5, "rmax": 1.5, "dmax": 0.5}, "renorm_momentum": 0.8}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "arguments", [{"renorm": True, "momentum": 0.9}, {"scale": False, "axis": 1, **CLIPPED}]
)
def test_it_is_that_of_keras(arguments, train):
    parity("BatchNormalization", data((3, 4, 2)), train=train, tol=1e-4, **arguments)


def test_batches_in_a_row_and_frozen(key):
    arguments = {"momentum": 0.9, **CLIPPED}
    ours = jl.BatchNormalization(**arguments)
    params, state = ours.init(key, (4, 3))
    batches = [jnp.asarray(data((4, 3), seed=i)) for i in range(3)]

    def run_keras():
        theirs = keras.layers.BatchNormalization(**arguments)
        theirs.build((4, 3))
        outputs = [theirs(x, training=True) for x in batches]
        return outputs, {v.name: v.value for v in theirs.non_trainable_variables}

    outputs, their_state = keras_values(run_keras)
    for x, expected in zip(batches, outputs, strict=True):
        y, state = ours.apply(params, state, x, train=True)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for name, value in their_state.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-6)
    _, moved = jl.freeze(ours).apply(params, state, batches[0], train=True)
    jax.tree.map(np.testing.assert_array_equal, moved, state)
    _, moved = ours.apply(params, state, jnp.ones((0, 3)), train=True)
    jax.tree.map(np.testing.assert_array_equal, moved, state)


def test_wrong_bounds_are_refused():
    with pytest.raises(ValueError, match=r"keys out of rmin, rmax, dmax, .*did you mean 'rmax'"):
        jl.BatchNormalization(renorm=True, renorm_clipping={"r_max": 2.0})
    with pytest.raises(ValueError, match="rmin <= rmax and dmax >= 0"):
        jl.BatchNormalization(renorm=True, renorm_clipping={"rmin": 2.0, "rmax": 1.0})
    with pytest.raises(ValueError, match="renorm_momentum between 0 and 1"):
        jl.BatchNormalization(renorm=True, renorm_momentum=2.0)
