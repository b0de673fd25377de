"""A run as one page: what was run, what came out, how, and on what."""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import math
import os
import pathlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jlayers.config.reader import read_file
from jlayers.experiments.outcomes import Outcomes, find_outcomes, read_outcomes
from jlayers.experiments.record import RunRecord, read_run
from jlayers.experiments.report.held_out import held_out
from jlayers.experiments.report.html import Element, element, page, table
from jlayers.experiments.report.pictures import Pictures
from jlayers.experiments.report.speed import duration, profiles, speed
from jlayers.runs import Run
from jlayers.runs.curves import curves_figure
from jlayers.runs.epochs import SEEDS
from jlayers.runs.files import DATA, ENVIRONMENT, SUMMARY, WEIGHTS
from jlayers.saving.files import read_json, write_atomically

__all__ = ["REPORT", "page_of", "report"]

REPORT = "report.html"


def report(run: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Write a report of a run, be it running, completed, failed, interrupted or killed: one HTML page.

    The page is complete in itself: it loads nothing and runs nothing, so it can be sent to someone. It shows
    what was run, the results, curves, which samples of the held-out data are predicted wrongly, time, the
    model and the whole configuration. Pictures need matplotlib, of the extra `plot`. The predictions
    for the held-out data are computed, unless `jlayers train` has left them in the run's folder.

    Args:
        run: the run's folder.
        output: the file; `report.html` in the run's folder if not given. It is written over.

    Returns:
        the path of the page.

    Raises:
        FileNotFoundError: no run there, or no folder for the page.
        ValueError: a file of the run is damaged.
    """
    record = read_run(run)
    path = pathlib.Path(run) / REPORT if output is None else pathlib.Path(output)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it first")
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder: name the file of the page")
    text = page_of(Run(run), record)
    write_atomically(path, text.encode())
    return path


def page_of(run: Run, record: RunRecord) -> str:
    """The page of a run as a text."""
    pictures = Pictures()
    found, why = _outcomes(run, record)
    sections: dict[str, Iterable[Any]] = {
        "Overview": _overview(run, record),
        "Results": _results(run, record),
        "Curves": _curves(run, record, pictures),
        "Held-out data": held_out(found, pictures) if found else [element("p", why, class_="note")],
        "Time and speed": speed(run, record),
        "Profile": profiles(run),
        "Model": _model(run),
        "Environment": _environment(run),
        "Configuration": _configuration(run),
    }
    made = {title: list(parts) for title, parts in sections.items()}
    made = {title: parts for title, parts in made.items() if parts}
    places = {title: title.lower().replace(" ", "-") for title in made}
    style = importlib.resources.files("jlayers.experiments.report").joinpath("style.css").read_text("utf-8")
    now = datetime.datetime.now(datetime.UTC)
    return page(
        f"{record.name}: jlayers",
        style,
        element("header", element("h1", record.name),
                element("span", record.status, class_=f"status {record.status}")),
        _time_and_folder(record),
        element("p", record.reason, class_="note failed") if record.reason else None,
        _advice(run) if record.status == "failed" else None,
        _remarks(run),
        None if pictures.drawn else element(
            "p", "There are no pictures: they need matplotlib, pip install 'jlayers[plot]'.", class_="note"),
        element("nav", [element("a", title, href=f"#{place}") for title, place in places.items()]),
        [element("section", element("h2", title), *parts, id=places[title]) for title, parts in made.items()],
        element("footer", f"Made by jlayers on {now:%Y-%m-%d %H:%M} UTC."),
    )  # fmt: skip


def _advice(run: Run) -> Element:
    command = element("code", f"jlayers doctor {shlex.quote(str(run.path))}")
    return element("p", "Look for the cause with ", command, ".", class_="dim")


def _outcomes(run: Run, record: RunRecord) -> tuple[Outcomes | None, str]:
    """The section on the held-out data; or why nothing is known of them."""
    if not (run.path / WEIGHTS).is_file():
        return None, f"Nothing is known{' yet' * (record.status == 'running')}: the run has saved no weights."
    try:
        if record.status == "running":
            return read_outcomes(run), "The run is still training: see here again when it has ended."
        return find_outcomes(run), ""
    except Exception as error:  # such as data that have gone: the rest of the page is worth showing
        text = (str(error).splitlines() or [type(error).__name__])[0]
        return None, f"Nothing can be shown of it: {text}"


def _time_and_folder(record: RunRecord) -> Element | None:
    if record.began is None:
        return None
    long = "" if record.seconds is None else f", trained for {duration(record.seconds)}"
    began = f"Began {record.began:%Y-%m-%d %H:%M} UTC{long}."
    return element("p", f"{began} Folder: {record.path}", class_="dim")


def _remarks(run: Run) -> Iterator[Element]:
    for name in run.changes():
        yield element("p", f"{name} has changed since this run was trained.", class_="note")
    for name in run.code:
        yield element("p", f"The run was trained with code of its own: {name}, a copy is in its folder code.",
                      class_="note")  # fmt: skip


def _overview(run: Run, record: RunRecord) -> Iterator[Element]:
    facts: dict[str, str] = {}
    if (run.path / DATA).is_file():
        data = run.data()
        facts["Data"] = f"{data['name']}: {data['train']:,} samples to train on, {data['test']:,} held out"
        if names := data.get("class_names"):
            facts["Classes"] = f"{len(names):,}: " + ", ".join(names[:8]) + ", …" * (len(names) > 8)
        inputs = ((one["name"], f"{one['dtype']}{tuple(one['shape']) or ''}") for one in data["inputs"])
        facts["Input"] = ", ".join(" ".join(dict.fromkeys(parts)).strip() for parts in inputs)
    if record.parameters is not None:
        name = run.model().get("name", "")
        frozen = "" if record.trainable == record.parameters else f", {record.trainable:,} of them trained"
        facts["Model"] = f"{name}, {record.parameters:,} parameters{frozen}"
    planned = "" if record.planned is None else f" of {record.planned}"
    kept = (
        "" if record.kept_epoch is None or record.spread else f", weights of epoch {record.kept_epoch} kept"
    )
    facts["Epochs"] = f"{record.epochs}{planned}{kept}"
    if record.best is not None:
        name, value = record.best
        std = f" ± {_number(name, record.spread[name])}" if name in record.spread else ""
        facts["Result"] = f"{_title(name)} {_number(name, value)}{std}"
    settings = read_file(run.config).data
    facts |= {"Loss": _call(settings["loss"]), "Optimizer": _call(settings["optimizer"])}
    facts["Batch size"] = str(record.settings["training.batch_size"])
    first, count = settings["seed"], settings.get("seeds", 1)
    facts |= {"Seed": str(first)} if count == 1 else {"Seeds": f"{first} to {first + count - 1}"}
    if (run.path / ENVIRONMENT).is_file():
        environment = read_json(run.path / ENVIRONMENT)
        kind = str(environment.get("device", "unknown")).partition(": ")[2] or "unknown"
        processor = f" ({name})" if kind == "cpu" and (name := environment.get("processor")) else ""
        facts["Device"] = f"{environment.get('devices', 1)} × {kind}{processor}"
    yield element("dl", [element("div", element("dt", n), element("dd", t)) for n, t in facts.items()],
                  class_="facts")  # fmt: skip


def _call(value: Any) -> str:
    """A part of the configuration as a call, as in Python."""
    if isinstance(value, list):
        return ", ".join(map(_call, value))
    if not isinstance(value, Mapping):
        return str(value)
    if len(value) == 1:
        ((name, given),) = value.items()
        return f"{name}({_pairs(given) if isinstance(given, Mapping) else _call(given)})"
    return _pairs(value)


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_call(part)}" for name, part in value.items())


def _title(name: str) -> str:
    for start, title in (("test_", "held out"), ("val_", "validation")):
        if name.startswith(start):
            return f"{title} {name.removeprefix(start)}"
    return name


def _number(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.2%}" if name.endswith("accuracy") and 0 <= value <= 1 else f"{value:.4g}"


def _results(run: Run, record: RunRecord) -> Iterator[Element]:
    parts = {"training": "", "validation": "val_", "held out": "test_"}
    names = list(dict.fromkeys(n.removeprefix("test_").removeprefix("val_") for n in record.metrics))
    used = {title: start for title, start in parts.items() if any(start + n in record.metrics for n in names)}
    if not names:
        yield element("p", f"No epoch has ended{' yet' * (record.status == 'running')}.", class_="dim")
        return
    if run.has_seeds:
        yield from _seeds(run)
        return
    kept = ", whose weights are kept" if record.kept_epoch else ""
    yield element("p", f"Of epoch {record.kept_epoch or record.epochs}{kept}.", class_="dim")
    rows = [[n, *(_number(n, record.metrics.get(start + n)) for start in used.values())] for n in names]
    yield table(["", *used], rows)


def _seeds(run: Run) -> Iterator[Element]:
    """The results of many seeds, each at the epoch whose weights it keeps."""
    results = run.results()
    found = results[SEEDS]
    numbers = ", ".join(map(str, found["numbers"]))
    yield element("p", f"Over the seeds {numbers}, each at the epoch whose weights it keeps.", class_="dim")
    rows = []
    for title, part in (("training", "train"), ("validation", "validation"), ("held out", "test")):
        for name, one in found.get(part, {}).items():
            mean, std, low, high = (_number(name, one[key]) for key in ("mean", "std", "low", "high"))
            rows.append([f"{title} {name}", mean, std, f"{low} to {high}"])
    for name, value in results.get("ensemble", {}).get("test", {}).items():
        rows.append([f"held out {name} of the ensemble", _number(name, value), "", ""])
    yield table(["", "mean", "standard deviation", "95 % interval of the mean"], rows)


def _curves(run: Run, record: RunRecord, pictures: Pictures) -> Iterator[Element]:
    if not record.epochs:
        return
    if pictures.drawn:
        names = [name for name in record.history if not name.startswith("val_")]
        curves = [{key: record.history.get(key, ()) for key in (name, f"val_{name}")} for name in names]
        draw = functools.partial(curves_figure, better=record.better, seeds=run.seeds_history())
        yield element("div", [pictures.add(draw, one) for one in curves], class_="pictures")
        return
    names = list(record.history)
    epochs = zip(*record.history.values(), strict=False)
    yield table(["epoch", *names], [[n, *map(_number, names, values)] for n, values in enumerate(epochs, 1)])


def _model(run: Run) -> Iterator[Element]:
    path = run.path / SUMMARY
    if path.is_file():
        yield element("pre", path.read_text("utf-8", "replace"), class_="table")


def _environment(run: Run) -> Iterator[Element]:
    path = run.path / ENVIRONMENT
    if not path.is_file():
        return
    facts: dict[str, Any] = {}
    for name, value in read_json(path).items():
        facts |= {f"{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
    if fingerprint := (run.data().get("fingerprint") if (run.path / DATA).is_file() else None):
        facts["data, SHA-256"] = fingerprint
    rows = [[name, "none" if value is None else str(value)] for name, value in facts.items()]
    yield table([], rows, class_="words")


def _configuration(run: Run) -> Iterator[Element]:
    yield element("pre", run.config.read_text("utf-8", "replace"))
