"""Keras's models and files: taken over with equal numbers, and written so that Keras takes them back."""

import contextlib

import h5py
import jax
import keras
import keras_values
import numpy as np
import pytest
from keras_parity import relaxed

import jlayers as jl

L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras


def nested():
    image = keras.Input((6, 6, 3), name="image")
    x = L.BatchNormalization(name="norm")(L.Conv2D(4, 3, name="conv")(image))
    base = keras.Model(image, L.DepthwiseConv2D(2, activation="relu", name="depth")(x), name="base")
    start = keras.Input((6, 6, 3), name="start")
    x = L.Reshape((9, 4), name="rows")(base(start))
    x = L.Bidirectional(L.LSTM(2, return_sequences=True), name="both")(x)
    x = L.MultiHeadAttention(2, 3, name="attention")(x, x, use_causal_mask=True)
    x = L.TimeDistributed(L.Dense(3), name="each")(L.Dropout(0.5, name="drop")(x))
    return keras.Model(start, 1 - L.GRU(2, name="gru")(x) * 2, name="whole"), [(2, 6, 6, 3)]


def shared():
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    encode, norm = L.Dense(3, activation="gelu", name="encode"), L.LayerNormalization(name="norm")
    both = {"sum": L.Add(name="sum")([encode(a), encode(b)]), "all": L.Concatenate(name="all")([norm(a), b])}
    return keras.Model([a, b], both, name="shared"), [(2, 5), (2, 5)]


def chain():
    members = [
        keras.Input((8, 2), name="start"),
        L.SeparableConv1D(4, 3, padding="same", name="separable"),
        L.Conv1DTranspose(3, 3, strides=2, name="up"),
        L.PReLU(name="slopes"),
        L.GroupNormalization(1, name="groups"),
        L.SimpleRNN(3, return_sequences=True, name="rnn"),
        L.RNN(L.LSTMCell(2), name="cells"),
    ]
    return keras.Sequential(members, name="chain"), [(2, 8, 2)]


MODELS = {model.__name__: model for model in (nested, shared, chain)}


def made(name):
    """A model with weights at random, variances above 0, and the shapes of its inputs."""
    rng = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        for option in relaxed():
            stack.enter_context(option)
        model, shapes = MODELS[name]()
    for variable in model.weights:
        value = rng.normal(size=variable.shape).astype("float32")
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    return model, shapes


def inputs_of(shapes):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def compare(got, want, tolerance=1e-5):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b)) <= tolerance * max(np.ptp(b), 1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_object_with_equal_numbers(name):
    theirs, shapes = made(name)
    xs = inputs_of(shapes)
    want = keras_values.keras_values(lambda: theirs(xs if len(xs) > 1 else xs[0], training=False))
    model, params, state = jl.from_keras(theirs)
    compare(jax.jit(lambda p, s, *x: model.apply(p, s, *x)[0])(params, state, *xs), want)
    named = [layer.name for layer in theirs.layers if layer.weights]
    assert set(named) == {*params, *state}
    made_anew = jax.eval_shape(model.init, jax.random.key(0), *xs)
    assert jax.tree.structure(made_anew) == jax.tree.structure((params, state))


def unsupported(layer):
    start = keras.Input((4,), name="start")
    inner = keras.Model(start, layer(start), name="inner")
    return keras.Sequential([keras.Input((4,)), inner], name="outer")


class Own(L.Layer):
    def call(self, x):
        return x


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: unsupported(Own(name="mine")), "inner/mine: there is no layer Own here"),
        (lambda: unsupported(lambda x: keras.ops.erf(x)), "inner/erf: there is no operation Erf on nodes"),
        (
            lambda: unsupported(L.Lambda(lambda x: x * 2, name="code")),
            "inner/code/function: there is no layer",
        ),
        (lambda: keras.Sequential([L.Dense(2)], name="open"), "expected a built model, received 'open'"),
        (lambda: Subclassed(), "expected a built model"),
    ],
)
def test_what_has_nothing_like_it_is_named(make, message):
    with contextlib.ExitStack() as stack:
        for option in relaxed():
            stack.enter_context(option)
        model = make()
    with pytest.raises(ValueError, match=message):
        jl.from_keras(model)
    with pytest.raises(TypeError, match="expected a Keras model, received"):
        jl.from_keras(model.get_config)


APPLICATIONS = ["MobileNetV2", "ResNet50V2", "EfficientNetB0", "ConvNeXtTiny", "DenseNet121"]


@pytest.mark.live_keras
@pytest.mark.skipif("keras_values.mode != keras_values.LIVE")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_with_random_weights(name):
    """Whole networks, to 1e-5 of the range of the output."""
    rng = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        for option in relaxed():
            stack.enter_context(option)
        constructor = getattr(keras.applications, name)
        theirs = constructor(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None)
        for variable in theirs.weights:
            if variable.dtype != "float32":
                continue
            value = rng.normal(size=variable.shape).astype("float32") * 0.05
            if "kernel" in variable.path:
                value *= 25 / np.sqrt(np.prod(variable.shape[:-1]))
            if "variance" in variable.path:
                value = np.abs(value) + 0.5
            variable.assign(value + 1 if "gamma" in variable.path else value)
        x = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
        want = np.asarray(theirs(x, training=False))
    model, params, state = jl.from_keras(theirs)
    compare(jax.jit(lambda p, s, x: model.apply(p, s, x)[0])(params, state, x), want)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_files_of_keras(name, suffix, tmp_path):
    theirs, _ = made(name)
    path = tmp_path / f"model{suffix}"
    if suffix == ".weights.h5":
        theirs.save_weights(path)
    else:
        theirs.save(path)
    model, params, state = jl.from_keras(theirs)
    loaded = jl.load_weights(model, path.rename(tmp_path / "without_suffix"))
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves((params, state)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(loaded) == jax.tree.structure((params, state))


@pytest.mark.parametrize("name", MODELS)
def test_keras_takes_our_weights(name, tmp_path):
    theirs, _ = made(name)
    model, params, state = jl.from_keras(theirs)
    jl.save_weights(tmp_path / "ours.weights.h5", params, state, model=model)
    values = [np.asarray(variable.value) for variable in theirs.weights]
    for variable in theirs.weights:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    theirs.load_weights(tmp_path / "ours.weights.h5")
    for variable, value in zip(theirs.weights, values, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value, err_msg=variable.path)
    jl.save_weights(
        tmp_path / "sorted.weights.h5", *jax.jit(lambda *trees: trees)(params, state), model=model
    )
    loaded = jl.load_weights(model, tmp_path / "sorted.weights.h5")
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), loaded, (params, state)))


@pytest.mark.parametrize("name", MODELS)
def test_files_that_do_not_name_layers(name, tmp_path):
    """Keras's first `.weights.h5` files say of a layer its class and number."""
    theirs, _ = made(name)
    model, params, state = jl.from_keras(theirs)
    path = tmp_path / "old.weights.h5"
    theirs.save_weights(path)

    def forget(_, group):
        group.attrs.pop("name", None)

    with h5py.File(path, "r+") as file:
        file.visititems(forget)
    loaded = jl.load_weights(model, path)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), loaded, (params, state)))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_spectral_normalization_there_and_back(suffix, tmp_path):
    """Of a kernel whose singular value is 1, Keras's inference and ours give the same."""
    rng = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        for option in relaxed():
            stack.enter_context(option)
        members = [keras.Input((5,)), L.SpectralNormalization(L.Dense(3, name="inner"), name="norm")]
        theirs = keras.Sequential(members, name="net")
    kernel, x = rng.normal(size=(5, 3)), rng.normal(size=(2, 5)).astype("float32")
    _, sigma, v = np.linalg.svd(kernel)
    theirs.set_weights([kernel / sigma[0], v[:1], rng.normal(size=3)])
    path = tmp_path / f"model{suffix}"
    (theirs.save_weights if suffix == ".weights.h5" else theirs.save)(path)
    model = jl.Sequential(jl.Input((5,)), jl.SpectralNormalization(jl.Dense(3, name="inner"), name="norm"))
    params, state = jl.load_weights(model, path)
    np.testing.assert_allclose(state["norm"]["vector_u"], v[:1], rtol=1e-6)
    want = keras_values.keras_values(lambda: theirs(x, training=False))
    compare(np.asarray(model.apply(params, state, x)[0]), np.asarray(want))
    values = theirs.get_weights()
    jl.save_weights(tmp_path / "ours.weights.h5", params, state, model=model)
    theirs.set_weights([np.zeros_like(value) for value in values])
    theirs.load_weights(tmp_path / "ours.weights.h5")
    for variable, value in zip(theirs.get_weights(), values, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_normalization_that_has_learned_something_else(tmp_path):
    model = jl.Sequential(jl.Input((2,)), jl.Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0], name="n"))
    model = jl.Sequential(*model.children.values(), jl.Dense(1, name="d"))
    arrays = {"d/kernel": np.ones((2, 1)), "d/bias": np.ones(1), "n/count": np.array(3)}
    equal = {"n/mean": np.array([[1.0, 2.0]]), "n/variance": np.array([[1.0, 4.0]])}
    params, _ = jl.load_weights(model, {**equal, **arrays})
    assert list(params) == ["d"]
    with pytest.raises(
        ValueError, match=r"expected n with mean=\[0.0, 2.0\], as the source has it, not \[1.0, 2.0\]"
    ):
        jl.load_weights(model, {**equal, "n/mean": np.array([[0.0, 2.0]]), **arrays})
