"""The command line: `jlayers train`, `evaluate`, `predict`, `summary`, `list` and `schema`.

The only module that prints. What is wrong with a file or a path is told without a traceback, and the exit
code is then 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 if training failed, 2 if what was asked for is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    try:
        given.command(given)
        return 0
    except KeyboardInterrupt:
        return _fail(given, "interrupted", 130)
    except ArithmeticError as error:
        return _fail(given, str(error), 1)
    except BrokenPipeError:  # the reader of the output, such as `head`, has gone
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        notes = [note for note in getattr(error, "__notes__", []) if note.startswith("in layer ")]
        return _fail(given, "\n  ".join([text or type(error).__name__, *notes]), 2)


def _fail(given: argparse.Namespace, text: str, code: int) -> int:
    if given.debug:
        import traceback

        traceback.print_exc()
    console = _console(stderr=True)
    for line in text.splitlines():
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jlayers", description="Train and use models that a YAML file describes."
    )
    parser.set_defaults(command=None, debug=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--debug", action="store_true", help="show the traceback of an error")
        made.set_defaults(command=command)
        return made

    def add_set(made: argparse.ArgumentParser) -> None:
        made.add_argument("file", metavar="FILE", help="the YAML file")
        made.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="replace one value, such as optimizer.adam.learning_rate=0.01 (may be given several times)",
        )

    train = add("train", _train, "Train the model of a file; the run is kept in a folder of its own.")
    add_set(train)
    train.add_argument("--epochs", type=int, metavar="N", help="short for --set training.epochs=N")
    train.add_argument(
        "--run", metavar="DIR", help="the run's folder (default: runs/<name of the file>-<number>)"
    )

    evaluate = add("evaluate", _evaluate, "Evaluate a run's weights on the data held out.")
    evaluate.add_argument("run", metavar="RUN", help="the run's folder")

    predict = add("predict", _predict, "Apply a run's weights to inputs, prepared as its training data were.")
    predict.add_argument("run", metavar="RUN", help="the run's folder")
    predict.add_argument("input", metavar="INPUT", help="a .npy, .npz or .csv file")
    predict.add_argument("--output", metavar="FILE", help="write all outputs to this .npy, .npz or .csv file")
    predict.add_argument("--no-header", action="store_true", help="the .csv file has no line of column names")

    summary = add("summary", _summary, "Show the layers of a file's model.")
    add_set(summary)

    listing = add("list", _list, "List what a file can name: layers, losses, metrics, optimizers, ...")
    listing.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as layers or losses; all kinds if left out"
    )

    add("schema", _schema, "Print the JSON Schema of the files, for editors.")
    return parser


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)


# ------------------------------------------------------------------------------------------ commands


def _train(given: argparse.Namespace) -> None:
    from jlayers.config import load
    from jlayers.inspect.summary import summary
    from jlayers.runs import Run, train_run
    from jlayers.train.progress import ProgressBar

    overrides = [*given.set, *([f"training.epochs={given.epochs}"] if given.epochs is not None else [])]
    experiment = load(given.file, overrides)
    experiment.check()  # what is wrong is told before there is a folder
    with experiment.located_layer():
        report = summary(experiment.model, experiment.data.features)
    config = experiment.to_data()
    if given.run is not None:
        run = Run.create(given.run, config, str(report))
    else:
        run = Run.create_next("runs", pathlib.Path(given.file).stem, config, str(report))
    console = _console()
    _print_header(console, given.file, experiment, report, run)
    console.print()
    results = train_run(experiment, run, [ProgressBar()])
    if results["epochs"] < experiment.settings.training.epochs:
        console.print(f"stopped early, after {results['epochs']} epochs", highlight=False)
    if results["kept_epoch"] < results["epochs"]:
        console.print(f"kept the weights of epoch {results['kept_epoch']}", highlight=False)
    _print_results(console, experiment.data, results)
    console.print(
        f"[dim]evaluate again with:[/] jlayers evaluate {run.path}", highlight=False, soft_wrap=True
    )


def _print_header(console: Any, file: str, experiment: Any, report: Any, run: Any) -> None:
    import jax

    settings = experiment.settings
    training = settings.training
    frozen = f", {report.frozen:,} of them frozen" if report.frozen else ""
    most = "up to " if training.early_stopping else ""
    device = jax.devices()[0]
    facts = {
        "config": file,
        "data": str(experiment.data),
        "model": f"{experiment.model.spec.name}, {report.params:,} parameters{frozen}",
        "training": f"{most}{training.epochs} epochs, batches of {training.batch_size}, seed {settings.seed}",
        "device": f"{device.device_kind} ({device.platform}), JAX {jax.__version__}",
        "run": str(run.path),
    }
    for name, text in facts.items():
        console.print(f"[bold cyan]{name:<9}[/]", end="")
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_results(console: Any, data: Any, results: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    titles = {"training": "train", "validation": "validation", "held out": "test"}
    columns = {title: results[part] for title, part in titles.items() if part in results}
    rows = dict.fromkeys(name for values in columns.values() for name in values)
    table = Table(box=SIMPLE_HEAD, title=f"{data.name}, {results['seconds']:.1f} s", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", style="bold" if name == "held out" else "")
    for row in rows:
        table.add_row(row, *(_number(row, values.get(row)) for values in columns.values()))
    console.print(table)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


def _evaluate(given: argparse.Namespace) -> None:
    from jlayers.runs import Run, evaluate_run

    run = Run.open(given.run)
    results, data = evaluate_run(run)
    console = _console()
    then = run.results()
    if then.get("status") != "completed":
        console.print(
            f"the run's status is {then.get('status')!r}: these are its last saved weights", highlight=False
        )
    if data.fingerprint() != run.data()["fingerprint"]:
        console.print("the data have changed since this run was trained", style="yellow", highlight=False)
    for name, value in results.items():
        console.print(f"{name:<12}{value!r}", highlight=False)


def _predict(given: argparse.Namespace) -> None:
    from jlayers.core.precision import widened
    from jlayers.runs import Run, predict_run

    run = Run.open(given.run)
    if given.output:
        _check_output(given.output)
    # NumPy's files know no bfloat16.
    outputs = widened(predict_run(run, _read_input(given.input, not given.no_header, run.inputs())))
    if given.output:
        _write_output(given.output, outputs)
    else:
        _print_outputs(outputs, run.data().get("class_names"))


def _read_input(path: str, header: bool, inputs: Any) -> Any:
    from jlayers.data.npy import read_npy, read_npz
    from jlayers.data.table import read_columns, read_numbers

    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    text = [n for n, spec in inputs.items() if spec.dtype == object] if isinstance(inputs, Mapping) else []
    if suffix == ".csv" and text:
        return read_columns(path, list(inputs), text, header=header)
    if suffix == ".csv":
        return read_numbers(path, header=header)
    raise ValueError(f"expected a .npy, .npz or .csv file, received {path}")


def _check_output(path: str) -> None:
    if pathlib.Path(path).suffix.lower() not in (".npy", ".npz", ".csv"):
        raise ValueError(f"expected a .npy, .npz or .csv file to write, received --output {path}")
    if pathlib.Path(path).exists():
        raise FileExistsError(f"{path} is there already: choose another name for --output")


def _write_output(path: str, outputs: Any) -> None:
    import numpy as np

    named = _named(outputs)
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".npz":
        np.savez(path, **named)
    elif len(named) != 1:
        raise ValueError(
            f"the model has the outputs {list(named)}: expected a .npz file, received --output {path}"
        )
    elif suffix == ".npy":
        np.save(path, *named.values())
    else:
        rows = next(iter(named.values()))
        np.savetxt(path, rows.reshape(len(rows), -1), fmt="%.9g", delimiter=",")


def _named(outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return {f"output_{i}": output for i, output in enumerate(outputs)}
    return {"output": outputs}


def _print_outputs(outputs: Any, class_names: Sequence[str] | None) -> None:
    named = _named(outputs)
    for name, rows in named.items():
        if len(named) > 1:
            print(f"{name}:")
        for row in rows.reshape(len(rows), -1):
            numbers = " ".join(f"{value:.4g}" for value in row)
            best = f"{class_names[row.argmax()]}  " if class_names and len(row) == len(class_names) else ""
            print(best + numbers)


def _summary(given: argparse.Namespace) -> None:
    from jlayers.config import load
    from jlayers.inspect.summary import summary

    experiment = load(given.file, given.set)
    with experiment.located_layer():
        print(summary(experiment.model, experiment.data.features))


def _list(given: argparse.Namespace) -> None:
    from jlayers.config.signatures import KINDS, documentation, registry_of, shown
    from jlayers.core.registry import nearest

    registries = {registry.plural: registry for kind in KINDS if (registry := registry_of(kind)) is not None}
    wanted = next((p for p, r in registries.items() if given.kind in (p, r.kind)), None)
    if given.kind is not None and wanted is None:
        raise ValueError(
            f"expected a kind to list, received {given.kind!r}: {nearest(given.kind, registries)}"
        )
    console = _console()
    for plural, registry in registries.items():
        if wanted not in (None, plural):
            continue
        console.print(plural, style="bold cyan")
        for name in registry:
            print(f"  {shown(name, registry[name])}")
            if wanted and (text := documentation(registry[name])):
                console.print(f"      {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _schema(given: argparse.Namespace) -> None:
    from jlayers.config import json_schema

    print(json.dumps(json_schema(), indent=2))


if __name__ == "__main__":
    sys.exit(main())
