"""One call of a fit, of one state or of those of several seeds: what both loops have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jlayers.data.prefetch import Waiting
from jlayers.train.callbacks import Callback, Run
from jlayers.train.feed import Runner
from jlayers.train.interruptions import ENDING, Interruptions, interruptions
from jlayers.train.keeper import Keeper, Resumed
from jlayers.train.state import TrainState
from jlayers.train.step import Ended
from jlayers.train.trainer import Trainer

__all__ = ["Fitting"]


class Fitting:
    """The one live state, and what must stay together when a signal comes.

    Attributes:
        state: as the last event left it. While an epoch runs, the runner has newer arrays.
        runner: takes the steps.
        keeper: makes checkpoints; None without any.
        first, end: the first epoch, and the one after the last.
        waiting: how long the device waited for data.
        torn: True in the middle of what belongs together.
    """

    state: TrainState
    runner: Runner
    interrupts: Interruptions
    keeper: Keeper | None = None
    torn = False

    def __init__(self) -> None:
        self.waiting = Waiting()

    @contextlib.contextmanager
    def interruptible(self, keeper: Keeper | None) -> Iterator[None]:
        """A block that Ctrl-C ends; with checkpoints other signals do, too."""
        with interruptions(("SIGINT",) if keeper is None else ENDING) as self.interrupts:
            self.keeper = keeper
            yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block that an interruption waits for. Within, some callbacks know more than others."""
        self.torn = True
        with self.interrupts.held():
            yield
            self.torn = False

    def plan(self, epochs: int, resumed: Resumed | None) -> None:
        """Sets the first and the last epoch of a fit of so many, with those before its checkpoint."""
        self.first = int(self.state.epoch)
        end = epochs + (self.first if resumed is None else resumed.first_epoch)
        stopped = resumed is not None and resumed.stopped
        self.end = self.first if stopped else max(self.first, end)

    def tell(self, callbacks: Sequence[Callback], trainer: Trainer, **facts: Any) -> None:
        """Tells the callbacks what is about to begin; more facts are those of a `Run`."""
        run = Run(
            self.first,
            self.end - self.first,
            waiting=self.waiting,
            trainer=trainer,
            step=int(self.state.step),
            **facts,
        )
        for callback in callbacks:
            callback.check(run)
        for callback in callbacks:
            callback.on_fit_begin(run)

    def current(self) -> TrainState:
        """A view of the one live state."""
        runner = getattr(self, "runner", None)
        return self.state if runner is None else self.state.replace(flat=runner.flat)

    def put(self, state: TrainState) -> None:
        """Goes on with this state."""
        self.state = state
        self.runner.flat = state.flat

    def end_epoch(self, ended: Ended) -> None:
        """Moves the state to the beginning of the next epoch."""
        place = {"epoch": ended.epoch, "epoch_start": ended.epoch_start}
        self.put(self.current().replace(metrics=ended.metrics, **place))

    def keep_last(self, state: TrainState, history: Mapping[str, Any], error: BaseException) -> None:
        """Makes a checkpoint of a run that ends before its time, if all its parts are of one moment."""
        if self.keeper is None or self.torn:
            return
        try:
            self.keeper.save(state, history)
        except Exception as second:
            error.add_note(f"no checkpoint was made of where it ended: {second}")
