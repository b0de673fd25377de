"""Configurations out of several files, and with variables: who wins, where errors point, what is refused."""

import pathlib

import numpy as np
import pytest

from jlayers import config
from jlayers.cli import main
from jlayers.config import ConfigError
from jlayers.config.reader import read_file, read_text
from jlayers.config.variables import put_in_variables
from jlayers.config.writer import to_yaml

BASE = """\
variables: {width: 16, table: tables/t.csv}
data:
  csv: {path: "${table}", target: y}
model:
  Sequential:
    - Dense: {units: "${width}", activation: relu}
    - Dense: 1
loss: mse
metrics: [mae]
optimizer: {adam: {learning_rate: 0.1, b1: 0.8}}
preprocess: {a: Normalization}
training:
  epochs: 5
  early_stopping: {monitor: loss, patience: 2}
"""


@pytest.fixture
def files(tmp_path):
    """Writes files below a folder; gives the path of the first one."""

    def write(**texts: str) -> pathlib.Path:
        paths = [tmp_path / name.replace("__", "/").replace("_yaml", ".yaml") for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return paths[0]

    return write


def problems(path: pathlib.Path, *overrides: str) -> list[str]:
    """What is wrong, with paths relative to the folder of the file."""
    with pytest.raises(ConfigError) as error:
        config.load(path, overrides)
    return [str(problem).replace(f"{path.parent}/", "") for problem in error.value.problems]


def put_in(text: str):
    document = read_text(text)
    put_in_variables(document)
    return document.data


# ----------------------------------------------------------------------------------------- defaults


def test_a_file_says_what_differs_from_its_defaults(files):
    path = files(
        exp_yaml="""\
defaults: [shared/base.yaml]
variables: {width: 64}
optimizer: {adam: {learning_rate: 0.01}}
preprocess: {b: Normalization}
training: {batch_size: 8, early_stopping: {patience: 4}}
""",
        shared__base_yaml=BASE,
    )
    made = config.load(path)
    settings, training = made.settings, made.settings.training
    assert repr(made.model) == "Sequential([Dense(64, activation='relu'), Dense(1)])"
    assert (training.epochs, training.batch_size) == (5, 8)
    assert (training.early_stopping.monitor, training.early_stopping.patience) == ("loss", 4)
    assert repr(settings.optimizer) == "adam(learning_rate=0.01)", "what has a name is one value"
    assert list(settings.preprocess) == ["a", "b"]
    table = path.parent / "shared" / "tables" / "t.csv"
    assert made.to_data()["data"] == {"csv": {"path": str(table), "target": "y"}}


def test_later_files_win_and_null_takes_away(files):
    path = files(
        exp_yaml="defaults: [base.yaml, a.yaml, b.yaml]\ntraining: {early_stopping: null}\n",
        base_yaml=BASE,
        a_yaml="seed: 1\nmetrics: [mse]\nmodel: {Dense: 1}\n",
        b_yaml="seed: 2\n",
    )
    made = config.load(path)
    assert made.settings.seed == 2
    assert made.settings.metrics == ["mse"], "lists replace"
    assert repr(made.model) == "Dense(1)"
    assert made.settings.training.early_stopping is None
    assert made.settings.training.epochs == 5


def test_a_base_that_two_files_share_is_read_by_both(files):
    path = files(
        exp_yaml="defaults: [a.yaml, b.yaml]\n",
        a_yaml="defaults: [base.yaml]\nseed: 1\ntraining: {epochs: 7}\n",
        b_yaml="defaults: [base.yaml]\n",
        base_yaml=BASE,
    )
    made = config.load(path)
    assert (made.settings.seed, made.settings.training.epochs) == (1, 5), "b.yaml and its base come later"


def test_errors_point_at_the_file_that_wrote_the_value(files):
    path = files(
        exp_yaml="defaults: [base.yaml]\ntraining:\n  epochs: 0\n",
        base_yaml=BASE.replace("loss: mse", "loss: hingge").replace("patience: 2", "patients: 2"),
    )
    wrong_loss, wrong_patience = problems(path)
    assert wrong_loss.startswith("base.yaml:8: loss: unknown loss 'hingge': did you mean")
    assert wrong_patience == (
        "base.yaml:14: training.early_stopping.patients: early_stopping takes no 'patients' (received "
        "patients=2): did you mean 'patience'?"
    )
    path.with_name("base.yaml").write_text(BASE)
    assert problems(path) == ["exp.yaml:3: training.epochs: expected 1 epoch or more, received epochs=0"]
    assert problems(path, "training.epochs=x")[0].startswith("--set training.epochs=x: training.epochs:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "defaults: [bse.yaml]",
            "exp.yaml:1: defaults.0: there is no file bse.yaml: did you mean 'base.yaml'?",
        ),
        ("defaults: [no/x.yaml]", "exp.yaml:1: defaults.0: there is no file no/x.yaml: there is none in no"),
        (
            "defaults: base.yaml",
            "exp.yaml:1: defaults: expected a list of files, received defaults='base.yaml'",
        ),
        (
            "defaults: [a.yaml]",
            "c/b.yaml:3: defaults.0: ../a.yaml leads back to itself: a.yaml -> b.yaml -> a.yaml",
        ),
        (
            "seed: 1\ndefaults: [exp.yaml]",
            "exp.yaml:2: defaults.0: exp.yaml leads back to itself: exp.yaml -> exp.yaml",
        ),
        (
            'defaults: ["${x}.yaml"]',
            "exp.yaml:1: defaults.0: a file is named without variables, received '${x}.yaml'",
        ),
        ("defaults: [list.yaml]", "list.yaml:1: expected a mapping of sections"),
        ("defaults: [bad.yaml]", "bad.yaml:2: not YAML: "),
        ("defaults: [/dev/zero]", "exp.yaml:1: defaults.0: there is no file /dev/zero"),
        ("defaults: [tree0.yaml]", "tree7.yaml:1: defaults.1: expected at most 64 files in all"),
    ],
)
def test_defaults_that_are_refused(files, text, expected):
    path = files(
        exp_yaml=text + "\n",
        base_yaml=BASE,
        a_yaml="seed: 1\ndefaults: [c/b.yaml]\n",
        c__b_yaml="\n\ndefaults: [../a.yaml]",
        list_yaml="- 1\n",
        bad_yaml="a: 1\n\tb: 2\n",
        **{f"tree{i}_yaml": f"defaults: [tree{i + 1}.yaml, tree{i + 1}.yaml]\n" for i in range(9)},
        tree9_yaml=BASE,
    )
    found = problems(path)
    assert found[0].startswith(expected), found


def test_files_together_are_bounded(files, monkeypatch):
    monkeypatch.setattr("jlayers.config.defaults.MAX_BYTES", 100)
    path = files(exp_yaml="defaults: [base.yaml]\n", base_yaml=BASE)
    assert problems(path) == ["exp.yaml:1: defaults.0: expected at most 100 bytes in all files together"]


# ---------------------------------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("'${n}'", 3),
        ("${n}", 3),
        ("x-${n}-${flag}-${nothing}", "x-3-true-null"),
        ("'${blocks}'", [{"Dense": 3}, "Flatten"]),
        ("'${twice}'", "3/3"),
        ("$${n}", "${n}"),
        ("a$${n}${n}", "a${n}3"),
        ("$5 and $$ and {n}", "$5 and $$ and {n}"),
        ("[1, '${rate}', null]", [1, 0.01, None]),
        ("'${env:JLAYERS_TEST}/x'", "/data/x"),
        ("'${env:JLAYERS_NONE:-${}'", "error"),
        ("'${env:JLAYERS_NONE:-a b}'", "a b"),
        ("'${env:JLAYERS_EMPTY:-}'", ""),
        ("'${env:JLAYERS_NUMBER}'", "12"),
    ],
)
def test_values_of_variables(monkeypatch, value, expected):
    monkeypatch.setenv("JLAYERS_TEST", "/data")
    monkeypatch.setenv("JLAYERS_NUMBER", "12")
    monkeypatch.setenv("JLAYERS_EMPTY", "")
    text = f"""\
variables:
  n: 3
  rate: 0.01
  flag: true
  nothing: null
  blocks: [{{Dense: "${{n}}"}}, Flatten]
  twice: ${{n}}/${{n}}
a: {value}
"""
    if expected == "error":
        with pytest.raises(ConfigError, match="<text>:8: a: "):
            put_in(text)
    else:
        assert put_in(text) == {"a": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("variables: {width: 3}\na: '${widht}'", "2: a: unknown variable ${widht}: did you mean 'width'?"),
        (
            "a: 1\nb: ${x}",
            "2: b: unknown variable ${x}: give it a value under variables, or by --set variables.x=...",
        ),
        (
            "variables:\n  a: ${b}\n  b: ${a}\nc: ${a}",
            "3: variables.b: the variable leads back to itself: a -> b -> a",
        ),
        ("variables: {a: [1]}\nb: x${a}", "2: b: a list cannot stand inside a text: ${a} in 'x${a}'"),
        (
            "variables: {a b: 1}",
            "1: variables.a b: expected a name of letters, digits, _ and -, received 'a b'",
        ),
        ("variables: [1]", "1: variables: expected a mapping of names to values, received variables=[1]"),
        ("a: ${x", "1: a: expected } behind '${x'; the text ${ is written $${"),
        (
            "a: ${x + 1}",
            "1: a: expected ${name}, ${env:NAME} or ${env:NAME:-value}, received '${x + 1}'; the text",
        ),
        ("a: ${env:JLAYERS_NONE}", "1: a: the environment variable JLAYERS_NONE is not set: set it, or name"),
        (
            "variables: {a: 1}\n${a}: 2",
            "2: ${a}: variables stand in values, not in keys; the text ${ is written $${",
        ),
        (
            "a: {b: ${x}}",
            "1: not YAML: expected ',' or '}', but got '{'; between brackets and braces a variable",
        ),
    ],
)
def test_variables_that_are_refused(text, expected):
    with pytest.raises(ConfigError) as error:
        put_in(text)
    assert str(error.value.problems[0]).startswith(f"<text>:{expected}")


LADDER = "".join(f"  v{i}: ['${{v{i - 1}}}', '${{v{i - 1}}}']\n" for i in range(1, 40))
TEXTS = "".join(f"  v{i}: ${{v{i - 1}}}${{v{i - 1}}}\n" for i in range(1, 40))
CHAIN = "".join(f"  v{i}: ${{v{i - 1}}}\n" for i in range(1, 4000))


@pytest.mark.parametrize(
    ("variables", "last", "message"),
    [
        (LADDER, 39, "its variables make more than 50,000 values"),
        (TEXTS, 39, "its variables make more than 50,000 values"),
        (CHAIN, 3999, "expected at most 64 variables in each other"),
    ],
)
def test_variables_do_not_grow_without_end(variables, last, message):
    with pytest.raises(ConfigError, match=message):
        put_in(f"variables:\n  v0: x\n{variables}a: ${{v{last}}}\n")


def test_long_texts_are_bounded():
    many = "${v}" * 100
    with pytest.raises(ConfigError, match="make more than 1,048,576 characters"):
        put_in(f"variables: {{v: {'x' * 20_000}}}\na: {many}\n")


def test_errors_name_the_place_of_the_value_and_of_the_variable(files):
    path = files(exp_yaml="defaults: [base.yaml]\nvariables:\n  width: wide\n", base_yaml=BASE)
    where = "model.Sequential.layers.0.Dense.units: expected a whole number, received units='wide'"
    assert problems(path) == [f"exp.yaml:3: {where} (written as ${{width}} at base.yaml:6)"]
    assert problems(path, "variables.width=wide") == [
        f"--set variables.width=wide: {where} (written as ${{width}} at base.yaml:6)"
    ]


def test_set_reaches_variables(files):
    path = files(exp_yaml=BASE)
    assert "Dense(32," in repr(config.load(path, ["variables.width=32"]).model)
    assert "Dense(8," in repr(config.load(path, ["model.Sequential.0.Dense.units=8"]).model)
    made = config.load(path, ["loss=${which}", "variables.which=mae"])
    assert made.settings.loss == "mae"
    found = problems(path, "variables.widht=32")
    assert found == [
        "--set variables.widht=32: variables.widht: nothing uses ${widht}: did you mean 'width'?"
    ]


def test_a_path_starts_from_the_file_that_wrote_its_beginning(files, monkeypatch):
    monkeypatch.setenv("JLAYERS_TEST", "/data")
    path = files(
        exp_yaml="""\
defaults: [shared/base.yaml]
data: {csv: {path: "${folder}/t.csv", test_path: "t/${env:JLAYERS_TEST}.csv", target: y}}
training: {cache_features: "${env:JLAYERS_TEST}/cache"}
""",
        shared__base_yaml=BASE.replace("table: tables/t.csv", "folder: ../up"),
    )
    data = config.load(path).to_data()
    assert data["data"]["csv"]["path"] == str(path.parent / "up" / "t.csv")
    assert data["data"]["csv"]["test_path"] == str(path.parent / "t" / "data.csv")
    assert data["training"]["cache_features"] == "/data/cache"


def test_a_run_stands_alone(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JLAYERS_TEST", "mse")
    path = files(
        exp_yaml="""\
defaults: [shared/base.yaml]
loss: ${env:JLAYERS_TEST}
training: {epochs: 1, early_stopping: null}
""",
        shared__base_yaml=BASE.replace("tables/t.csv", "'tables/$${odd}.csv'").replace(
            "preprocess: {a: Normalization}\n", ""
        ),
    )
    rows = np.random.default_rng(0).normal(size=(12, 2)).round(3)
    (tmp_path / "shared" / "tables").mkdir()
    table = tmp_path / "shared" / "tables" / "${odd}.csv"
    table.write_text("a,y\n" + "".join(f"{a},{y}\n" for a, y in rows))
    assert main(["train", str(path), "--run", str(tmp_path / "run")]) == 0
    kept = read_file(tmp_path / "run" / "config.yaml").data
    assert "defaults" not in kept
    assert "variables" not in kept
    assert kept["loss"] == "mse"
    monkeypatch.delenv("JLAYERS_TEST")
    path.unlink()
    made = config.load(tmp_path / "run" / "config.yaml")
    assert made.source.sizes == (12, 0)
    assert made.to_data() == config.loads(to_yaml(made.to_data())).to_data()
