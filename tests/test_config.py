"""Configurations: strict reading, derived checking, errors with line and path, overrides, JSON Schema."""

import contextlib
import dataclasses
import json
import math
import pathlib
import warnings
from typing import Annotated, Any, Literal

import jax
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jlayers as jl
from jlayers import config
from jlayers.config import ConfigError
from jlayers.config.derive import derive
from jlayers.config.reader import read_text
from jlayers.config.signatures import KINDS, arguments, documentation, registry_of, shown
from jlayers.config.types import adapter
from jlayers.core.registry import Kind
from jlayers.core.spec import to_data

BASE = """\
data: digits
model:
  Sequential:
    - Flatten
    - Dense: {units: 10, activation: softmax}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: {learning_rate: 0.01}}
training: {epochs: 3}
"""


@jl.layer
def ToyBlock(
    width: int,
    size: int | tuple[int, int] = 1,
    mode: Literal["same", "valid"] = "same",
    inner: jl.core.layer.LayerLike | None = None,
    several: list[jl.core.layer.LayerLike] | None = None,
    scale: float = 1.0,
    flag: bool = False,
    anything: Any = None,
    function: type[int] | None = None,
):
    """A block for tests.

    Args:
        width: how wide it is,
            over two lines.
        size: of the window.
    """
    if width < 0:
        raise ValueError(f"expected a positive width, received width={width}")
    return (lambda key, x: {}), (lambda params, x: x)


def with_model(model: str) -> str:
    return f"data: digits\nmodel: {model}\nloss: mse\n"


def problems(text: str, *overrides: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as error:
        config.loads(text, overrides)
    return [(p.line, ".".join(map(str, p.path)), p.message) for p in error.value.problems]


# ------------------------------------------------------------------------------------------ reading


def test_plain_values_of_yaml_1_2():
    text = "a: [1e-3, 0x10, .inf, -3, 1_000, true, ~, yes, 2020-01-01, '5', 010]"
    assert read_text(text).data == {
        "a": [1e-3, 16, math.inf, -3, 1000, True, None, "yes", "2020-01-01", "5", 10]
    }


def test_lines_and_columns_of_every_path():
    places = read_text("a: 1\nb:\n  - c: 2\n    d: 3\n").places
    assert places["a",][:3] == (1, 1, "<text>")
    assert places["b", 0, "d"][:3] == (4, 5, "<text>")


def test_aliases_are_copies():
    data = read_text("a: &x {c: [1]}\nb: *x\n").data
    assert data["b"] == data["a"]
    assert data["b"] is not data["a"]


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "second time, first on line 1"),
        ("a: {b: 1, 'b': 2}", 1, "second time"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']", 2, "without tags"),
        ("a: !env HOME", 1, "without tags"),
        ("a: !!binary aGk=", 1, "without tags"),
        ("a: &a {b: 1}\nc:\n  <<: *a", 3, "merging"),
        ("? [a, b]\n: 1", 1, "text as a key"),
        ("a: [1, 2", 1, "not YAML"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: " + "9" * 5000, 1, "expected a number"),
        ("[" * 100 + "]" * 100, 1, "at most 64 levels"),
        ("a: &a [*a]", 1, "expand to too much, or without end"),
        (BOMB, 6, "expand to too much"),
        ("[" + "1," * 60_000 + "]", 1, "at most 50,000 values"),
    ],
)
def test_documents_that_are_refused(text, line, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_text(text)
    assert error.value.problems[0].line == line


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('!!int ""', "expected a whole number, received ''"),
        ("!!int 1.5", "expected a whole number, received '1.5'"),
        ("!!null maybe", "expected null, received 'maybe'"),
        ("!!bool maybe", "expected true or false, received 'maybe'"),
        ("!!float x", "expected a number, received 'x'"),
        ("!!float ''", "expected a number, received ''"),
    ],
)
def test_a_tag_does_not_make_a_value_of_something_else(value, message):
    with pytest.raises(ConfigError, match=f"<text>:2: a.b: {message}"):
        read_text(f"a:\n  b: {value}\n")
    assert read_text("a: [!!int 3, !!float 3, !!null '', !!str 3]").data == {"a": [3, 3.0, None, "3"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("optimizer: {adam: {learning_rate: '1e-3'}}", "a number is written without quotes"),
        ("optimizer: {adam: {b1: .nan}}", "expected a number, received b1=nan"),
        ("optimizer: [clip]", "clip"),
        ("optimizer: [{clip: {max_delta: 1.0}}]", r"expected an optimizer.*\[clip, adam\]"),
        ("optimizer: {adamw: {weight_decay: 0.5, mask: exclude_bias}}", "patterns that fit parameters"),
        ("optimizer: {adamw: {mask: 3}}", "mask=3"),
        ("training: {early_stopping: {monitor: loss, min_delta: .nan}}", "expected a number"),
    ],
)
def test_what_an_optimizer_would_misunderstand_is_told_at_its_line(line, message):
    text = with_model("{Sequential: [Flatten, {Dense: 10}]}")
    with pytest.raises(ConfigError, match=rf"<text>:4: (optimizer|training).*{message}"):
        config.loads(text.replace("loss: mse", f"loss: sparse_categorical_crossentropy\n{line}")).check()


def test_patterns_of_decay_in_a_file():
    text = with_model("{Sequential: [Flatten, {Dense: 10}]}") + "optimizer: {adamw: {mask: '**/kernel'}}\n"
    made = config.loads(text)
    assert made.to_data()["optimizer"] == {"adamw": {"mask": "**/kernel"}}
    params, _ = made.model.init(jax.random.key(0), (1, 8, 8, 1))
    assert made.compile().optimizer.init(params)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: expected text in UTF-8"):
        config.load(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match="at most 1,048,576 bytes"):
        config.load(tmp_path / "large.yaml")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`,?# \n\t0.~<"), max_size=40))
def test_any_text_is_data_or_a_config_error(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ConfigError):
            json.dumps(read_text(text).data)


# ----------------------------------------------------------------------------------------- checking


def test_an_experiment_is_built():
    made = config.loads(BASE)
    assert repr(made.model) == "Sequential([Flatten(), Dense(10, activation='softmax')])"
    assert made.settings.training.epochs == 3
    assert made.settings.seed == 0
    assert made.data.sizes == (1438, 359)
    assert made.compile().metrics == ["accuracy"]


def test_all_problems_of_a_file_by_line():
    text = """\
data: {csv: {path: x.csv}}
model:
  Sequential:
    - Flaten
    - Dense: {units: "10", activation: softmx, kernel_regularizer: {l2: {l2: true}}}
    - Conv2D: {filters: 3, kernel_size: [3], strides: x, padding: vald}
    - Flatten: {}
      Dense: {units: 3}
    - 3
    - Dense
lss: 3
loss: {mse: {}}
optimizer: [{adam: {learning_rate: {cosine_decay_schedule: {init_value: 0.001}}}}, sdg]
training: {epochs: 1.5, batch_size: yes, early_stoping: {patience: 3}}
"""
    found = problems(text)
    layers = "model.Sequential.layers"
    schedule = "optimizer.0.adam.learning_rate.cosine_decay_schedule"
    expected = [
        (1, "data.csv", "csv needs 'target', which is missing"),
        (4, f"{layers}.0", "unknown layer 'Flaten': did you mean 'Flatten'?"),
        (5, f"{layers}.1.Dense.units", "expected a whole number, received units='10'"),
        (5, f"{layers}.1.Dense.activation", "unknown activation 'softmx': did you mean 'softmax'"),
        (5, f"{layers}.1.Dense.kernel_regularizer.l2.l2", "expected a number, received l2=True"),
        (
            6,
            f"{layers}.2.Conv2D.kernel_size",
            "expected a whole number or a list of 2 whole numbers, received",
        ),
        (
            6,
            f"{layers}.2.Conv2D.strides",
            "expected a whole number or a list of 2 whole numbers, received strides='x'",
        ),
        (6, f"{layers}.2.Conv2D.padding", "received padding='vald'"),
        (
            7,
            f"{layers}.3",
            "expected one layer as {name: {argument: value}}, received the keys 'Flatten', 'Dense'",
        ),
        (9, f"{layers}.4", "expected a layer by name, received 3"),
        (10, f"{layers}.5.Dense", "Dense needs 'units', which is missing"),
        (11, "lss", "the file takes no 'lss' (received lss=3): did you mean 'loss'?"),
        (13, schedule, "cosine_decay_schedule needs 'decay_steps', which is missing"),
        (13, "optimizer.1", "unknown optimizer 'sdg': did you mean 'sgd'?"),
        (14, "training.epochs", "expected a whole number, received epochs=1.5"),
        (14, "training.batch_size", "expected a whole number, received batch_size='yes'"),
        (14, "training.early_stoping", "training takes no 'early_stoping'"),
    ]
    assert [(line, path) for line, path, _ in found] == [(line, path) for line, path, _ in expected]
    for (_, _, message), (_, _, wanted) in zip(found, expected, strict=True):
        assert wanted in message


def test_message_says_file_line_and_path(tmp_path):
    (tmp_path / "e.yaml").write_text(BASE.replace("units", "unts"))
    with pytest.raises(ConfigError) as error:
        config.load(tmp_path / "e.yaml")
    assert str(error.value).splitlines()[1] == (
        f"{tmp_path / 'e.yaml'}:5: model.Sequential.layers.1.Dense.unts: Dense takes no 'unts' "
        f"(received unts=10): did you mean 'units'?"
    )


@pytest.mark.parametrize("text", ["", "3", "[1]", "just text"])
def test_a_file_of_another_form(text):
    assert problems(text)


@pytest.mark.parametrize(
    "arguments",
    [
        "{width: true}",
        "{width: 1.0}",
        "{width: '1'}",
        "{width: null}",
        "{width: 1, size: [1, 2, 3]}",
        "{width: 1, size: [1, true]}",
        "{width: 1, size: '3'}",
        "{width: 1, size: {a: 1}}",
        "{width: 1, mode: Same}",
        "{width: 1, scale: true}",
        "{width: 1, scale: '1e-3'}",
        "{width: 1, flag: 1}",
        "{width: 1, flag: 'true'}",
        "{width: 1, inner: {Dense: {units: '3'}}}",
        "{width: 1, several: Dense}",
        "{width: 1, several: [Flatten, {Dense: {}}]}",
        "{width: 1, function: abs}",
        "{width: 1, trainable: 1}",
        "{width: 1, name: 3}",
        "{wdth: 1}",
    ],
)
def test_nothing_is_coerced(arguments):
    assert all(line == 2 for line, _, _ in problems(with_model(f"{{ToyBlock: {arguments}}}")))


def test_what_fits_is_taken_as_it_is():
    made = config.loads(
        with_model(
            "{ToyBlock: {width: 3, size: [3, 4], mode: valid, inner: {Dense: 4}, "
            "several: [Flatten, Dropout: 0.5], scale: 2, flag: true, anything: {a: [1]}, name: toy}}"
        )
    ).model.spec.arguments
    assert made["size"] == (3, 4)
    assert made["scale"] == 2.0
    assert isinstance(made["scale"], float)
    assert [type(made[k]) for k in ("inner", "several")] == [jl.Layer, list]
    assert repr(made["several"]) == "[Flatten(), Dropout(0.5)]"
    assert made["anything"] == {"a": [1]}


def test_short_forms_mean_the_first_argument():
    long = config.loads(BASE.replace("Sequential:\n", "Sequential:\n   layers:\n"))
    short = config.loads(BASE)
    assert long.to_data() == short.to_data()
    assert repr(config.loads(with_model("{Dense: 3}")).model) == "Dense(3)"
    assert repr(config.loads(with_model("{Flatten: }")).model) == "Flatten()"


def test_names_in_snake_case():
    assert repr(config.loads(with_model("{dense: {units: 3}}")).model) == "Dense(3)"


def test_what_a_constructor_refuses_has_a_line():
    text = BASE.replace("units: 10", "units: -1").replace("epochs: 3", "epochs: 0")
    assert [(line, path) for line, path, _ in problems(text.replace("epochs: 0", "epochs: 1"))] == [
        (5, "model.Sequential.layers.1.Dense.units")
    ]
    found = problems(text)
    assert [(line, path) for line, path, _ in found] == [
        (5, "model.Sequential.layers.1.Dense.units"),
        (9, "training.epochs"),
    ]
    assert "received units=-1" in found[0][2]


def test_a_layer_that_does_not_fit_the_data_has_a_line():
    made = config.loads(
        "data: digits\nmodel:\n  Sequential:\n  - Conv2D: {filters: 1, kernel_size: 3}\n"
        "  - Sequential:\n    - Conv2D: {filters: 1, kernel_size: 9}\nloss: mse\n"
    )
    with pytest.raises(ConfigError) as error, made.located_layer():
        jl.summary(made.model, made.data.features)
    (problem,) = error.value.problems
    assert problem.line == 6
    assert "in layer 'sequential/conv2d'" in problem.message


def test_a_graph():
    text = """\
data: {parts: {data: digits, axis: 2, names: [a, b]}}
model:
  Model:
    inputs: {a: a, b: b}
    nodes:
      a: {input: [8, 4, 1]}
      b: {input: [8, null, 1]}
      flat: {layer: Flatten, inputs: a}
      flat2: {shared: flat, inputs: b}
      both: {layer: {Concatenate: {}}, inputs: [flat, flat2]}
      out: {layer: {Dense: 10}, inputs: both}
    outputs: out
loss: {sparse_categorical_crossentropy: {from_logits: true}}
"""
    made = config.loads(text)
    assert made.model.children["out"].spec.arguments["units"] == 10
    assert config.loads(json.dumps(made.to_data())).to_data() == made.to_data()
    assert problems(text.replace("shared: flat", "shred: flat"))[0][:2] == (
        9,
        "model.Model.nodes.flat2.shred",
    )
    assert problems(text.replace("Dense: 10", "Dense: x"))[0][:2] == (
        11,
        "model.Model.nodes.out.layer.Dense.units",
    )
    (unknown,) = problems(text.replace("[flat, flat2]", "[flat, flat3]"))
    assert unknown[1] == "model.Model.nodes.both.inputs"
    assert "did you mean 'flat' or 'flat2'" in unknown[2]


def test_freezing_by_pattern():
    made = config.loads(BASE + "freeze: ['flat*']\n")
    assert made.model.frozen == {"flatten"}
    assert problems(BASE + "freeze:\n- dense\n- dens\n")[0][:2] == (12, "freeze.1")


def test_several_outputs_take_losses_by_output():
    text = BASE.replace("loss: sparse_categorical_crossentropy", "loss: {a: mse, b: {Huber: {delta: 2.0}}}")
    text = text.replace("metrics: [accuracy]", "metrics: {a: [mae], b: []}\nloss_weights: {a: 1, b: 0.5}")
    made = config.loads(text).settings
    assert made.loss["a"] == "mse"
    assert repr(made.loss["b"]) == "Huber(delta=2.0)"
    assert made.loss_weights == {"a": 1.0, "b": 0.5}
    assert problems(text.replace("a: mse", "a: mze"))[0][:2] == (6, "loss.a")


def test_an_optimizer_may_be_a_chain_with_a_schedule():
    schedule = "{linear_schedule: {init_value: 0.1, end_value: 0, transition_steps: 5}}"
    text = BASE.replace(
        "{adam: {learning_rate: 0.01}}", f"[{{clip: 1.0}}, {{sgd: {{learning_rate: {schedule}}}}}]"
    )
    made = config.loads(text)
    params = {"w": np.ones(2, np.float32)}
    optimizer = made.compile().optimizer
    updates, _ = optimizer.update({"w": np.full(2, 5.0, np.float32)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1, -0.1], rtol=1e-6)


def test_early_stopping_needs_something_to_watch():
    text = BASE.replace("epochs: 3", "early_stopping: {patience: 2}")
    assert "training.validation" in problems(text)[0][2]
    made = config.loads(text.replace("patience: 2", "patience: 2, monitor: loss"))
    assert made.settings.training.early_stopping.patience == 2


@pytest.mark.parametrize(
    "change", ["validation: 1.0", "batch_size: 0", "class_weight: balance", "steps_per_call: 0"]
)
def test_training_options_out_of_range(change):
    assert problems(BASE.replace("epochs: 3", change))[0][:2] == (9, f"training.{change.split(':')[0]}")


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text("a,y\n1,2\n3,4\n")
    (tmp_path / "sub" / "e.yaml").write_text(
        "data: {csv: {path: t.csv, target: y}}\nmodel: {Dense: 1}\nloss: mse\n"
    )
    monkeypatch.chdir(tmp_path)
    made = config.load("sub/e.yaml")
    assert made.data.sizes == (2, 0)
    assert made.to_data()["data"]["csv"]["path"] == str(tmp_path / "sub" / "t.csv")


def test_data_that_cannot_be_loaded_have_a_line(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,x\n")
    text = "model: {Dense: 1}\nloss: mse\ndata:\n  csv: {path: t.csv, target: y}\n"
    made = config.loads(text, base=tmp_path)
    with pytest.raises(ConfigError, match=r"<text>:4: data\.csv\.path: .*t\.csv, line 2, column 2 \('y'\)"):
        _ = made.data
    with pytest.raises(ConfigError, match=r"<text>:4: data\.csv"):
        _ = config.loads(text.replace("t.csv", "u.csv"), base=tmp_path).data


def test_nothing_of_a_file_can_run_code():
    for name in ("os.system", "builtins.eval", "__import__", "jax.numpy.sin", "Lambda"):
        assert problems(with_model(f"{{'{name}': {{function: 'print(1)'}}}}"))


def test_resolved_data_are_complete_and_read_back():
    made = config.loads(BASE)
    data = made.to_data()
    assert set(data) == {field.name for field in dataclasses.fields(config.Settings)}
    assert data["training"]["batch_size"] == 32
    again = config.loads(json.dumps(data))
    assert again.to_data() == data
    assert repr(again.model) == repr(made.model)


# ---------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("seed=7", ("seed",), 7),
        ("training.epochs=5", ("training", "epochs"), 5),
        ("training.early_stopping.monitor=loss", ("training", "early_stopping", "monitor"), "loss"),
        ("optimizer.adam.learning_rate=1e-4", ("optimizer", "adam", "learning_rate"), 1e-4),
        ("optimizer.adam.b1=0.5", ("optimizer", "adam", "b1"), 0.5),
        ("optimizer={sgd: {momentum: 0.9}}", ("optimizer",), {"sgd": {"momentum": 0.9}}),
        ("data.digits.seed=3", ("data", "digits", "seed"), 3),
        ("model.Sequential.1.Dense.units=5", ("model", "Sequential", "layers", 1, "Dense", "units"), 5),
        (
            "model.Sequential.layers.1.Dense.units=5",
            ("model", "Sequential", "layers", 1, "Dense", "units"),
            5,
        ),
        ("model.sequential.layers.0=Identity", ("model", "Sequential", "layers", 0), "Identity"),
        ("model.Sequential.name=net", ("model", "Sequential", "name"), "net"),
        ("metrics=[]", ("metrics",), []),
    ],
)
def test_overrides(assignment, path, value):
    data = config.loads(BASE, [assignment]).to_data()
    for part in path:
        data = data[part]
    assert data == value


def test_overrides_come_in_order_and_open_short_forms():
    data = config.loads(
        with_model("{Sequential: [Dropout: 0.25, Dense: 3]}"),
        [
            "model.Sequential.0.Dropout.rate=0.5",
            "model.Sequential.1.Dense.units=4",
            "model.Sequential.1.Dense=5",
        ],
    ).to_data()
    assert data["model"] == {"Sequential": {"layers": [{"Dropout": {"rate": 0.5}}, {"Dense": {"units": 5}}]}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "expected path=value"),
        ("=3", "expected path=value"),
        ("a..b=3", "expected path=value"),
        ("seed=[1", "not YAML"),
        ("trainin.epochs=3", "there is no 'trainin' here: did you mean 'training'"),
        ("optimizer.adma.learning_rate=1", "there is no 'adma' here: did you mean 'adam'"),
        ("model.Sequential.9.Dense.units=1", "there is no '9' here: valid: 0, 1"),
        ("loss.mse.reduction=1", "nothing below 'sparse_categorical_crossentropy'"),
        ("training.epoch=1", "training takes no 'epoch'.*did you mean 'epochs'"),
        ("optimizer.adam.learning_rat=1", "adam takes no 'learning_rat'.*'learning_rate'"),
        ("seed=x", "expected a whole number, received seed='x'"),
        ("model.Sequential.1.Dense.units=-2", "received units=-2"),
        ("training.epochs=0", "received epochs=0"),
        ("optimizer={adam: {lr: 1}}", "adam takes no 'lr'"),
    ],
)
def test_overrides_that_are_wrong_name_themselves(assignment, message):
    with pytest.raises(ConfigError, match=message) as error:
        config.loads(BASE, [assignment])
    (problem,) = error.value.problems
    assert problem.source == f"--set {assignment}"


def test_lines_stay_right_beside_an_override():
    text = BASE.replace("softmax", "softmx")
    (found,) = problems(text, "model.Sequential.name=net")
    assert found[:2] == (5, "model.Sequential.layers.1.Dense.activation")


# --------------------------------------------------------------------------- signatures and schema


def test_documents_of_arguments():
    known = arguments(ToyBlock)
    assert known["width"].text == "how wide it is, over two lines."
    assert known["width"].required
    assert documentation(ToyBlock) == "A block for tests."
    assert shown("ToyBlock", ToyBlock).startswith("ToyBlock(width, size=1, mode='same', inner=None,")


def library_arguments() -> list[tuple[str, Any]]:
    """Every argument of every constructor of the library, with a name for it."""
    return [
        (f"{name}.{argument.name}", argument)
        for kind in KINDS
        for name in registry_of(kind)
        if registry_of(kind)[name].__module__.startswith("jlayers.")
        for argument in arguments(registry_of(kind)[name]).values()
    ]


def test_every_default_fits_its_type_hint():
    """A default that its own hint refuses could not be written in a file."""
    wrong = []
    for name, argument in library_arguments():
        if argument.required:
            continue
        try:
            data = to_data(argument.default)
        except TypeError:
            continue
        try:
            adapter(derive(argument.hint).type).validate_python(data)
        except ValueError as error:
            wrong.append(f"{name}={argument.default!r}: {error}")
    assert not wrong, "\n".join(wrong)


def test_every_argument_can_be_written():
    """Required arguments have a type that plain data can have, but for the functions that Lambda takes."""
    nothing = "nothing: this argument takes a Python object"
    unwritable = {
        name
        for name, argument in library_arguments()
        if argument.required and derive(argument.hint).expected.startswith(nothing)
    }
    assert unwritable <= {"Lambda.function"}


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(config.json_schema())


@pytest.mark.slow
def test_schema_is_json_without_loose_ends(validator):
    validator.check_schema(validator.schema)
    text = json.dumps(validator.schema, allow_nan=False)
    assert "x-jlayers-kind" not in text
    definitions = validator.schema["$defs"]
    references = {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}
    assert references <= set(definitions)
    dense = definitions["layer.Dense"]
    assert dense["properties"]["units"]["anyOf"][0]["type"] == "integer"
    assert dense["required"] == ["units"]
    assert dense["additionalProperties"] is False
    assert "description" in dense["properties"]["units"]
    assert "Dense" in definitions["layer"]["anyOf"][1]["properties"]


GOOD_MODELS = [
    "{Dense: {units: 3}}",
    "{Dense: 3}",
    "{Convolution2D: {filters: 3, kernel_size: 3}}",
    "{convolution2d: {filters: 3, kernel_size: 3}}",
    "Flatten",
    "{Flatten: }",
    "{Sequential: [Flatten, {Dense: {units: 3, activation: relu, kernel_regularizer: {l2: 0.1}}}]}",
    "{Sequential: {layers: [Flatten], name: net}}",
    "{Conv2D: {filters: 3, kernel_size: [3, 3], kernel_initializer: {random_normal: {stddev: 0.1}}}}",
]
BAD_MODELS = [
    "Flaten",
    "Dense",
    "{Dense: {unts: 3}}",
    "{Dense: {units: '3'}}",
    "{Dense: {units: 3, activation: rlu}}",
    "{Dense: 3, Flatten: {}}",
    "{Conv2D: {filters: 3, kernel_size: [3, 3, 3]}}",
    "{Sequential: [Dense]}",
    "3",
]


@pytest.mark.parametrize("model", GOOD_MODELS)
def test_schema_and_reader_take_the_same(validator, model):
    text = with_model(model)
    config.loads(text)
    validator.validate(read_text(text).data)


@pytest.mark.parametrize("model", BAD_MODELS)
def test_schema_and_reader_refuse_the_same(validator, model):
    text = with_model(model)
    assert problems(text)
    assert not validator.is_valid(read_text(text).data)


def test_schema_knows_defaults_and_variables(validator):
    base = with_model("{Dense: {units: '${width}'}}") + "variables: {width: 3}\n"
    for text in (base, 'defaults: [base.yaml]\ntraining: {epochs: "${n}"}\nmetrics: ["${m}"]\n'):
        validator.validate(read_text(text).data)
    for wrong in (base.replace("'${width}'", "'x${width}'"), "seed: 1\n", "defaults: base.yaml\n"):
        assert not validator.is_valid(read_text(wrong).data)


def test_hints_of_all_forms():
    assert derive(Annotated[int, "about it"]).expected == "a whole number"
    assert derive(tuple[int, ...]).expected == "a list of whole numbers"
    assert derive(tuple[int, str]).expected == "a list of 2 values: a whole number, text"
    assert derive(dict[int, float]).expected == "a mapping of names to numbers"
    assert derive(list[Annotated[str, Kind("loss")]]).expected == "a list of losses by name"
    assert derive(int | None).expected == "a whole number or null"
    assert derive(Literal["a"]).expected == "'a'"
    assert derive(type).expected.startswith("nothing")


def test_shipped_folder_is_where_the_tests_look():
    assert (pathlib.Path(__file__).parent.parent / "configs" / "digits_cnn.yaml").is_file()
