"""Runs compared and listed, whatever their status: settings that differ, results, tables, curves, files."""

import csv
import json
import pathlib
import re

import pytest

from jlayers.cli import main
from jlayers.experiments.compare import compare, draw_comparison
from jlayers.experiments.names import cut_names, short_names
from jlayers.experiments.record import RunRecord, find_runs, flattened, read_run
from jlayers.runs import Run

DENSE = {"Dense": {"units": 4}}


def write(path, rate, epochs, ends="completed", seed=0, units=4):
    """A run as a training writes it, without one."""
    config = {
        "data": "digits",
        "model": {"Sequential": {"layers": [{"Dense": {"units": units}}, DENSE]}},
        "optimizer": {"adam": {"learning_rate": rate}},
        "seed": seed,
        "training": {"epochs": 3},
    }
    run = Run.create(path, config)
    run.write_json("model.json", {"parameters": 100 * units, "trainable": 90, "flops": 2500})
    run.note(
        status="running", better={"loss": "min", "accuracy": "max", "val_loss": "min", "val_accuracy": "max"}
    )
    for epoch in range(1, epochs + 1):
        logs = {"loss": rate / epoch, "accuracy": 1 - rate / epoch}
        run.log(epoch, {**logs, **{f"val_{name}": value + 0.01 for name, value in logs.items()}})
    if ends == "completed":
        run.finish(
            {
                "epochs": epochs,
                "kept_epoch": epochs,
                "seconds": 1.5,
                "test": {"loss": rate, "accuracy": 1 - rate},
            }
        )
    elif ends == "failed":
        run.fail(FloatingPointError("the loss became nan\nin epoch 3"))
    elif ends == "killed":
        run.note(status="running", process={**run.results()["process"], "started": "before"})
    if ends != "running":
        run.unlock()
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that are completed (two), running, failed, killed before the first epoch, and damaged."""
    path = tmp_path_factory.mktemp("runs")
    (path / "deeper").mkdir()
    write(path / "first-1", 0.2, 3)
    write(path / "first-2", 0.1, 3, seed=1)
    write(path / "deeper/first-1", 0.4, 2, "failed")
    write(path / "killed", 0.5, 0, "killed", units=8)
    running = write(path / "running", 0.3, 1, "running")
    write(path / "damaged", 0.3, 1)
    (path / "damaged/results.json").write_text("{")
    yield path
    running.unlock()


@pytest.fixture
def wide(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")


RUNS = ["first-1", "first-2", "deeper", "killed", "running"]


def test_a_record_holds_what_its_run_is(folder):
    first, failed, killed, running = (
        read_run(folder / n) for n in ("first-1", "deeper/first-1", "killed", "running")
    )
    assert (first.status, first.epochs, first.planned, first.kept_epoch, first.seconds) == (
        "completed",
        3,
        3,
        3,
        1.5,
    )
    assert first.metrics["val_loss"] == pytest.approx(0.2 / 3 + 0.01)
    assert first.metrics["test_accuracy"] == 0.8
    assert first.best == ("test_accuracy", 0.8)
    assert first.history["loss"] == [0.2, 0.1, 0.2 / 3]
    assert first.settings["optimizer.adam.learning_rate"] == 0.2
    assert (first.parameters, first.flops) == (400, 2500)
    assert first.began <= first.ended
    assert (failed.status, failed.reason) == ("failed", "FloatingPointError: the loss became nan\nin epoch 3")
    assert failed.best == ("val_accuracy", pytest.approx(0.81))
    assert (killed.status, killed.metrics, killed.best, killed.seconds) == ("killed", {}, None, None)
    assert (running.status, running.epochs, running.ended) == ("running", 1, None)
    assert 0 <= running.seconds < 600
    assert [first.direction(name) for name in ("test_loss", "test_accuracy", "val_loss")] == [
        "min",
        "max",
        "min",
    ]


def test_runs_are_found_at_any_depth_and_a_damaged_one_does_not_hide_the_others(folder):
    found = {run.path.relative_to(folder).as_posix(): run.status for run in find_runs(folder)}
    assert found == {
        "first-1": "completed", "first-2": "completed", "deeper/first-1": "failed", "killed": "killed",
        "running": "running", "damaged": "damaged",
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder of runs"):
        find_runs(folder / "nowhere")
    with pytest.raises(ValueError, match=r"results.json is damaged"):
        read_run(folder / "damaged")


def test_only_settings_that_differ_are_compared(wide, folder):
    compared = compare(RUNS)
    assert compared.names == (f"{folder.name}/first-1", "first-2", "deeper/first-1", "killed", "running")
    assert compared.settings == {
        "optimizer.adam.learning_rate": (0.2, 0.1, 0.4, 0.5, 0.3),
        "seed": (0, 1, 0, 0, 0),
        "model.Sequential.layers.0.Dense.units": (4, 4, 4, 8, 4),
    }
    assert compare(["first-1"]).settings == {}
    assert [run.path.name for run in compare(["first-2", "first-1"]).runs] == ["first-2", "first-1"]
    with pytest.raises(FileNotFoundError, match="nothing is not a run"):
        compare(["nothing"])


def test_the_best_run_comes_first(wide):
    compared = compare(RUNS).sorted_by("val_accuracy")
    names = [run.path.as_posix() for run in compared.runs]
    assert names == ["first-2", "first-1", "deeper/first-1", "running", "killed"]
    assert compared.best("val_accuracy") == compared.runs[0].metrics["val_accuracy"]
    assert [run.path.name for run in compare(RUNS).sorted_by("test_loss").runs][:2] == ["first-2", "first-1"]
    with pytest.raises(KeyError, match=r"no run has the metric 'accurcy': did you mean 'accuracy'"):
        compare(RUNS).sorted_by("accurcy")


def test_the_table_on_a_wide_terminal(wide, folder, capsys):
    assert main(["compare", *RUNS, "--sort", "test_loss"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "run", "status", "epochs", "learning_rate", "seed", "units", "loss", "accuracy", "val_loss",
        "val_accuracy", "test_loss", "test_accuracy", "time", "parameters",
    ]  # fmt: skip
    assert rows[0].split()[:6] == ["first-2", "completed", "3", "0.1", "1", "4"]
    assert rows[0].split()[-3:] == ["1.5", "s", "400"]
    assert [row.split()[0] for row in rows[:5]][:2] == ["first-2", f"{folder.name}/first-1"]
    assert "all of them: 2.50 kFLOPs" in rows
    assert "deeper/first-1: failed: FloatingPointError: the loss became nan" in rows


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_table_is_wider_than_the_terminal(wide, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", *RUNS]) == 0
    assert main(["runs", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if ": " not in line) <= columns
    assert sum("test_accuracy" in line for line in lines) >= 1


def test_two_runs_on_a_narrow_terminal_are_columns(wide, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["compare", "first-1", "killed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "first-1", "killed"]
    assert ["learning_rate", "0.2", "0.5"] in [line.split() for line in lines]
    assert main(["compare", "first-1", "first-1"]) == 0, "the same run counts once"
    assert main(["compare", "first-1", "first-2", "--sort", "nothing"]) == 2


def test_a_setting_and_those_below_it_share_a_column(wide, tmp_path, capsys):
    for name, optimizer in (("plain", "adam"), ("set", {"adam": {"learning_rate": 0.1, "b1": 0.8}})):
        Run.create(tmp_path / name, {"optimizer": optimizer, "metrics": []})
    assert main(["compare", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "status", "epochs", "optimizer"]
    assert lines[2] == ["plain", "killed", "0", "adam"]
    assert lines[3] == ["set", "killed", "0", "adam.learning_rate=…"]
    assert list(compare([tmp_path]).settings) == [
        "optimizer",
        "optimizer.adam.learning_rate",
        "optimizer.adam.b1",
    ]


def test_tables_are_written_to_files(wide, tmp_path, capsys):
    table, data = tmp_path / "t.csv", tmp_path / "t.json"
    assert main(["compare", *RUNS, "--csv", str(table), "--json", str(data)]) == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows][:2] == ["first-1", "first-2"]
    assert float(rows[1]["optimizer.adam.learning_rate"]) == 0.1
    assert rows[3]["val_loss"] == rows[3]["seconds"] == ""
    said = json.loads(data.read_text())["runs"]
    assert said[0]["history"]["loss"] == [0.2, 0.1, 0.2 / 3]
    assert said[2]["status"] == "failed"
    assert said[0]["model.Sequential.layers.0.Dense.units"] == 4


def test_the_list_of_runs(wide, capsys):
    assert main(["runs", "."]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "status", "began", "epochs", "best", "size"]
    by_name = {line[0]: line[1:] for line in lines[2:] if line}
    assert by_name["first-1"][0] == "completed"
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d", " ".join(by_name["first-1"][1:4]))
    assert by_name["first-1"][4:7] == ["3", "test_accuracy", "80.00%"]
    assert by_name["running"][4] == "1/3"
    assert by_name["damaged"][0] == "damaged"
    assert main(["runs", "first-1", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["status"], one["epochs"], one["metrics"]["test_loss"]) == ("completed", 3, 0.2)
    assert main(["runs", "nowhere"]) == 2


def test_a_run_of_many_seeds_has_means_and_standard_deviations(wide, tmp_path, capsys):
    run = Run.create(tmp_path / "seeds", {"model": "Flatten", "seeds": 2, "seed": 0})
    for loss in (3.0, 2.0):  # the mean over the seeds that still train
        run.log(len(run.history().get("loss", ())) + 1, {"loss": loss, "val_loss": loss + 1})
    one = {"mean": 2.5, "std": 0.7, "low": 1.0, "high": 4.0}
    found = {"train": {"loss": one}, "test": {"loss": {**one, "mean": 5.0}}}
    run.finish({"train": {"loss": 2.5}, "test": {"loss": 5.0}, "seeds": found, "kept_epoch": 2})
    single = Run.create(tmp_path / "single", {"model": "Flatten", "seeds": 1, "seed": 0})
    single.log(1, {"loss": 1.0})
    single.finish({})
    record, other = read_run(run.path), read_run(single.path)
    assert record.metrics == {"loss": 2.5, "val_loss": 3.0, "test_loss": 5.0}  # each seed keeps its own epoch
    assert record.spread == {"loss": 0.7, "test_loss": 0.7}
    assert other.spread == {}
    rows = compare([run.path, single.path]).rows()
    assert [(row["loss"], row["loss_std"], row["test_loss_std"]) for row in rows] == [
        (2.5, 0.7, 0.7),
        (1.0, None, None),
    ]
    assert main(["compare", str(run.path), str(single.path)]) == 0
    said = capsys.readouterr().out
    assert "2.5 ± 0.7" in said
    assert "±: the standard deviation over the seeds" in said
    assert main(["runs", str(tmp_path)]) == 0
    assert "test_loss 5 ± 0.7" in capsys.readouterr().out


def test_curves_of_several_runs(wide, folder, tmp_path):
    pytest.importorskip("matplotlib")
    from jlayers.experiments.compared_curves import compared_curves

    compared = compare(RUNS)
    draw_comparison(tmp_path / "curves.png", compared)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    figure = compared_curves(dict(zip(compared.names, compared.runs, strict=True)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["loss, training", "loss, validation", "accuracy, training", "accuracy, validation"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{folder.name}/first-1",
        "first-2",
        "deeper/first-1",
        "running",
    ]
    with pytest.raises(ValueError, match="no run has finished an epoch"):
        draw_comparison(tmp_path / "none.png", compare(["killed"]))
    with pytest.raises(ValueError, match=r"expected a \.png file"):
        draw_comparison(tmp_path / "curves.pdf", compared)
    many = compared_curves({f"run-{i}": compared.runs[0] for i in range(12)})
    assert [text.get_text() for text in many.legends[0].get_texts()][-1] == "4 others"
    same = compared_curves({"run": compared.runs[0], "reproduced": compared.runs[0]})
    below, above = (line.get_linewidth() for line in same.axes[0].lines if len(line.get_xdata()) > 1)
    assert below > 2 * above  # so that both are seen


def test_names():
    assert short_names([("a", "1", "units"), ("b", "1", "units")], ".") == ("a.1.units", "b.1.units")
    assert short_names([("seed",)], ".") == ("seed",)
    assert cut_names(["short", "a" * 30], 10) == ["short", "aaa…aaaaaa"]
    assert all(len(name) <= 8 for name in cut_names([f"a_long_name-{i}" for i in range(3)], 8))
    assert flattened([]) == {"": []}


OUTPUTS = ("loss", "score_loss", "kind_loss", "score_mae", "kind_accuracy")


@pytest.mark.parametrize(
    ("settings", "names", "best"),
    [
        ({}, OUTPUTS, "test_score_mae"),  # no loss of an output where there is a metric
        ({"training.early_stopping.monitor": "val_kind_accuracy"}, OUTPUTS, "test_kind_accuracy"),
        ({"training.checkpoint.best": "val_kind_accuracy"}, OUTPUTS, "test_kind_accuracy"),
        ({"training.callbacks.0.ReduceLROnPlateau.monitor": "kind_accuracy"}, OUTPUTS, "test_kind_accuracy"),
        ({"training.early_stopping.monitor": "val_loss"}, OUTPUTS, "test_score_mae"),
        ({"training.early_stopping.monitor": "val_gone"}, OUTPUTS, "test_score_mae"),
        ({}, OUTPUTS[:3], "test_loss"),
    ],
)
def test_the_metric_to_judge_a_run_by(settings, names, best):
    metrics = {f"{part}{name}": 0.5 for part in ("", "val_", "test_") for name in names}
    record = RunRecord(pathlib.Path("run"), "completed", settings=settings, metrics=metrics)
    assert record.best == (best, 0.5)
