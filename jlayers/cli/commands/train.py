"""Train the model of a file, and keep the run in a new folder."""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jlayers.cli.arguments import add_compile_cache, add_file
from jlayers.cli.compiled import kept_programs
from jlayers.cli.own_code import use_code, use_code_of_run
from jlayers.cli.seeds import print_seeds, seeds_text
from jlayers.cli.terminal import console, number, remark, remarks

if TYPE_CHECKING:
    from jlayers.runs import Run

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser, nargs="?")
    parser.add_argument("--epochs", type=int, metavar="N", help="short for --set training.epochs=N")
    parser.add_argument(
        "--run", metavar="DIR", help="the run's folder (default: runs/<name of the file>-<number>)"
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="instead of FILE: continue a run that was interrupted or killed, from its last checkpoint",
    )
    parser.add_argument(
        "--accept-changed-code",
        action="store_true",
        help="with --resume: accept --use files that differ from those that the run was trained with",
    )
    parser.add_argument(
        "--pictures",
        action=argparse.BooleanOptionalAction,
        default=os.environ.get("JLAYERS_PICTURES", "") != "0",
        help="after the training, predict the held-out data and draw what is predicted wrongly "
        "(JLAYERS_PICTURES=0 turns it off, too)",
    )
    add_compile_cache(parser)


def main(arguments: argparse.Namespace) -> None:
    from jlayers.train.interruptions import Interruptions

    with Interruptions(at_once=True), kept_programs(arguments.compile_cache) as compiled:
        if _train(arguments):
            console().print(str(compiled), style="dim")


def _train(arguments: argparse.Namespace) -> bool:
    """False if nothing was left to do."""
    from jlayers.config import load
    from jlayers.inspect.summary import summary
    from jlayers.runs import Run, train_run
    from jlayers.runs.environment import first_device
    from jlayers.runs.training import ending_noted
    from jlayers.train.progress import ProgressBar

    if arguments.resume is not None:
        found = _to_resume(arguments)
        if found is None:
            return False
        experiment, run = found
        with experiment.located_layer():
            report = summary(experiment.model, experiment.data.features)
        run.begin_again()
    else:
        if arguments.file is None:
            raise ValueError("expected a FILE to train, or --resume RUN to continue a run")
        code = use_code(arguments)
        first_device()
        epochs = [] if arguments.epochs is None else [f"training.epochs={arguments.epochs}"]
        experiment = load(arguments.file, [*arguments.set, *epochs])
        experiment.check()  # faults are reported before there is a folder
        with experiment.located_layer():
            report = summary(experiment.model, experiment.data.features)
        config = experiment.to_data()
        if arguments.run is not None:
            run = Run.create(arguments.run, config, code=code)
        else:
            run = Run.create_next("runs", pathlib.Path(arguments.file).stem, config, code=code)
    arguments.begun = run
    out = console()
    with ending_noted(run):
        run.write_model(report)
        _print_header(out, arguments, experiment, report, run)
    with remarks():
        results = train_run(experiment, run, [ProgressBar()])
    out.print()
    _print_ending(out, experiment, results)
    _print_results(out, experiment.data, results)
    if arguments.pictures:
        _draw(experiment, run)
    use = "".join(f" --use {shlex.quote(path)}" for path in arguments.use)
    out.print(f"evaluate again with: jlayers evaluate {shlex.quote(str(run.path))}{use}", style="dim")
    return True


def _to_resume(arguments: argparse.Namespace) -> tuple[Any, Run] | None:
    """The experiment and the folder of a run to continue with; None if it is completed."""
    from jlayers.runs import Run, experiment_to_resume
    from jlayers.runs.environment import first_device

    for name in ("file", "run", "epochs", "set"):
        if getattr(arguments, name):
            what = "FILE" if name == "file" else f"--{name}"
            raise ValueError(f"expected no {what} with --resume: a run continues with its own settings")
    run = Run.reopen(arguments.resume)
    if run.status == "completed":
        console().print(f"{run.path} is completed: nothing is left to do")
        return None
    use_code_of_run(arguments, run)
    first_device()
    arguments.file = str(run.config)
    with remarks():
        return experiment_to_resume(run), run


def _draw(experiment: Any, run: Run) -> None:
    """Draw what the model predicts wrongly. The run is completed, so no error here can harm it."""
    from jlayers.experiments.outcomes import draw_outcomes, find_outcomes
    from jlayers.runs.figures import can_draw

    if experiment.data.test is None and not experiment.settings.training.validation:
        return
    try:
        with remarks():
            draw_outcomes(find_outcomes(run, experiment), run.path)
    except Exception as error:
        remark(f"what is predicted wrongly could not be shown: {error}")
    if not can_draw():
        remark("no pictures were drawn: they need matplotlib, pip install 'jlayers[plot]'")


def _print_header(out: Any, arguments: argparse.Namespace, experiment: Any, report: Any, run: Run) -> None:
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
        "config": arguments.file,
        "code": ", ".join(arguments.use),
        "data": str(experiment.data),
        "model": f"{experiment.model.spec.name}, {report.params:,} parameters{frozen}",
        "training": f"{most}{epochs}, batches of {training.batch_size}, {seeds_text(experiment.seeds)}",
        "device": f"{device.device_kind} ({device.platform}), JAX {jax.__version__}",
        "run": str(run.path),
    }
    for name, text in facts.items():
        if text:
            out.print(Text.assemble((f"{name:<9}", "bold cyan"), text))
    out.print()


def _print_ending(out: Any, experiment: Any, results: Mapping[str, Any]) -> None:
    """Print the last epoch and the epoch whose weights are kept, for each seed if there are many."""
    seeds = results.get("seeds")
    ends = [results["epochs"]] if seeds is None else seeds["epochs"]
    kept = [results["kept_epoch"]] if seeds is None else seeds["kept_epochs"]
    several = "s" * (len(set(ends)) > 1)
    if min(ends) < experiment.settings.training.epochs:
        out.print(f"stopped early, after epoch{several} {_together(ends)}")
    if kept != ends:
        out.print(f"kept the weights of epoch{'s' * (len(set(kept)) > 1)} {_together(kept)}")


def _together(numbers: Sequence[int]) -> str:
    """Equal numbers as one."""
    return ", ".join(map(str, numbers if len(set(numbers)) > 1 else numbers[:1]))


def _print_results(out: Any, data: Any, results: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from jlayers.train.progress import waited

    titles = {"training": "train", "validation": "validation", "held out": "test"}
    if "seeds" in results:
        found = {title: results["seeds"][part] for title, part in titles.items() if part in results["seeds"]}
        about = f"{data.name}, {results['seconds']:.1f} s, {len(results['seeds']['numbers'])} seeds"
        print_seeds(out, about, found, results.get("ensemble", {}).get("test"))
        return
    columns = {title: results[part] for title, part in titles.items() if part in results}
    rows = dict.fromkeys(name for values in columns.values() for name in values)
    title = Text(f"{data.name}, {results['seconds']:.1f} s{waited(results.get('waited_for_data', 0.0))}")
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", style="bold" if name == "held out" else "")
    for row in rows:
        table.add_row(Text(row), *(number(row, values.get(row)) for values in columns.values()))
    out.print(table)
