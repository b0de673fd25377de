"""Policies: what they cast, how they are recorded, that they compose with freezing, and numbers in them.

That every layer keeps its parameters and state in float32 under "mixed_bfloat16" is a property of
`check_layer`, which test_conformance.py runs over all of them. Training is in test_precision_training.py.
"""

import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data
from keras_values import keras_values

import jlayers as jl
from jlayers import config
from jlayers.core.layer import layers
from jlayers.core.policy import NAMES, get
from jlayers.core.precision import computes_in
from jlayers.core.shapes import as_spec
from jlayers.core.tree import flatten, nbytes

HALF = ("bfloat16", "float16")


def model():
    base = jl.Sequential(jl.Dense(4, kernel_regularizer="l2"), jl.BatchNormalization(), name="base")
    return jl.Sequential(base, jl.Residual(jl.Dense(4), name="skip"), jl.Dense(2, name="head"))


def dtypes(layer, *inputs, train=False):
    """Of parameters, state and outputs, each as a set of names."""

    def run(key, *xs):
        params, state = layer.init(key, *xs)
        return params, state, *layer.apply(params, state, *xs, train=train)

    specs = map(as_spec, inputs)
    params, state, output, moved = jax.eval_shape(run, jax.random.key(0), *specs)
    assert jax.tree.map(lambda leaf: leaf.dtype, moved) == jax.tree.map(lambda leaf: leaf.dtype, state)
    return tuple({str(leaf.dtype) for leaf in jax.tree.leaves(tree)} for tree in (params, state, output))


# ------------------------------------------------------------------------------------------- policies


def test_policies_have_names_and_errors_that_teach():
    assert get("mixed_bfloat16") == jl.Policy("float32", "bfloat16")
    assert get("bfloat16").spec.to_data() == "bfloat16"
    half = jl.Policy("float32", "float16", output="float32")
    assert get(half.spec.to_data()) == get(half) == half
    assert half.inside == get("mixed_float16")
    assert {half: "kept"}[pickle.loads(pickle.dumps(half))] == "kept"
    with pytest.raises(KeyError, match="unknown policy 'mixed_float61': did you mean 'mixed_float16'"):
        jl.with_precision(model(), "mixed_float61")
    with pytest.raises(ValueError, match=r"expected one of float16, .*received output='int8'"):
        jl.Policy(output="int8")
    with pytest.raises(TypeError, match=r"expected a policy by name.*received precision=<class"):
        jl.Dense(2, precision=jnp.float16)
    with pytest.raises(TypeError, match=r"dtype under the name precision, received dtype='float16'"):
        jl.Dense(2, dtype="float16")
    with pytest.raises(ValueError, match="'bas' matches no layer of the model: did you mean 'base'"):
        jl.with_precision(model(), {"**": "bfloat16", "bas": "float32"})


def test_a_policy_holds_for_all_inside_and_later_patterns_override():
    whole = model()
    half = jl.with_precision(whole, "mixed_bfloat16")
    assert set(half.precision) == {path for path, _ in whole.walk()}
    assert whole.precision == {}
    parts = {path: p.compute for path, p in jl.with_precision(half, {"base": "float32"}).precision.items()}
    assert {path for path, compute in parts.items() if compute == "float32"} == {
        "base",
        "base/dense",
        "base/batch_normalization",
    }
    deep = jl.with_precision(whole, {"base": "bfloat16", "**/dense": "float16"})
    assert {path: p.compute for path, p in deep.precision.items()} == {
        "base": "bfloat16",
        "base/dense": "float16",
        "base/batch_normalization": "bfloat16",
    }
    assert jl.with_precision(half, None) is whole
    assert set(jl.with_precision(half, {"base": None}).precision) == {"", "skip", "skip/layer", "head"}
    outer = jl.with_precision(whole, jl.Policy("float32", "bfloat16", output="float32"))
    assert outer.precision["head"] == get("mixed_bfloat16")  # only the bearer casts its output
    assert computes_in(half, "bfloat16")
    assert not computes_in(half, "float16")


PRECISIONS = {
    "whole": "mixed_bfloat16",
    "by path": {"**": "mixed_float16", "base/*": "bfloat16", "head": "float32"},
    "only inside": {"base/dense": "bfloat16"},
    "of one's own": {"**": jl.Policy("float32", "bfloat16", output="float32"), "head": None},
}


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_precision_survives_data_pickle_replace_and_freezing(precision):
    half = jl.with_precision(model(), precision)
    for again in (
        layers.get(half.to_data()),
        pickle.loads(pickle.dumps(half)),
        half.replace(name="other"),
        eval(repr(half), vars(jl)),
        jl.unfreeze(jl.freeze(half, "base")),
    ):
        assert again.precision == half.precision
    both = jl.freeze(half, "base")
    other_way = jl.with_precision(jl.freeze(model(), "base"), precision)
    for way in (both, other_way, layers.get(both.to_data()), pickle.loads(pickle.dumps(both))):
        assert (way.frozen, way.precision) == (both.frozen, half.precision)
        assert way.to_data() == both.to_data()
    # The layers inside carry their policies along: in a larger model, and taken apart.
    outer = jl.Sequential(half)
    assert outer.precision == {f"sequential/{path}".rstrip("/"): p for path, p in half.precision.items()}
    assert layers.get(outer.to_data()).precision == outer.precision
    head = next(reversed(half.children.values()))
    assert head.precision == {"": half.precision["head"]} if "head" in half.precision else not head.precision


def test_precision_is_an_argument_of_every_layer():
    dense = jl.Dense(3, precision="bfloat16")
    assert repr(dense) == "Dense(3, precision='bfloat16')"
    assert dense.to_data() == {"Dense": {"units": 3, "precision": "bfloat16"}}
    assert dense.replace(units=4).precision == dense.precision
    assert dense.replace(precision="float16").precision == {"": get("float16")}
    frozen = jl.Dense(3, trainable=False, precision="bfloat16")
    assert (frozen.frozen, frozen.precision) == ({""}, {"": get("bfloat16")})

    @jl.layer
    def HalfDense(units: int):
        return jl.Dense(units, precision="bfloat16")

    adopted = HalfDense(2)
    assert adopted.precision == layers.get(adopted.to_data()).precision == {"": get("bfloat16")}
    assert dtypes(adopted, (3, 4)) == ({"bfloat16"}, set(), {"bfloat16"})

    x = jl.Input((4,))
    whole = jl.Model(x, jl.Dense(2)(jl.Dense(3)(x)), precision="mixed_bfloat16")
    inner = jl.graph(whole)
    assert jl.Model(inner.inputs, inner.outputs).precision["dense"] == get("mixed_bfloat16")


# --------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("name", [name for name in NAMES if name != "float64"])
def test_parameters_state_and_outputs_have_the_policys_dtypes(name):
    param, compute = NAMES[name]
    half = jl.with_precision(model(), name)
    for train in (False, True):
        assert dtypes(half, (3, 4), train=train) == ({param}, {"float32"}, {compute})
    headed = jl.with_precision(half, {"head": "float32"})
    assert dtypes(headed, (3, 4))[2] == {"float32"}
    bearer = jl.with_precision(model(), jl.Policy(param, compute, output="float32"))
    assert dtypes(bearer, (3, 4)) == ({param}, {"float32"}, {"float32"})
    params, state = jax.eval_shape(lambda: half.init(jax.random.key(0), (3, 4)))
    assert jl.summary(half, (3, 4)).bytes == nbytes(params) + nbytes(state)
    assert half.penalty(jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params)).dtype == jnp.float32


def test_mixed_parameters_start_as_in_float32_and_get_gradients_in_float32(key):
    whole = model()
    half = jl.with_precision(whole, "mixed_bfloat16")
    x = jax.random.normal(key, (8, 4))
    made = jax.jit(lambda: (half.init(key, x), whole.init(key, x)))()
    jax.tree.map(np.testing.assert_array_equal, *made)
    params, state = made[0]

    def loss(layer):
        return lambda params: jnp.sum(layer.apply(params, state, x)[0].astype(jnp.float32) ** 2)

    gradients, exact = jax.jit(lambda p: (jax.grad(loss(half))(p), jax.grad(loss(whole))(p)))(params)
    for path, leaf in flatten(gradients).items():
        assert leaf.dtype == jnp.float32
        want = flatten(exact)[path]
        np.testing.assert_allclose(leaf, want, rtol=0.05, atol=0.05 * float(jnp.abs(want).max()))


def test_what_only_hands_inputs_on_does_not_cast_them(key):
    """A float32 layer at the head of a half-precision model sees the data as they are."""

    @jl.layer
    def Shifted(by: float):
        return jl.no_params, lambda params, x: x - by

    x = jnp.array([[10001.0], [10002.0]])
    node = jl.Input((1,))
    shifted = Shifted(10000.0, name="shifted")
    for net in (
        jl.Sequential(jl.Input((1,)), shifted, jl.Identity()),
        jl.Sequential(jl.Remat(jl.Sequential(shifted, jl.Identity()))),
        jl.Model(node, jl.Identity()(shifted(node))),
    ):
        half = jl.with_precision(net, {"**": "mixed_bfloat16", "**/shifted": "float32"})
        y, _ = half.apply({}, {}, x)
        assert (y.dtype, y.ravel().tolist()) == (jnp.bfloat16, [1.0, 2.0])
    rounded, _ = jl.with_precision(jl.Sequential(shifted), "bfloat16").apply({}, {}, x)
    assert rounded.ravel().tolist() == [0.0, 0.0]


def test_only_floating_leaves_are_cast():
    @jax.tree_util.register_pytree_node_class
    class Held:
        """Values with a mask."""

        def __init__(self, values, mask):
            self.values, self.mask = values, mask

        def tree_flatten(self):
            return (self.values, self.mask), None

        tree_unflatten = classmethod(lambda cls, _, leaves: cls(*leaves))

    seen = {}

    def look(held, ids):
        seen.update(values=held.values.dtype, mask=held.mask.dtype, ids=ids.dtype)
        return held

    lamb = jl.Lambda(look, precision=jl.Policy("float32", "float16", output="float32"))
    y, _ = lamb.apply({}, {}, Held(jnp.ones(2), jnp.array([True, False])), jnp.arange(2))
    assert {name: str(dtype) for name, dtype in seen.items()} == {
        "values": "float16",
        "mask": "bool",
        "ids": "int32",
    }
    assert (y.values.dtype, y.mask.dtype) == (jnp.float32, bool)
    ids = jax.ShapeDtypeStruct((2, 3), jnp.int32)
    assert dtypes(jl.Embedding(5, 2, precision="mixed_bfloat16"), ids) == ({"float32"}, set(), {"bfloat16"})


# -------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", HALF)
def test_statistics_are_taken_in_float32(dtype, key):
    """Where half precision loses the variance to a large mean, overflows in squares, or stops counting."""
    spacing = 64.0 if dtype == "bfloat16" else 8.0  # of numbers near 10,000
    steps = np.arange(16.0).reshape(4, 4) * spacing
    near = (8192.0 if dtype == "bfloat16" else 10000.0) + steps
    large = np.array([[-30000.0, 20000.0, 10000.0, 25000.0]] * 4) * (1 + steps / 4096)
    ones = np.ones((1, 4096), np.float32)
    groups = {"groups": 1}
    cases = [
        (jl.LayerNormalization, {}, near),
        (jl.LayerNormalization, {}, large),
        (jl.GroupNormalization, groups, near),
        (jl.GroupNormalization, groups, large),
        (jl.BatchNormalization, {}, near),
        (jl.BatchNormalization, {}, large),
        (jl.RMSNormalization, {}, large),
        (jl.UnitNormalization, {}, large),
        (jl.UnitNormalization, {}, ones),
        (jl.Softmax, {}, ones),
        (jl.Activation, {"activation": "softmax"}, ones),
        (jl.Activation, {"activation": "log_softmax"}, ones),
        (jl.Activation, {"activation": "sparsemax"}, ones),
    ]
    arrays = [jnp.asarray(x, dtype) for _, _, x in cases]

    def run(xs):
        outputs = []
        for (make, arguments, _), half in zip(cases, xs, strict=True):
            for layer, x in (
                (make(**arguments, precision=dtype), half),
                (make(**arguments), half.astype("float32")),
            ):
                outputs.append(layer.apply(*layer.init(key, x), x, train=True)[0])
        return outputs

    outputs = jax.jit(run)(arrays)
    for case, half, whole in zip(cases, outputs[::2], outputs[1::2], strict=True):
        assert half.dtype == dtype
        half = np.asarray(half, np.float32)
        assert np.any(half), case
        np.testing.assert_allclose(half, whole, rtol=1e-2, atol=1e-3, err_msg=str(case))


@pytest.mark.parametrize("dtype", HALF)
def test_attention_weights_sum_in_float32(dtype, key):
    """Over 4096 equal keys; half precision stops counting at 256 or 2048. The scores overflow float16."""
    length = 4096
    value = jnp.ones((1, length, 1, 2))
    query = jnp.full((1, 1, 1, 2), 300.0)
    keys = jnp.full((1, length, 1, 2), 300.0)  # a product of 180,000
    flat = [x[:, :, 0] for x in (query, value, keys)]

    def run(params):
        y, _ = jl.Attention(precision=dtype).apply({}, {}, *flat)
        plain = jl.ops.attention.dot_product_attention(*(x.astype(dtype) for x in (query, keys, value)))
        return y, plain

    for y in jax.jit(run)({}):
        assert y.dtype == dtype
        np.testing.assert_allclose(np.asarray(y, np.float32), 1.0, rtol=1e-2)


KERAS = [
    ("Dense", (4, 6), {"units": 3, "activation": "tanh"}),
    ("Conv2D", (2, 5, 5, 3), {"filters": 4, "kernel_size": 3}),
    ("LSTM", (2, 5, 3), {"units": 4, "recurrent_initializer": "zeros"}),
    ("LayerNormalization", (3, 6), {}),
    ("BatchNormalization", (6, 3), {}),
    ("Softmax", (3, 5), {}),
]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize(("name", "shape", "arguments"), KERAS, ids=[name for name, _, _ in KERAS])
def test_policies_compute_what_keras_computes(name, shape, arguments, policy):
    x = jnp.asarray(data(shape))

    def run_keras():
        theirs = getattr(keras.layers, name)(**arguments, dtype=policy)
        theirs.build(shape)
        rng = np.random.default_rng(0)
        for v in theirs.variables:
            if "seed" not in v.path:
                value = rng.normal(size=v.shape)
                v.assign(np.abs(value) + 0.5 if "variance" in v.name else value)
        return theirs(x), {v.name: v.value for v in theirs.variables if "seed" not in v.path}

    expected, values = keras_values(run_keras)
    ours = getattr(jl, name)(**arguments, precision=policy)
    params, state = jax.eval_shape(lambda: ours.init(jax.random.key(0), x))
    values = jax.tree.map(jnp.asarray, values)
    assert {k: p.dtype for k, p in params.items()} == {k: values[k].dtype for k in params}
    # In Keras, running statistics have the dtype of the parameters; here they stay in float32.
    assert all(leaf.dtype == jnp.float32 for leaf in state.values())
    got, _ = ours.apply({k: values[k] for k in params}, {k: values[k].astype(jnp.float32) for k in state}, x)
    assert got.dtype == expected.dtype
    got, expected = (np.asarray(y, np.float32) for y in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=2**-7, atol=2**-7 * float(np.abs(expected).max()))


# -------------------------------------------------------------------------------------------- float64


def test_float64_needs_64_bits_and_says_how(key):
    with pytest.raises(ValueError, match=r"64 bits to be enabled for precision='float64'.*JAX_ENABLE_X64=1"):
        jl.Dense(2, precision="float64").init(key, (1, 2))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_float64_agrees_with_numpy_to_twelve_digits():
    rng = np.random.default_rng(0)
    image, sequence, y = rng.normal(size=(2, 4, 4, 2)), rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 2))
    with jax.enable_x64(True):
        key = jax.random.key(0)
        cnn = jl.Sequential(jl.Conv2D(3, 2, activation="relu"), jl.Flatten(), jl.Dense(2))
        cnn = jl.with_precision(cnn, "float64")
        params, state = jax.jit(lambda: cnn.init(key, image.astype(np.float32)))()
        assert {str(p.dtype) for p in jax.tree.leaves(params)} == {"float64"}
        p = jax.tree.map(np.asarray, params)
        windows = np.lib.stride_tricks.sliding_window_view(image, (2, 2), (1, 2))  # ends in (c, h, w)
        hidden = np.einsum("nijchw,hwco->nijo", windows, p["conv2d"]["kernel"]) + p["conv2d"]["bias"]
        want = np.maximum(hidden, 0).reshape(2, -1) @ p["dense"]["kernel"] + p["dense"]["bias"]
        got = jax.jit(cnn.apply)(params, state, image)[0]
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)

        # The loss, and a step: d(mean square)/d(bias) is the mean over rows of 2 (y' - y) / columns.
        trainer = jl.compile(cnn, {"sgd": {"learning_rate": 0.5}}, "mse", metrics=["mae"])
        before = trainer.init(key, image, params=params, state=state)
        after, logs = trainer.train_step(before, (image, y))
        np.testing.assert_allclose(logs["loss"], np.mean((want - y) ** 2), rtol=1e-12)
        bias = p["dense"]["bias"] - 0.5 * np.mean(want - y, axis=0)
        np.testing.assert_allclose(after.params["dense"]["bias"], bias, rtol=1e-12, atol=1e-12)

        lstm = jl.LSTM(4)  # float64 inputs alone do it, too
        params, state = jax.jit(lambda: lstm.init(key, sequence))()
        p = jax.tree.map(np.asarray, params)
        h = c = np.zeros((2, 4))
        for t in range(3):
            z = sequence[:, t] @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]
            i, f, g, o = np.split(z, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(jax.jit(lstm.apply)(params, state, sequence)[0], h, rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------------------- configurations

EXPERIMENT = """
data: digits
model: {Sequential: [Flatten, {Dense: {units: 8, name: base}}, {Dense: {units: 10, name: head}}]}
freeze: [base]
loss: {sparse_categorical_crossentropy: {from_logits: true}}
"""


def test_an_experiment_sets_its_precision():
    made = config.loads(EXPERIMENT, ["precision=mixed_bfloat16"])
    assert made.model.precision["head"] == get("mixed_bfloat16")
    assert made.model.frozen == {"base"}
    assert made.to_data()["precision"] == "mixed_bfloat16"
    by_path = config.loads(
        EXPERIMENT + "precision: {'**': mixed_float16, head: {Policy: {output: float32}}}\n"
    )
    assert by_path.model.precision["head"] == jl.Policy(output="float32")
    assert computes_in(by_path.model, "float16")
    inner = config.loads(EXPERIMENT.replace("name: head", "name: head, precision: bfloat16"))
    assert inner.model.precision == {"head": get("bfloat16")}
    assert config.loads(EXPERIMENT).to_data()["precision"] is None


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("mixed_bfloat61", "precision: unknown policy 'mixed_bfloat61': did you mean 'mixed_bfloat16'"),
        ("{head: flot32}", "precision.head: unknown policy 'flot32': did you mean 'float32'"),
        (
            "{hed: float32}",
            "precision.hed: the pattern 'hed' matches no layer of the model: did you mean 'head'",
        ),
        ("{Policy: {compute: half}}", "precision.Policy.compute: expected one of 'float16', 'bfloat16'"),
        ("{Policy: {computes: float16}}", "Policy takes no 'computes' .* did you mean 'compute'"),
        ("16", "precision: expected a mapping of names to policies"),
    ],
)
def test_a_wrong_precision_is_told_with_its_place(precision, words):
    with pytest.raises(config.ConfigError, match=f"<text>:6: .*{words}".replace(".*precision", "precision")):
        config.loads(EXPERIMENT + f"precision: {precision}\n")
