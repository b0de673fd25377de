"""What errors know besides their texts: the argument, the layer, and the path in the model."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.config import ConfigError, loads
from jlayers.core.errors import about, add_name, concerning, details_of, refused
from jlayers.interop.keras_config import UnsupportedError, layer_of


@jl.layer
def Plain(units: int = 1):
    if units < 1:
        raise refused(ValueError, "expected units >= 1", units=units)

    def init(key, x):
        if x.ndim != 2:
            raise refused(ValueError, "expected rows of features", x, instead="flatten it")
        return {}

    def apply(params, x):
        if x.shape[-1] != units:
            raise refused(TypeError, "expected as many features as units", x, units=units)
        return x

    return init, apply


@jl.layer
def Around(units: int = 1):
    return Plain(units)


@jl.layer
def Halves(size: int = 1):
    return Plain(size // 2)


def raised(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    return caught.value


def test_constructor_adds_the_name_of_its_layer():
    error = raised(lambda: Plain(0))
    assert type(error) is ValueError
    assert str(error) == "Plain: expected units >= 1, received units=0"
    details = details_of(error)
    assert (details.argument, details.received, details.raised_by) == ("units", {"units": 0}, "Plain")


def test_an_argument_that_was_passed_on_is_of_the_outer_layer():
    assert str(raised(lambda: Around(0))) == "Around: expected units >= 1, received units=0"
    assert str(raised(lambda: Halves(1))) == "Plain: expected units >= 1, received units=0"


def test_init_and_apply_add_the_name_and_the_input():
    error = raised(lambda: Plain(2).init(jax.random.key(0), (1, 2, 3)))
    assert str(error) == "Plain: expected rows of features, received float32(1, 2, 3); flatten it"
    error = raised(lambda: Plain(2).apply({}, {}, jnp.ones((1, 3))))
    assert type(error) is TypeError
    assert str(error) == ("Plain: expected as many features as units, received units=2, float32(1, 3)")


def test_container_adds_the_whole_path_once():
    model = jl.Sequential(jl.Sequential(Plain(2), name="inner"), name="outer")
    error = raised(lambda: jl.Sequential(model).init(jax.random.key(0), (1, 2, 3)))
    details = details_of(error)
    assert details.path == "outer/inner/plain"
    assert details.note in error.__notes__
    assert details.note == "in layer 'outer/inner/plain': Plain(units=2), inputs float32(1, 2, 3)"


def test_errors_of_others_keep_their_text():
    @jl.layer
    def Foreign():
        def apply(params, x):
            raise ValueError("as it was")

        return jl.no_params, apply

    assert str(raised(lambda: Foreign().apply({}, {}, jnp.ones(2)))) == "as it was"


def test_a_name_that_stands_there_stays():
    error = refused(ValueError, "expected a shape", raised_by="Input", shape=3)
    add_name(error, "Dense")
    assert str(error) == "Input: expected a shape, received shape=3"


def test_a_question_follows_a_colon():
    error = refused(ValueError, "expected padding", instead="did you mean 'same'?", padding="sam")
    assert str(error) == "expected padding, received padding='sam': did you mean 'same'?"


def test_details_go_through_pickle():
    error = pickle.loads(pickle.dumps(raised(lambda: Plain(0))))
    assert details_of(error).argument == "units"


def test_what_a_registry_makes_bears_its_name_when_made_and_when_called():
    @jl.regularizers.register
    def refusing(scale: float = 1.0):
        if scale < 0:
            raise refused(ValueError, "expected scale >= 0", scale=scale)

        def penalty(x):
            raise refused(TypeError, "expected a matrix", x)

        return penalty

    assert str(raised(lambda: refusing(-1.0))) == "refusing: expected scale >= 0, received scale=-1.0"
    assert str(raised(lambda: refusing()(jnp.ones(2)))) == (
        "refusing: expected a matrix, received float32(2,)"
    )


def test_configuration_finds_the_line_of_the_argument():
    text = "data: digits\nloss: mse\nmodel:\n  Around:\n    units: 0\n"
    with pytest.raises(ConfigError) as caught:
        loads(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (5, ("model", "Around", "units"))


NODES = """
data: digits
model:
  Model:
    inputs: x
    nodes:
      x: {input: [8, 8, 1]}
      flat: {layer: Flatten, inputs: [x]}
      again: {shared: flot, inputs: [flat]}
      score: {layer: {Dense: 10}, inputs: [again]}
    outputs: score
loss: mse
"""


def problem_of(text):
    with pytest.raises(ConfigError) as caught:
        loads(text).check()
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (NODES, 9, "shared='flot' is not a layer: did you mean 'flat'"),
        (NODES.replace("flot", "flat").replace("[flat]", "[y]"), 9, "node 'again' reads 'y'"),
        (NODES.replace("inputs: x", "inputs: z"), 5, "the outputs need 'x'"),
        (NODES.replace("outputs: score", "outputs: scores"), 11, "the outputs name 'scores'"),
        (
            "data:\n  csv:\n    path: nowhere.csv\n    target: y\nmodel: {Dense: 1}\nloss: mse\n",
            3,
            "nowhere.csv",
        ),
        (
            "data: digits\nmodel:\n  Sequential: [Flatten, {Dense: 10}]\nprecision:\n  dense: bfloat16\n"
            "  dence: float16\nloss: mse\n",
            6,
            "the pattern 'dence' matches no layer",
        ),
    ],
)
def test_a_line_of_the_file_is_found_by_the_argument_and_the_place_inside_it(text, line, message):
    problem = problem_of(text)
    assert message in problem.message
    assert problem.line == line, problem


def test_a_column_that_is_not_there_is_told_at_its_name(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n3,4\n")
    text = f"data:\n  csv:\n    path: {tmp_path}/t.csv\n    target: yy\nmodel: {{Dense: 1}}\nloss: mse\n"
    problem = problem_of(text)
    assert (problem.line, "no column 'yy'" in problem.message) == (4, True)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda m: jl.cut(m, "dence"), ("at",)),
        (lambda m: jl.replace_head(m, jl.Dense(2), after="dence"), ("after",)),
        (lambda m: jl.insert(m, jl.Dense(2), after="dence"), ("after",)),
        (lambda m: jl.cut(jl.Residual(m), "dense"), ("model",)),
        (lambda m: jl.Tap(m, at="dence"), ("at",)),
        (lambda m: jl.substitute(m, {"dence": jl.Residual}), ("wraps", "dence")),
        (lambda m: jl.with_precision(m, {"dence": "float16"}), ("precision", "dence")),
        (lambda m: jl.Sequential(jl.Dense(1), 3), ("layers", 1)),
        (lambda m: jl.Model(jl.Input((3,)), 3), ("outputs",)),
    ],
)
def test_surgery_says_which_argument_it_refuses(call, place):
    model = jl.Sequential(jl.Dense(3), jl.Dense(2))
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call(model)
    assert details_of(caught.value).place == place


def test_an_argument_handed_on_under_another_name_is_told_by_the_outer_one():
    with pytest.raises(ValueError, match="no such layer") as caught, concerning(after=(value := object())):
        raise about(ValueError("no such layer"), at=value)
    assert details_of(caught.value).argument == "after"
    with pytest.raises(ValueError, match="no such layer") as caught, concerning(after="x"):
        raise about(ValueError("no such layer"), at="y")
    assert details_of(caught.value).argument == "at"


def test_a_loss_of_an_output_that_is_not_there_is_told_at_its_name():
    text = (
        "data: {parts: {data: digits, axis: 2, names: [a, b]}}\nmodel:\n  Model:\n"
        "    inputs: {a: a, b: b}\n    nodes:\n      a: {input: [8, 4, 1]}\n      b: {input: [8, 4, 1]}\n"
        "      u: {layer: Flatten, inputs: a}\n      v: {layer: Flatten, inputs: b}\n"
        "    outputs: {u: u, v: v}\nloss:\n  u: mse\n  w: mse\n"
    )
    experiment = loads(text)
    x, y = experiment.data.train
    with pytest.raises(ConfigError) as caught, experiment.located_layer():
        jl.fit(experiment.compile(), x, {"u": y, "v": y}, epochs=0)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (13, ("loss", "w"))
    assert "loss names the output 'w', which the model does not have" in problem.message


X, Y = np.ones((6, 3), np.float32), np.zeros(6, np.int32)
CLASSES = jl.compile(jl.Dense(2), loss=jl.losses.SparseCategoricalCrossentropy(from_logits=True))
NUMBERS = jl.compile(jl.Dense(2), loss="mse")
WEIGHTS = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}, {}
NAN = np.full((6, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda: jl.fit(3, X), ("trainer",)),
        (lambda: jl.fit(CLASSES, X, Y, verbose=0), ("verbose",)),
        (lambda: jl.fit(CLASSES, X, Y[:5]), ("y",)),
        (lambda: jl.fit(CLASSES, NAN, Y), ("x",)),
        (lambda: jl.fit(CLASSES, X[:, :0], Y), ("x",)),
        (lambda: jl.fit(CLASSES, X[:0], Y[:0]), ("x",)),
        (lambda: jl.fit(CLASSES, X, Y.astype(str)), ("y",)),
        (lambda: jl.fit(CLASSES, X, Y + 2), ("y", 0)),
        (lambda: jl.fit(CLASSES, X, Y, sample_weight=[1.0]), ("sample_weight",)),
        (lambda: jl.fit(CLASSES, [(X, Y)], sample_weight=Y), ("sample_weight",)),
        (lambda: jl.fit(CLASSES, 3), ("x",)),
        (lambda: jl.fit(CLASSES, iter([(X, Y)]), epochs=2), ("x",)),
        (lambda: jl.fit(CLASSES, []), ("x",)),
        (lambda: jl.fit(CLASSES, [{"a": X, "b": Y}]), ("x",)),
        (lambda: jl.fit(CLASSES, X, Y, epochs=-1), ("epochs",)),
        (lambda: jl.fit(CLASSES, X, Y, batch_size=0), ("batch_size",)),
        (lambda: jl.fit(CLASSES, [(X, Y)], batch_size=2), ("batch_size",)),
        (lambda: jl.fit(CLASSES, X, Y, shuffle=3), ("shuffle",)),
        (lambda: jl.fit(CLASSES, X, Y, seed=-1), ("seed",)),
        (lambda: jl.fit(CLASSES, X, Y, steps_per_epoch=9), ("steps_per_epoch",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_steps=9), ("validation_steps",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_data=(X, Y), validation_steps=9), ("validation_steps",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_data=(X,)), ("validation_data",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_data=(NAN, Y)), ("validation_data", "x")),
        (lambda: jl.fit(CLASSES, X, Y, validation_data=3), ("validation_data",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_split=2), ("validation_split",)),
        (lambda: jl.fit(CLASSES, X, Y, validation_split=0.99), ("validation_split",)),
        (lambda: jl.fit(CLASSES, [(X, Y)], validation_split=0.5), ("validation_split",)),
        (lambda: jl.fit(CLASSES, X, Y, class_weight={7: 1.0}), ("class_weight", "7")),
        (lambda: jl.fit(CLASSES, X, X, class_weight={0: 1.0}), ("class_weight",)),
        (lambda: jl.fit(CLASSES, X, Y, callbacks=[3]), ("callbacks",)),
        (lambda: jl.fit(CLASSES, X, Y, checkpoints=3), ("checkpoints",)),
        (lambda: jl.fit(CLASSES, X, Y, state=3), ("state",)),
        (lambda: jl.fit(CLASSES, X, Y, steps_per_call=0), ("steps_per_call",)),
        (lambda: jl.fit(CLASSES, X, Y, cache_features=3), ("cache_features",)),
        (lambda: jl.fit(CLASSES, X, Y, cache_features=True), ("cache_features",)),
        (lambda: jl.fit(NUMBERS, X, X), ("loss",)),
        (lambda: jl.fit(NUMBERS, X), ("y",)),
        (lambda: jl.compile(3), ("model",)),
        (lambda: jl.compile(jl.Dense(1)), ("loss",)),
        (lambda: jl.compile(jl.Dense(1), "adm", "mse"), ("optimizer",)),
        (lambda: jl.compile(jl.Dense(1), "mse"), ("optimizer",)),
        (lambda: jl.compile(jl.Dense(1), loss="mes"), ("loss",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", metrics=["mea"]), ("metrics",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", weighted_metrics="mea"), ("weighted_metrics",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", augment=3), ("augment",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", loss_scale=0), ("loss_scale",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", accumulate=0), ("accumulate",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", ema=1), ("ema",)),
        (lambda: jl.compile(jl.Dense(1), loss="mse", unfreeze={1: "a"}), ("unfreeze", 1)),
        (lambda: jl.evaluate(3, WEIGHTS, X, Y), ("trainer",)),
        (lambda: jl.evaluate(CLASSES, 3, X, Y), ("state",)),
        (lambda: jl.evaluate(CLASSES, WEIGHTS, NAN, Y), ("x",)),
        (lambda: jl.evaluate(CLASSES, WEIGHTS, X, Y, steps=9), ("steps",)),
        (lambda: jl.evaluate(CLASSES, WEIGHTS, X, Y + 2), ("y", 0)),
        (lambda: jl.predict(3, WEIGHTS, X), ("trainer",)),
        (lambda: jl.predict(CLASSES, 3, X), ("state",)),
        (lambda: jl.predict(CLASSES, WEIGHTS, NAN), ("x",)),
        (lambda: jl.predict(CLASSES, WEIGHTS, X, batch_size=0), ("batch_size",)),
        (lambda: jl.load_weights(CLASSES.model, {"a": X}, X), ("source",)),
        (lambda: jl.load_weights(CLASSES.model, {"kernel": X}, X, to="a"), ("to",)),
        (lambda: jl.load_weights(CLASSES.model, [jl.Weights({"a": X})], X), ("source", 0, "source")),
        (lambda: jl.load_weights(CLASSES.model, {"a": X}, X, rename={"b": "c"}), ("rename", "b")),
        (lambda: jl.load_weights(CLASSES.model, {"a": X}, X, by="name"), ("by",)),
    ],
)
def test_the_argument_that_is_refused_is_on_the_record(call, place):
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call()
    assert details_of(caught.value).place == place


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npz", b"PK\x03\x04 no zip file"),
        ("a.pth", b"\x80\x02}q\x01"),
        ("b.pth", pickle.dumps(print, 2)),
        ("a.h5", b"\x89HDF\r\n\x1a\n and nothing more"),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}!"),
        ("a.txt", b"some text"),
    ],
)
def test_a_file_that_a_reader_refuses_is_on_the_record(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        jl.interop.read(path)
    assert details_of(caught.value).file == path


def test_a_layer_of_keras_that_there_is_not_has_its_path():
    described = {"class_name": "Dens", "config": {"name": "d"}, "module": "keras.layers"}
    with pytest.raises(UnsupportedError, match="there is no layer Dens here") as caught:
        layer_of({"class_name": "Sequential", "config": {"name": "s", "layers": [described]}}, {}, "s")
    assert details_of(caught.value).path == "s/d"
