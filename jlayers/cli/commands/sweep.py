"""Train a file's experiment with the values of its section sweep; each trial is a run."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from jlayers.cli.arguments import add_compile_cache, add_file
from jlayers.cli.own_code import use_code
from jlayers.cli.tables import Column, print_table
from jlayers.cli.terminal import console, number, remark, remarks

if TYPE_CHECKING:
    from jlayers.experiments.sweep.search import Search
    from jlayers.experiments.sweep.trial import Trial

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser, nargs="?")
    parser.add_argument(
        "--folder", metavar="DIR", help="the sweep's folder (default: sweeps/<name of the file>-<number>)"
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="instead of FILE: continue a sweep that was interrupted or killed",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume: train failed trials again, such as those that ran out of memory",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="how many trials train at the same time, each in its own process, and on its own device if "
        "there are several; 0 trains them in this process, one after the other (default: 1)",
    )
    parser.add_argument(
        "--accept-changed-code",
        action="store_true",
        help="with --resume: accept --use files that differ from those that the sweep started with",
    )
    add_compile_cache(parser)


def main(arguments: argparse.Namespace) -> int:
    from jlayers.cli.compiled import kept_programs
    from jlayers.train.interruptions import Interruptions

    if arguments.jobs < 0:
        raise ValueError(f"expected --jobs 0 or more, received --jobs {arguments.jobs}")
    if arguments.jobs:
        _leave_the_devices_to_the_trials()
    with Interruptions(at_once=True), kept_programs(arguments.compile_cache):
        search = _resumed_search(arguments) if arguments.resume is not None else _new_search(arguments)
        try:
            _run(search, arguments)
        except BaseException:
            again = f"jlayers sweep --resume {shlex.quote(str(search.folder.path))}{_use(arguments)}"
            remark(f"{len(search.trials)} of {search.plan.total} trials have ended; continue with: {again}")
            raise
    return 0 if search.best else 1


def _leave_the_devices_to_the_trials() -> None:
    """Use the CPU in this process, which only checks models."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def _new_search(arguments: argparse.Namespace) -> Search:
    from jlayers.experiments.sweep.search import Search

    if arguments.file is None:
        raise ValueError("expected a FILE with a section sweep, or --resume DIR to continue a sweep")
    if arguments.retry_failed:
        raise ValueError("expected --resume DIR with --retry-failed: it continues a sweep that was started")
    code = use_code(arguments)
    return Search.begin(arguments.file, arguments.folder, arguments.set, code)


def _resumed_search(arguments: argparse.Namespace) -> Search:
    from jlayers.experiments.sweep.folder import SweepFolder
    from jlayers.experiments.sweep.search import Search
    from jlayers.runs.own_code import check_own_code, execute, read_own_code

    for name in ("file", "folder", "set"):
        if getattr(arguments, name):
            what = "FILE" if name == "file" else f"--{name}"
            raise ValueError(f"expected no {what} with --resume: a sweep continues with its own settings")
    files = read_own_code(arguments.use)
    folder = SweepFolder(arguments.resume)
    needed = folder.facts().get("code", {}) if folder.exists() else {}
    for text in check_own_code(needed, files, folder.path, arguments.accept_changed_code):
        remark(text)
    execute(files)
    with remarks():
        search = Search.reopen(arguments.resume)
        if arguments.retry_failed:
            search.retry_failed()
        return search


def _use(arguments: argparse.Namespace) -> str:
    return "".join(f" --use {shlex.quote(path)}" for path in arguments.use)


def _run(search: Search, arguments: argparse.Namespace) -> None:
    from jlayers.experiments.sweep.jobs import launcher_for
    from jlayers.runs.own_code import read_own_code

    out = console()
    _print_header(out, search)
    jobs = arguments.jobs
    if search.plan.depends and jobs > search.plan.settings.parallel:
        remark(
            f"{search.plan.settings.parallel} trials run at a time, not {jobs}: the others wait for results; "
            f"sweep.parallel says how many need not"
        )
    arguments.begun = True
    own = [part for path in arguments.use for part in ("--use", path)]
    own += ["--accept-changed-code"] * arguments.accept_changed_code
    own += ["--no-compile-cache"] * (not arguments.compile_cache)
    launcher = launcher_for(jobs, own, read_own_code(arguments.use))
    with remarks():
        search.run(launcher, lambda trial: _print_trial(out, search, trial))
    out.print()
    print_table(_columns(search))
    path = shlex.quote(str(search.folder.path))
    if best := search.best:
        evaluate = f"jlayers evaluate {shlex.quote(str(search.folder.path / best.name))}{_use(arguments)}"
        out.print(f"the best trial is {best.name}; evaluate it with: {evaluate}", style="dim")
    else:
        remark(f"no trial came to its end: {path}/{search.trials[0].name}.log and the others say why")
    if (search.folder.path / "sweep.png").is_file():
        out.print(f"picture: {path}/sweep.png", style="dim")


def _print_header(out: Any, search: Search) -> None:
    from rich.text import Text

    settings, folder = search.plan.settings, search.folder
    kept = f", {len(search.trials)} of them have ended" if search.trials else ""
    prune = "" if settings.prune is None else f", {_method_name(settings.prune)} ends poor ones"
    facts = {
        "sweep": str(folder.path),
        "data": str(search.plan.experiment.data),
        "trials": f"{search.plan.total}{kept}, {_method_name(settings.method)}, seed {settings.seed}{prune}",
        "metric": f"{settings.metric} ({search.plan.direction})",
    }
    for name, text in facts.items():
        out.print(Text.assemble((f"{name:<9}", "bold cyan"), text))
    out.print()


def _method_name(method: Any) -> str:
    return str(method).removesuffix("()")


def _print_trial(out: Any, search: Search, trial: Trial) -> None:
    epochs = f"{trial.epochs} epoch{'s' * (trial.epochs != 1)}"
    value = number(search.plan.settings.metric, trial.value)
    said = (trial.reason or "").splitlines()[:1] or [f"{search.plan.settings.metric} {value}, {epochs}"]
    names = _names(search)
    values = ", ".join(f"{names[path]}={_shown(value)}" for path, value in trial.values.items())
    out.print(f"{trial.name}  {trial.status:<9}  {said[0]}  ({values})")


def _columns(search: Search) -> list[Column]:
    settings, trials = search.plan.settings, search.ranked()
    best = ["bold" * (trial == search.best) for trial in trials]

    def column(title: str, cells: list[str], right: bool = True) -> Column:
        return Column(title, cells, best, right)

    return [
        column("trial", [trial.name for trial in trials], right=False),
        column(settings.metric, [number(settings.metric, trial.value) for trial in trials]),
        *(
            column(name, [_shown(trial.values[path]) for trial in trials])
            for path, name in _names(search).items()
        ),
        column("epochs", [str(trial.epochs) for trial in trials]),
        column("status", [trial.status for trial in trials], right=False),
    ]


def _names(search: Search) -> dict[str, str]:
    """By path of what is tried, the last parts of it that tell it apart."""
    from jlayers.experiments.names import short_names

    paths = list(search.plan.settings.values)
    return dict(zip(paths, short_names([path.split(".") for path in paths], "."), strict=True))


def _shown(value: Any) -> str:
    import json

    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
