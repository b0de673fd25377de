"""The doctor finds what is broken by the right check, and nothing in what is healthy; see docs/doctor.md."""

import json
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.cli import main
from jlayers.experiments.doctor import Finding, Report
from jlayers.experiments.doctor.probes import association, linear, neighbors_mean
from jlayers.experiments.doctor.rate import Range, check_rate

DOCS = Path(__file__).parents[1] / "docs"
MAKER = runpy.run_path(str(DOCS / "make_doctor_page.py"))


def blobs(rows=300, features=6, classes=3, seed=0):
    """Clouds that a small network tells apart."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    x = 2 * np.eye(classes, features)[y] + draw.normal(size=(rows, features))
    return x.astype(np.float32), y.astype(np.int32)


def small(**options):
    return jl.Sequential(
        jl.Dense(16, activation="relu", **options), jl.Dense(3, activation="softmax", name="classes")
    )


def trainer(model=None, rate=0.02, loss="sparse_categorical_crossentropy"):
    return jl.compile(model or small(), jl.optimizers.adam(rate), loss)


def checks_of(report):
    return [finding.check for finding in report.findings]


# ---------------------------------------------------------------------- the experiments of the page

SICK = {sick.name: sick for sick in MAKER["broken"](rows=600, units=48, rate=0.004, epochs=40)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SICK)
def test_a_broken_experiment_is_found_by_the_right_check(name):
    report = SICK[name].report()
    assert checks_of(report)[:1] == [SICK[name].check], str(report)
    assert set(checks_of(report)) == {SICK[name].check}, str(report)
    assert all(finding.advice for finding in report.findings)


@pytest.mark.slow
def test_nothing_is_found_in_a_healthy_experiment():
    (x, y), held_out = MAKER["digits"](600)
    model = MAKER["network"](48)
    made = jl.compile(model, jl.optimizers.adam(0.004), "sparse_categorical_crossentropy")
    report = jl.doctor(made, x, y, validation_data=held_out, epochs=40)
    assert report.healthy, str(report)
    assert {note.check for note in report.notes} == {"balance", "rate", "overfit", "cost"}
    assert not report.skipped
    cost = next(note for note in report.notes if note.check == "cost").values
    assert cost["step_bytes"] > cost["state_bytes"] > 0
    assert cost["steps"] == 40 * 19
    assert cost["step_seconds"] > 0


@pytest.mark.slow
def test_nothing_is_found_in_a_table_with_a_normalization():
    report = MAKER["measurements"]()
    assert report.healthy, str(report)


@pytest.mark.parametrize("name", MAKER["healthy"]())
def test_nothing_is_found_in_what_ships(name, pytestconfig):
    if not pytestconfig.getoption("--full"):
        pytest.skip("each takes many seconds")
    report = MAKER["healthy"]()[name]()
    assert report.healthy, str(report)


@pytest.mark.parametrize("name", SICK)
def test_the_page_says_what_is_found(name, pytestconfig):
    row = re.search(rf"\| {re.escape(name)} \| `(\w+)` \|", (DOCS / "doctor.md").read_text(encoding="utf-8"))
    assert (row and row[1]) == SICK[name].check, "run: python docs/make_doctor_page.py"
    if pytestconfig.getoption("--full"):
        sick = next(sick for sick in MAKER["broken"]() if sick.name == name)
        assert set(checks_of(sick.report())) == {sick.check}


def test_the_page_has_the_text_and_the_healthy_ones():
    text = (DOCS / "doctor.md").read_text(encoding="utf-8")
    assert text.startswith(MAKER["HEAD"].rstrip("\n")), "run: python docs/make_doctor_page.py"
    for name in MAKER["healthy"]():
        assert f"| {name} | none |" in text


# ------------------------------------------------------------------------------------- single checks


def test_values_are_found_by_row_and_column():
    x, y = blobs()
    x[7, 2], x[9, 2] = np.nan, np.inf
    report = jl.doctor(trainer(), x, y)
    (found,) = report.of("values")
    assert found.where == "x[7, 2]"
    assert found.values["rows"] == [7, 9]
    assert found.values["columns"] == [2]
    assert "rate" in report.checks  # the other rows are looked at


@pytest.mark.slow
def test_labels_from_one_with_room_for_them():
    x, y = blobs()
    model = jl.Sequential(jl.Dense(16, activation="relu"), jl.Dense(4, activation="softmax"))
    report = jl.doctor(trainer(model), x, y + 1)
    assert report.findings[0].check == "labels"
    assert "subtract 1" in report.findings[0].advice


def test_equal_samples_with_other_labels():
    x, y = blobs()
    x[:20], y[:20] = x[20:40], (y[20:40] + 1) % 3
    (found,) = jl.doctor(trainer(), x, y).of("labels")
    assert found.values["count"] == 40


def test_rows_of_few_values_repeat_without_being_a_leak():
    draw = np.random.default_rng(0)
    x = draw.integers(0, 2, (400, 4)).astype(np.float32)
    y = x[:, 0].astype(np.int32)
    report = jl.doctor(trainer(), x[:300], y[:300], validation_data=(x[300:], y[300:]))
    assert not report.of("duplicates")


def test_a_pair_that_cannot_be_trained_is_told_in_the_librarys_words():
    x, y = blobs()
    report = jl.doctor(trainer(loss="mse"), x, y)
    assert report.findings[0].severity == "error"
    assert "shape" in report.findings[0].message


def test_a_layer_without_a_gradient():
    x, y = blobs()
    cut = jl.Lambda(jax.lax.stop_gradient)
    model = jl.Sequential(jl.Dense(8, name="lost"), cut, jl.Dense(3, activation="softmax"))
    (found,) = jl.doctor(trainer(model), x, y).of("gradients")
    assert found.where == "lost"
    assert sorted(found.values["arrays"]) == ["lost/bias", "lost/kernel"]


@pytest.mark.slow
def test_a_gradient_that_vanishes():
    x, y = blobs()
    deep = [jl.Dense(8, activation="sigmoid") for _ in range(16)]
    report = jl.doctor(trainer(jl.Sequential(*deep, jl.Dense(3, activation="softmax"))), x, y)
    assert report.of("gradients")[0].where == "dense"


def test_saturated_units():
    x, y = blobs()
    wide = jl.initializers.random_normal(stddev=300.0)
    model = jl.Sequential(
        jl.Dense(8, activation="tanh", kernel_initializer=wide), jl.Dense(3, activation="softmax")
    )
    assert "tanh" in jl.doctor(trainer(model), x, y).of("activations")[0].message


def test_the_first_nan_in_a_forward_pass():
    x, y = blobs()
    model = jl.Sequential(jl.Dense(8), jl.Lambda(jnp.log, name="log"), jl.Dense(3, activation="softmax"))
    found = jl.doctor(trainer(model), x, y).findings[0]
    assert (found.check, found.where) == ("nan", "log")
    assert found.values["given"] < 0
    assert np.isnan(found.values["value"])


def test_a_nan_that_only_the_gradient_has():
    x, y = blobs()
    x[:, 0] = 0
    root = jl.Lambda(lambda x: jnp.sqrt(0 * x), name="root")
    model = jl.Sequential(jl.Dense(8, name="first"), root, jl.Dense(3, activation="softmax"))
    found = jl.doctor(trainer(model), x, y).of("nan")[0]
    assert found.where == "first"
    assert "gradient" in found.message


def test_targets_of_a_regression():
    x, _ = blobs()
    y = 1000 * x[:, :1]
    model = jl.Sequential(jl.Dense(8, activation="relu"), jl.Dense(1))
    assert jl.doctor(trainer(model, loss="mse"), x, y).of("scale")[0].where == "y"


def test_nothing_in_a_regression_with_a_schedule_and_penalties():
    x, _ = blobs()
    y = (x @ np.linspace(-1, 1, 6, dtype=np.float32))[:, None]
    model = jl.Sequential(jl.Dense(16, activation="relu", kernel_regularizer=jl.l2(1e-4)), jl.Dense(1))
    rate = {"cosine_decay_schedule": {"init_value": 0.01, "decay_steps": 300}}
    report = jl.doctor(
        jl.compile(model, ["zero_nans", {"adam": {"learning_rate": rate}}], "mse"), x, y, epochs=30
    )
    assert report.healthy, str(report)


def test_several_inputs_tokens_and_a_frozen_base():
    draw = np.random.default_rng(0)
    words, size = draw.integers(0, 50, (200, 8)), draw.normal(size=(200, 3)).astype(np.float32)
    y = (words < 25).sum(1, keepdims=True) > 4
    a, b = jl.Input((8,), dtype="int32", name="words"), jl.Input((3,), name="size")
    inner = jl.GlobalAveragePooling1D()(jl.Embedding(50, 8, name="table")(a))
    model = jl.Model({"words": a, "size": b}, jl.Dense(1, activation="sigmoid")(jl.Concatenate()([inner, b])))
    made = jl.compile(jl.freeze(model, "table"), jl.optimizers.adam(0.02), "binary_crossentropy")
    report = jl.doctor(made, {"words": words, "size": size}, y.astype(np.float32), epochs=40)
    assert report.healthy, str(report)


def test_tasks_that_take_turns_are_looked_at_without_training():
    x, _ = blobs()

    def loss(call, batch, key):
        return jnp.square(call("model", batch.x)).mean()

    tasks = {name: jl.Task({"model": jl.Dense(3)}, loss, trains="model") for name in ("one", "two")}
    report = jl.doctor(jl.compile(tasks, "adam"), x)
    assert report.healthy
    assert set(report.skipped) == {"information", "rate", "overfit", "cost"}


def test_a_task_whose_least_loss_is_not_known():
    """That of a contrast or of a variational bound does not come near 0 on one batch."""
    x, _ = blobs()

    def loss(call, batch, key):
        return 1 + jnp.square(call("model", batch.x) - 1).mean()

    report = jl.doctor(jl.compile(jl.Task({"model": jl.Dense(3)}, loss), jl.optimizers.adam(0.02)), x)
    assert report.healthy, str(report)


def test_the_state_that_was_given_stays():
    x, y = blobs()
    made = trainer()
    state = made.init(jax.random.key(0), x[:32])
    before = jax.tree.map(np.array, state.params)
    jl.doctor(made, x, y, state=state)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, state.params))


def test_it_takes_batches_and_refuses_what_is_no_trainer():
    x, y = blobs()
    longer = np.concatenate([x[:9], x[:9]], 1)
    report = jl.doctor(trainer(), [(x[:150], y[:150] + 1), (longer, y[:9]), (x[150:], y[150:] + 1)])
    assert report.findings[0].check == "labels"
    with pytest.raises(TypeError, match=r"expected what jl\.compile"):
        jl.doctor(small(), x, y)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- the probes


def test_the_deviation_of_chance_is_that_of_chance():
    """Of targets in random orders about one in a thousand correlates by more than 3.1 deviations."""
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(200, 3)).astype(np.float32), draw.normal(size=(200, 1)).astype(np.float32)
    found = [association(x[:, :1], y[draw.permutation(200)]) for _ in range(300)]
    scores = np.array([r / deviation for r, deviation in found])
    assert abs(scores.std() - 1) < 0.15
    assert (scores > 3.1).mean() < 0.01


def test_probes_find_what_is_there():
    x, y = blobs()
    targets = np.eye(3, dtype=np.float32)[y]
    for probe in (neighbors_mean, linear):
        correlation, deviation = association(probe(x, targets), targets)
        assert correlation > 10 * deviation


# ------------------------------------------------------------------------- rates, without a training


def curves(**ends):
    return {float(f): np.linspace(2.0, end, 50) for f, end in ends.items()}


@pytest.mark.parametrize(
    ("ends", "severity"),
    [
        ({"0.01": 1.9, "0.1": 1.2, "1": 0.5, "10": 0.4, "100": 2.0}, "note"),
        ({"0.01": 0.4, "0.1": 1.5, "1": 2.0, "10": np.nan, "100": np.nan}, "error"),
        ({"0.01": 0.5, "0.1": 0.6, "1": np.nan, "10": np.nan, "100": np.nan}, "error"),
        ({"0.01": 2.0, "0.1": 2.0, "1": 1.99, "10": 1.9, "100": 0.3}, "error"),
        ({"0.01": 2.0, "0.1": 2.0, "1": 1.99, "10": 1.99, "100": 1.98}, "note"),
    ],
)
def test_judgement_of_rates(ends, severity):
    x, y = blobs()
    from jlayers.experiments.doctor import Case

    case = Case(trainer(), x, y, epochs=10)
    (found,) = check_rate(case, Range(curves(**ends), 2.0, 0.01))
    assert found.severity == severity


# --------------------------------------------------------------------------------- the command line

FILE = """
data: {{csv: {{path: {path}, target: label, labels: true, test_fraction: 0.0}}}}
model: {{Sequential: [Dense: {{units: 8, activation: relu}}, Dense: {{units: 3}}]}}
loss: {{SparseCategoricalCrossentropy: {{from_logits: true}}}}
optimizer: {{sgd: {{learning_rate: {rate}}}}}
training: {{epochs: 2, batch_size: 64{more}}}
"""


@pytest.fixture
def file(tmp_path):
    def write(rate=0.1, cell=None, more="", rows=200):
        x, y = blobs(rows)
        lines = ["a,b,c,d,e,f,label"]
        lines += [",".join([*map(str, row), str(label)]) for row, label in zip(x.tolist(), y, strict=True)]
        if cell is not None:
            lines[5] = lines[5].replace(lines[5].split(",")[1], cell, 1)
        (tmp_path / "data.csv").write_text("\n".join(lines))
        path = tmp_path / "file.yaml"
        path.write_text(FILE.format(path=tmp_path / "data.csv", rate=rate, more=more))
        return path

    return write


def test_command_on_a_healthy_file(file, capsys, tmp_path):
    picture = tmp_path / "rates.png"
    path = file()
    before = sorted(tmp_path.iterdir())
    assert main(["doctor", str(path), "--plot", str(picture)]) == 0
    assert "nothing found, 14 checks" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.iterdir()) == sorted([*before, picture])


def test_command_on_a_missing_value_in_a_file(file, capsys):
    assert main(["doctor", str(file(cell="nan")), "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    (found,) = data["findings"]
    assert not data["healthy"]
    assert found["check"] == "values"
    assert "line 6" in found["message"]
    assert "column 2" in found["message"]


def test_command_on_a_wrong_file_or_none(file, capsys, tmp_path):
    assert main(["doctor", str(tmp_path / "absent.yaml")]) == 2
    assert main(["doctor", str(file()), "--set", "model.Sequential.0.Dense.units=no"]) == 2
    assert main(["doctor", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["", ", checkpoint: {every_steps: 1}"])
def test_command_on_a_run_that_failed(file, capsys, tmp_path, more):
    run = tmp_path / "run"
    assert main(["train", str(file(rate=1e30, more=more)), "--run", str(run), "--no-compile-cache"]) == 1
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["doctor", str(run), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)["findings"]
    first = found[0]
    assert (first["check"], first["where"][:5]) == ("nan", "dense"), found
    assert first["values"]["step"] >= 2
    assert "in step" in first["message"]
    assert {"nan", "rate"} >= {f["check"] for f in found}
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_report_is_plain_data():
    report = Report(
        [Finding("values", "error", "x[0]", "text", "advice", {"a": np.float32("nan"), "b": np.arange(2)})]
    )
    assert json.loads(report.to_json())["findings"][0]["values"] == {"a": "nan", "b": [0, 1]}
    assert str(Report()) == "nothing found"
    assert Report().healthy
