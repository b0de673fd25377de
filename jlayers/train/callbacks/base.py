"""The protocol of callbacks: what may listen to a fit, what it may ask for and what it may change."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from jlayers.core.errors import add_name
from jlayers.core.registry import Kind, Registry
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest
from jlayers.data.prefetch import Waiting
from jlayers.train.probes import Probe
from jlayers.train.state import TrainState
from jlayers.train.update import Update

if TYPE_CHECKING:
    from jlayers.train.trainer import Trainer

__all__ = [
    "EVENTS",
    "Callback",
    "CallbackLike",
    "Change",
    "Logs",
    "Run",
    "as_callback",
    "described",
    "register",
    "registry",
]

Logs = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """The fit that is about to begin, for `Callback.check` and `Callback.on_fit_begin`.

    Attributes:
        first_epoch: number of the first epoch; 0 for a new run.
        epochs: how many epochs at most.
        steps: batches per epoch, or None if the data do not tell.
        directions: by name in the logs, "min" or "max", whichever is better.
        note: a sentence for the user, or None.
        waiting: grows while the device waits for the batches of a stream; `waiting.share` of the time so far.
        trainer: what is trained.
        rows: samples in the first batch.
        step: steps that were taken before.
        rate_factor: by which the learning rate is multiplied at the beginning.
        resumed: the run is resumed from a checkpoint. What was written after it is written again.
    """

    first_epoch: int
    epochs: int
    steps: int | None
    directions: Mapping[str, str]
    note: str | None = None
    waiting: Waiting = dataclasses.field(default_factory=Waiting)
    trainer: Trainer | None = None
    rows: int = 0
    step: int = 0
    rate_factor: float = 1.0
    resumed: bool = False


def described(run: Run) -> dict[str, str]:
    """The model, the optimizer and other settings of a fit, as texts by name."""
    trainer = run.trainer
    names = ["model", "optimizer", "loss", "accumulate", "ema"]
    known = {} if trainer is None else {name: str(getattr(trainer, name))[:500] for name in names}
    return {**known, "batch_size": str(run.rows), "epochs": str(run.epochs)}


@dataclasses.dataclass(frozen=True)
class Change:
    """A change that a callback asks for; it can change nothing else. `jl.callbacks.Change`.

    Attributes:
        stop: end the training after this event.
        rate_factor: multiply the optimizer's own learning rate by this from now on. The callback's class must
            have `changes_rate = True`. Nothing is compiled anew.
    """

    stop: bool = False
    rate_factor: float | None = None


Answer = bool | Change | None


class Callback:
    """Override what you need. A plain function `f(epoch, logs, state)` serves as `on_epoch_end`, too.

    `on_epoch_begin`, `on_step`, `on_validation_end` and `on_epoch_end` may return True, which stops the
    training, or a `jl.callbacks.Change`. The state that a callback receives is a view of the one live state:
    the next step takes its arrays away. To keep it, take `state.copy()`.

    Attributes:
        every: how many steps there are between two calls of `on_step`; None for no calls. Counted over the
            whole run, so that a run that is resumed calls at the same steps. With 1 each step is a dispatch
            of its own.
        at_steps: numbers of steps after which `on_step` is called, too.
        changes_rate: True if it may change the learning rate.
        of_all_seeds: in `jl.fit_seeds`, True if it hears of all seeds together, with means in the logs and a
            `SeedStates` as the state, and may end all of them after an epoch; else each seed has a copy of
            its own.

    >>> import jlayers as jl
    >>> class Stop(jl.Callback):
    ...     def on_epoch_end(self, epoch, logs, state):
    ...         return logs["accuracy"] > 0.99
    """

    every: int | None = None
    at_steps: Sequence[int] = ()
    changes_rate: bool = False
    of_all_seeds: bool = False
    spec: Spec | None = None  # the call that made it, if its class is registered

    def check(self, run: Run) -> None:
        """Raise on what cannot be meant, before anything has begun."""

    def probes(self, update: Update) -> Sequence[Probe]:
        """Further values for the compiled step to measure, for one task; see `jl.callbacks.Probe`."""
        return ()

    def place(self, folder: str | os.PathLike[str]) -> None:
        """Files go into this folder; a path that leaves it is refused. Configurations call it."""

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> Answer:
        """Before the first batch of epoch `epoch`, counted from 0.

        Where a run continues from a checkpoint within an epoch, a callback that is given back its `state` is
        not called again, since it remembers that the epoch has begun. One without a state is: it may have
        something to set up in the new process. Its answer is then left out: what it changed the first time is
        in the checkpoint.
        """

    def on_step(self, step: int, logs: Logs, state: TrainState) -> Answer:
        """After each `every` steps and those of `at_steps`, with the logs of the epoch so far."""

    def on_progress(self, epoch: int, step: int, logs: Logs) -> None:
        """A few times per second: the device has finished `step` batches of the epoch. For display only.

        The logs are those of that step, and empty before the first.
        """

    def on_validation_end(self, epoch: int, logs: Logs, state: TrainState) -> Answer:
        """After the validation of an epoch, with its logs."""

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> Answer:
        """After the epoch and its validation."""

    def on_error(self, error: BaseException) -> bool | None:
        """The training ends by this error; `on_fit_end` follows.

        If it is a NaN (`FloatingPointError`) after a healthy epoch, return True to have `fit` return the last
        healthy state instead.
        """

    def on_fit_end(self, state: TrainState) -> TrainState | None:
        """At the end, also after an error; return a state to have `fit` return that one."""

    def to_keep(self, state: TrainState) -> TrainState:
        """The state whose weights are worth keeping: what a run saves, and what `fit` returns."""
        return state

    def state(self) -> dict[str, Any]:
        """The callback's own state for a checkpoint, as plain data and arrays."""
        return {}

    @property
    def remembers(self) -> bool:
        """True if it has a state; what only shows or writes has none."""
        return type(self).state is not Callback.state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave, after `on_fit_begin`."""

    def __repr__(self) -> str:
        return object.__repr__(self) if self.spec is None else repr(self.spec)


EVENTS = [name for name in vars(Callback) if name.startswith("on_")]
_KERAS = {
    "on_train_begin": "on_fit_begin",
    "on_train_end": "on_fit_end",
    "on_train_batch_begin": "on_step, with every = 1",
    "on_train_batch_end": "on_step, with every = 1",
    "on_batch_begin": "on_step, with every = 1",
    "on_batch_end": "on_step, with every = 1",
    "on_test_end": "on_validation_end",
}


def as_callback(value: Any) -> Callback:
    """A callback from itself, from its name or `{name: arguments}`, or from `f(epoch, logs, state)`.

    Raises:
        KeyError: a name that is not registered.
        TypeError: something else, or a class with an event that does not exist.
    """
    if isinstance(value, Callback):
        for name in dir(value):
            if name.startswith("on_") and name not in EVENTS:
                raise TypeError(
                    f"{type(value).__name__} has {name!r}, which is never called: override "
                    f"{_KERAS.get(name) or nearest(name, EVENTS)}; the events are {', '.join(EVENTS)}"
                )
        return value
    if isinstance(value, (str, Mapping)):
        return registry.get(value)
    if isinstance(value, type) or not callable(value):
        raise TypeError(
            f"expected a jl.Callback or a function f(epoch, logs, state), received {value!r}"
            + ("; call it first" if isinstance(value, type) else "")
        )
    return _OnEpochEnd(value)


class _OnEpochEnd(Callback):
    def __init__(self, function: Any):
        self.function = function

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> Answer:
        return self.function(epoch, logs, state)


_INSTEAD = {
    "BackupAndRestore": "training.checkpoint in a configuration, or jl.fit(..., checkpoints=folder)",
    "ModelCheckpoint": "training.checkpoint in a configuration, or jl.Checkpoint(folder)",
    "ProgbarLogger": "jl.ProgressBar(); the command line has one",
}


registry = Registry("callback", instead=_INSTEAD)
CallbackLike = Annotated[
    str | Mapping[str, Any] | Callback | Callable[[int, Logs, TrainState], Any], Kind("callback")
]
_Class = TypeVar("_Class", bound=type[Callback])


def register(cls: _Class) -> _Class:
    """Class decorator: the callback can be named in configurations, and shows the call that made it.

    >>> import jlayers as jl
    >>> @jl.callbacks.register
    ... class StopAt(jl.Callback):
    ...     def __init__(self, accuracy: float = 0.99):
    ...         self.accuracy = accuracy
    ...
    ...     def on_epoch_end(self, epoch, logs, state):
    ...         return logs["accuracy"] >= self.accuracy
    >>> StopAt(0.9)
    StopAt(accuracy=0.9)
    """
    name, signature, first = cls.__name__, inspect.signature(cls), cls.__init__

    @functools.wraps(first)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not cls:  # a subclass, which has a call of its own
            return first(self, *args, **kwargs)
        bound = registry.bind(name, signature, args, kwargs)
        try:
            first(self, **bound)
        except (TypeError, ValueError) as error:
            add_name(error, name, bound)
            raise
        self.spec = Spec(registry.kind, name, bound)

    setattr(cls, "__init__", init)  # noqa: B010  pyright knows no assignment to a method of a class
    registry.register(name, cls)
    return cls
