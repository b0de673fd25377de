"""Progress on the terminal: a bar per epoch that leaves one line; without a terminal, only the lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jlayers.train.callbacks import Callback, Run
from jlayers.train.state import TrainState

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Shows steps that the device has finished, examples per second, loss and metrics while `fit` runs.

    Args:
        console: a `rich.console.Console` to draw on; standard error if not given.

    >>> import io, numpy as np, rich.console, jlayers as jl
    >>> console = rich.console.Console(file=io.StringIO(), width=100)
    >>> x = np.ones((8, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), loss="mse")
    >>> _ = jl.fit(trainer, x, x[:, :1], epochs=2, callbacks=[jl.ProgressBar(console)])
    >>> console.file.getvalue().count("epoch")
    2
    """

    of_all_seeds = True

    def __init__(self, console: Any = None):
        self.console = console
        self._bar: Any = None

    def on_fit_begin(self, run: Run) -> None:
        import rich.console

        self.run = run
        self._out = self.console or rich.console.Console(stderr=True)
        self._width = len(str(run.first_epoch + run.epochs))
        if run.note:
            self._out.print(run.note, style="dim", highlight=False)

    def on_epoch_begin(self, epoch: int) -> None:
        self._begun = time.perf_counter()
        self._waited = self.run.waiting.copy()
        self._steps = 0
        self._first: tuple[float, int] | None = None  # when the first steps were seen: compiling is over
        if not self._out.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", style="dim"),
            TextColumn(
                "{task.fields[logs]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            console=self._out,
            transient=True,
            expand=True,  # so that the logs get what room is left, and nothing else is cut
        )
        first = "compiling" if epoch == self.run.first_epoch else ""
        self._task = self._bar.add_task(self._title(epoch), total=self.run.steps, speed=first, logs="")
        self._bar.start()

    def on_progress(self, epoch: int, step: int, logs: Mapping[str, float]) -> None:
        self._steps = step
        if self._bar and step:
            self._bar.update(self._task, completed=step, speed=self._speed(step), logs=_table(logs))

    def _speed(self, step: int) -> str:
        """Time per step, examples per second, and the time that the rest of the epoch will take."""
        now = time.perf_counter()
        if self._first is None:
            self._first = (now, step)
        begun, before = self._first
        if step == before:
            return ""
        each = (now - begun) / (step - before)
        left = f"  ETA {duration(each * (self.run.steps - step))}" if self.run.steps else ""
        return f"{duration(each)}/step{rate(self.run.rows, each)}{left}"

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float], state: TrainState) -> None:
        self._stop()
        seconds = time.perf_counter() - self._begun
        steps = self.run.steps or self._steps
        speed = f"  {duration(seconds / steps)}/step{rate(self.run.rows, seconds / steps)}" if steps else ""
        count = f"  {steps} steps" if steps else ""
        took = duration(seconds) + speed + waited(self.run.waiting.since(self._waited).share)
        line = f"[bold]{self._title(epoch)}[/]{count}  [dim]{took}[/]  {_table(logs)}"
        self._out.print(line, soft_wrap=True, highlight=False)

    def on_fit_end(self, state: TrainState) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _title(self, epoch: int) -> str:
        return f"epoch {epoch + 1:>{self._width}}/{self.run.first_epoch + self.run.epochs}"


def _table(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} [cyan]{number(value)}[/]" for name, value in logs.items())


def waited(share: float) -> str:
    """A remark on a source of data that the device had to wait for; empty below a twentieth of the time.

    >>> waited(0.4), waited(0.01)
    ('  waited 40 % for data', '')
    """
    return f"  waited {100 * share:.0f} % for data" if share >= 0.05 else ""


def rate(rows: int, seconds: float) -> str:
    """Examples per second, for a batch of so many rows in this time.

    >>> rate(32, 0.004), rate(0, 0.004)
    ('  8,000/s', '')
    """
    return f"  {rows / seconds:,.0f}/s" if rows and seconds > 0 else ""


def number(value: float) -> str:
    """A value in four digits.

    >>> number(0.98765), number(0.000012345), number(1234567.0)
    ('0.9877', '1.23e-05', '1.23e+06')
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.00125), duration(2.5), duration(200)
    ('1.2 ms', '2.5 s', '3 min 20 s')
    """
    if seconds < 1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
