"""The commands. Results go to standard output, remarks to standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jlayers.cli.compiled import kept_programs
from jlayers.cli.terminal import console

if TYPE_CHECKING:
    from jlayers.runs import Run

__all__ = ["evaluate", "listing", "predict", "schema", "summary", "tell_what_is_kept", "train"]


def _use(given: argparse.Namespace) -> list[Any]:
    """Run the files that `--use` names."""
    from jlayers.runs.own_code import execute, read_own_code

    files = read_own_code(given.use)
    execute(files)
    return files


def _use_for_run(given: argparse.Namespace, run: Run) -> None:
    """Run the files that `--use` names, if they are those that the run was trained with."""
    from jlayers.runs.own_code import check_own_code, execute, read_own_code

    files = read_own_code(given.use)
    for remark in check_own_code(run.code, files, run.path, given.accept_changed_code):
        _remark(remark)
    execute(files)


def _remark(text: str) -> None:
    console(stderr=True).print(text, style="yellow")


@contextlib.contextmanager
def _remarks() -> Iterator[None]:
    """A block in which what is said of a run is printed for people."""
    from jlayers.runs import RunWarning
    from jlayers.saving.checkpoints import CheckpointWarning

    shown = (RunWarning, CheckpointWarning)
    with warnings.catch_warnings():
        for kind in shown:
            warnings.simplefilter("always", kind)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **options: Any) -> None:
            if issubclass(category, shown):
                _remark(str(message))
            else:
                usual(message, category, *rest, **options)

        warnings.showwarning = show
        yield


# ------------------------------------------------------------------------------------------ train


def train(given: argparse.Namespace) -> None:
    """`jlayers train FILE`."""
    from jlayers.train.interruptions import Interruptions

    with Interruptions(at_once=True), kept_programs(given) as compiled:
        if _train(given):
            console().print(str(compiled), style="dim")


def _train(given: argparse.Namespace) -> bool:
    """False if nothing was left to do."""
    from jlayers.config import load
    from jlayers.inspect.summary import summary
    from jlayers.runs import Run, train_run
    from jlayers.runs.environment import first_device
    from jlayers.runs.training import ending_noted
    from jlayers.train.progress import ProgressBar

    if given.resume is not None:
        found = _to_resume(given)
        if found is None:
            return False
        experiment, run = found
        with experiment.located_layer():
            report = summary(experiment.model, experiment.data.features)
        run.begin_again()
    else:
        if given.file is None:
            raise ValueError("expected a FILE to train, or --resume RUN to go on with a run")
        code = _use(given)
        first_device()
        overrides = [*given.set, *([f"training.epochs={given.epochs}"] if given.epochs is not None else [])]
        experiment = load(given.file, overrides)
        experiment.check()  # what is wrong is told before there is a folder
        with experiment.located_layer():
            report = summary(experiment.model, experiment.data.features)
        config = experiment.to_data()
        if given.run is not None:
            run = Run.create(given.run, config, str(report), code)
        else:
            run = Run.create_next("runs", pathlib.Path(given.file).stem, config, str(report), code)
    given.begun = run
    out = console()
    with ending_noted(run):
        _print_header(out, given, experiment, report, run)
    with _remarks():
        results = train_run(experiment, run, [ProgressBar()])
    out.print()
    if results["epochs"] < experiment.settings.training.epochs:
        out.print(f"stopped early, after epoch {results['epochs']}")
    if results["kept_epoch"] < results["epochs"]:
        out.print(f"kept the weights of epoch {results['kept_epoch']}")
    _print_results(out, experiment.data, results)
    use = "".join(f" --use {shlex.quote(path)}" for path in given.use)
    out.print(f"evaluate again with: jlayers evaluate {shlex.quote(str(run.path))}{use}", style="dim")
    return True


def _to_resume(given: argparse.Namespace) -> tuple[Any, Run] | None:
    """The experiment and the folder of a run to go on with; None if it is completed."""
    from jlayers.runs import Run, resumed
    from jlayers.runs.environment import first_device

    for name in ("file", "run", "epochs", "set"):
        if getattr(given, name):
            what = "FILE" if name == "file" else f"--{name}"
            raise ValueError(f"expected no {what} with --resume: a run goes on with its own configuration")
    run = Run.reopen(given.resume)
    if run.status == "completed":
        console().print(f"{run.path} is completed: nothing is left to do")
        return None
    _use_for_run(given, run)
    first_device()
    given.file = str(run.config)
    with _remarks():
        return resumed(run), run


def tell_what_is_kept(run: Run) -> None:
    """After a training that did not end well: which weights there are."""
    from jlayers.runs.folder import WEIGHTS

    with contextlib.suppress(Exception):
        there = (run.path / WEIGHTS).is_file()
        kept = f"it keeps the weights of epoch {run.kept_epoch()}" if there else "it holds no weights yet"
        resume = f"; go on with: jlayers train --resume {shlex.quote(str(run.path))}"
        out = console(stderr=True)
        out.print(f"run {run.path}: {kept}{resume if run.checkpoints.is_dir() else ''}")


def _print_header(out: Any, given: argparse.Namespace, experiment: Any, report: Any, run: Run) -> None:
    import jax
    from rich.text import Text

    from jlayers.runs.environment import first_device

    settings = experiment.settings
    training = settings.training
    frozen = f", {report.frozen:,} of them frozen" if report.frozen else ""
    most = "up to " if training.early_stopping else ""
    epochs = f"{training.epochs} epoch{'s' * (training.epochs != 1)}"
    device = first_device()
    facts = {
        "config": given.file,
        "code": ", ".join(given.use),
        "data": str(experiment.data),
        "model": f"{experiment.model.spec.name}, {report.params:,} parameters{frozen}",
        "training": f"{most}{epochs}, batches of {training.batch_size}, seed {settings.seed}",
        "device": f"{device.device_kind} ({device.platform}), JAX {jax.__version__}",
        "run": str(run.path),
    }
    for name, text in facts.items():
        if text:
            out.print(Text.assemble((f"{name:<9}", "bold cyan"), text))
    out.print()


def _print_results(out: Any, data: Any, results: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from jlayers.train.progress import waited

    titles = {"training": "train", "validation": "validation", "held out": "test"}
    columns = {title: results[part] for title, part in titles.items() if part in results}
    rows = dict.fromkeys(name for values in columns.values() for name in values)
    title = Text(f"{data.name}, {results['seconds']:.1f} s{waited(results.get('waited_for_data', 0.0))}")
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", style="bold" if name == "held out" else "")
    for row in rows:
        table.add_row(Text(row), *(_number(row, values.get(row)) for values in columns.values()))
    out.print(table)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


# ------------------------------------------------------------------------------ evaluate, predict


def evaluate(given: argparse.Namespace) -> None:
    """`jlayers evaluate RUN`."""
    from jlayers.runs import Run, evaluate_run
    from jlayers.runs.environment import first_device

    first_device()
    run = Run.open(given.run)
    _use_for_run(given, run)
    with _remarks():
        results, _ = evaluate_run(run)
    width = max(map(len, results)) + 2
    for name, value in results.items():
        print(f"{name:<{width}}{value!r}")


def predict(given: argparse.Namespace) -> None:
    """`jlayers predict RUN INPUT`."""
    from jlayers.data.folders import FileRows
    from jlayers.runs import Run, predict_run
    from jlayers.runs.environment import first_device
    from jlayers.runs.inputs import read_inputs
    from jlayers.runs.outputs import check_output, named_outputs, write_outputs

    first_device()
    run = Run.open(given.run)
    if given.output:
        check_output(given.output)
    _use_for_run(given, run)
    with _remarks():
        x = read_inputs(run, given.input, given.header, given.delimiter)
        files = x.files.names if isinstance(x, FileRows) and len(x) > 1 else ()
        outputs = named_outputs(predict_run(run, x))
    if given.output:
        write_outputs(given.output, outputs)
    else:
        _print_outputs(outputs, run.data().get("class_names"), files)


def _print_outputs(
    named: Mapping[str, Any], class_names: Sequence[str] | None, files: Sequence[str] = ()
) -> None:
    for name, output in named.items():
        if len(named) > 1:
            print(f"{name}:")
        for number, row in enumerate(_rows(output)):
            file = f"{files[number]}  " if files else ""
            best = f"{class_names[row.argmax()]}  " if class_names and len(row) == len(class_names) else ""
            print(file + best + " ".join(map(_shown, row.tolist())))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(output: Any) -> Iterator[Any]:
    """Each sample as one flat row; of a masked output only what is real."""
    import numpy as np

    from jlayers.core.masks import Masked

    if isinstance(output, Masked):
        yield from (np.ravel(v[m]) for v, m in zip(output.values, output.mask, strict=True))
    else:
        yield from map(np.ravel, output)


# -------------------------------------------------------------------------- summary, list, schema


def summary(given: argparse.Namespace) -> None:
    """`jlayers summary FILE`."""
    from jlayers.config import load
    from jlayers.inspect.summary import summary
    from jlayers.runs.environment import first_device

    _use(given)
    first_device()
    experiment = load(given.file, given.set)
    with experiment.located_layer():
        print(summary(experiment.model, experiment.data.features))


def listing(given: argparse.Namespace) -> None:
    """`jlayers list [KIND]`."""
    from jlayers.config.signatures import KINDS, documentation, registry_of, shown
    from jlayers.core.spelling import nearest

    _use(given)
    registries = {registry.plural: registry for kind in KINDS if (registry := registry_of(kind)) is not None}
    wanted = next((p for p, r in registries.items() if given.kind in (p, r.kind)), None)
    is_applications = given.kind in ("application", "applications")
    if given.kind is not None and wanted is None and not is_applications:
        known = [*registries, "applications"]
        raise ValueError(f"expected a kind to list, received {given.kind!r}: {nearest(given.kind, known)}")
    out = console()
    if given.kind is None or is_applications:
        _list_applications(out)
    for plural, registry in registries.items():
        if is_applications or wanted not in (None, plural):
            continue
        out.print(plural, style="bold cyan")
        for name in registry:
            print(f"  {shown(name, registry[name])}")
            if wanted and (text := documentation(registry[name])):
                out.print(f"      {text}", style="dim")


def _list_applications(out: Any) -> None:
    """Every application with what it costs and how good its published weights are."""
    from jlayers.applications import costs, published

    out.print("applications", style="bold cyan")
    print(f"  {'':<32}{'parameters':>12}{'GFLOPs':>9}{'size':>6}{'top-1':>7}")
    for name, cost in sorted(costs().items()):
        facts = published(name)
        top1 = "" if facts.top1 is None else f"{facts.top1:.1f}"
        numbers = f"{cost['parameters']:>12,}{cost['flops'] / 1e9:>9.2f}{facts.size:>6}{top1:>7}"
        print(f"  {'applications.' + name:<32}{numbers}")


def schema(given: argparse.Namespace) -> None:
    """`jlayers schema`."""
    from jlayers.config import json_schema

    _use(given)
    print(json.dumps(json_schema(), indent=2))
