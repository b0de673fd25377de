"""A whole sweep by one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from jlayers.core.errors import refused
from jlayers.experiments.sweep.jobs import launcher_for
from jlayers.experiments.sweep.search import Search
from jlayers.experiments.sweep.trial import Trial
from jlayers.runs.own_code import OwnCode

__all__ = ["sweep"]


def sweep(
    file: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    *,
    jobs: int = 0,
    resume: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    code: Sequence[OwnCode] = (),
    ended: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """Train an experiment with the values that its section `sweep` names, as `jlayers sweep` does.

    Args:
        file: a configuration with a section `sweep`.
        folder: the sweep's; `sweeps/<name of the file>-<number>` if not given.
        overrides: such as `"training.epochs=3"`.
        jobs: how many trials train at a time, each in a process of its own; 0 trains one after the other in
            this process.
        resume: instead of a file: the folder of a sweep to continue.
        retry_failed: with `resume`: train trials that failed again.
        code: the user's own files that the configuration needs; they have been executed already.
        ended: called with each trial that has ended, in the order of their numbers.

    Returns:
        the sweep: `trials` in their order, `ranked()` with the best first, `best`, and `folder.run(number)`
        with a trial's run. A trial has its `values`, `status`, `value`, `epochs` and `curve`.

    Raises:
        ConfigError: all that is wrong with the file or with a trial; nothing has been trained then.
        FileNotFoundError: there is no sweep to continue.
        ValueError: both or neither of `file` and `resume`; a sweep whose configuration or data have changed.
        Interrupted: a signal came; the same call with `resume` continues.
    """
    if (file is None) == (resume is None):
        raise refused(ValueError, "expected a file or a folder to resume", file=file, resume=resume)
    launcher = launcher_for(jobs, code=code)
    if resume is None:
        search = Search.begin(file or "", folder, overrides, code)
    elif folder is not None or overrides:
        what = "expected no folder and no overrides with resume: a sweep continues with its own settings"
        raise refused(ValueError, what, folder=folder, overrides=overrides)
    else:
        search = Search.reopen(resume)
        if retry_failed:
            search.retry_failed()
    search.run(launcher, ended)
    return search
