"""Checkpoints of a run of `fit`: what is kept, when, and how a run goes on from one, bit for bit."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.registry import to_data
from jlayers.core.spelling import nearest
from jlayers.data.batches import Batches
from jlayers.optimizers.schedule_free import at_average, schedule_free_places
from jlayers.saving.checkpoints import CheckpointWarning, Store, require_orbax
from jlayers.saving.model import rebuilt, structure_of
from jlayers.saving.weights import differences
from jlayers.train.callbacks import Callback
from jlayers.train.options import Options
from jlayers.train.state import HostCopy, TrainState, copied

__all__ = ["Checkpoint", "Keeper", "Plan", "Resumed", "as_checkpoint", "identity"]

_ARRAY = "$array"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The times at which checkpoints are made, and the number that stays.

    The end of the run always makes one, and so do Ctrl-C, SIGTERM and an error of the data.

    Attributes:
        every_steps: make one at each multiple of this number of steps, counted over the whole run.
        every_epochs: make one at the end of each multiple of this number of epochs.
        every_minutes: make one after the step in which this time is over since the last one. The bits of the
            run do not depend on when checkpoints are made.
        keep: how many of the last ones stay.
        best: a name in the logs, such as `val_accuracy`; the checkpoint at the end of the epoch in which it
            was best is made in any case, and stays.
    """

    every_steps: int | None = None
    every_epochs: int | None = 1
    every_minutes: float | None = None
    keep: int = 3
    best: str | None = None

    def __post_init__(self) -> None:
        minutes = self.every_minutes
        if minutes is not None and not (isinstance(minutes, (int, float)) and 0 < minutes < math.inf):
            raise ValueError(f"Checkpoint: expected minutes above 0, received every_minutes={minutes!r}")
        for name in ("every_steps", "every_epochs", "keep"):
            value = getattr(self, name)
            least = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not least and (value is not None or name == "keep"):
                raise ValueError(
                    f"Checkpoint: expected a whole number of at least 1, received {name}={value!r}"
                )


@dataclasses.dataclass(frozen=True)
class Checkpoint(Plan):
    """Checkpoints of `fit`, in a folder, kept by Orbax (`pip install 'jlayers[checkpoint]'`).

    A `fit` that is called again with the same arguments goes on from the last one, in the middle of an epoch,
    too, and ends with the same bits as one that was never interrupted. The first Ctrl-C or SIGTERM makes a
    checkpoint and raises a KeyboardInterrupt; a second one does not wait.

    A checkpoint that cannot be written, as on a full disk, is told by a `CheckpointWarning`, and the training
    goes on. The ones before it stay.

    Args:
        path: of the folder.
        every_steps: make one at each multiple of this number of steps, counted over the whole run.
        every_epochs: make one at the end of each multiple of this number of epochs.
        every_minutes: make one after the step in which this time is over since the last one. The bits of the
            run do not depend on when checkpoints are made.
        keep: how many of the last ones stay.
        best: a name in the logs, such as `val_accuracy`; the checkpoint at the end of the epoch in which it
            was best is made in any case, and stays.

    Raises:
        ValueError: a number below 1, or minutes that are not above 0.

    >>> import numpy as np, tempfile, jlayers as jl
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainer = jl.compile(jl.Dense(1), "sgd", loss="mse")
    >>> checkpoint = jl.Checkpoint(tempfile.mkdtemp(), every_steps=3, keep=2, best="loss")
    >>> state, history = jl.fit(trainer, x, x, epochs=2, checkpoints=checkpoint)
    >>> state, history = jl.fit(trainer, x, x, epochs=4, checkpoints=checkpoint)  # two more
    >>> checkpoint.steps(), len(history["loss"])
    ([6, 8], 4)
    >>> params, state = checkpoint.weights("best")
    """

    path: str | os.PathLike[str] = dataclasses.field(kw_only=False)

    def store(self, direction: str = "min") -> Store:
        return Store(self.path, self.keep, self.best, direction)

    def steps(self) -> list[int]:
        """The steps at which there are checkpoints."""
        return self.store().steps()

    def weights(
        self, step: int | Literal["last", "best"] = "last", *, average: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and state of a checkpoint, for `jl.predict` and `jl.evaluate`.

        The parameters are those to evaluate with, which a schedule-free optimizer keeps beside those that it
        trains. A part of them goes into another model by `jl.load_weights(model, {"params": params, "state":
        state}, strict=False)`, with a report, and from there into `trainer.init(..., params=..., state=...)`.

        Args:
            step: of the checkpoint; the last one, or the one in which `best` was best.
            average: the averaged parameters, of a trainer with `ema`.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: it is damaged, or holds no average.
        """
        found = None
        store = self.store()
        if step == "last":
            found = store.newest()
        else:
            number = self._best(store) if step == "best" else step
            if number in store.steps():
                found = store.read(number)
        if found is None:
            raise FileNotFoundError(
                f"{self.path} holds no checkpoint for step={step!r}; it holds those of {store.steps()}"
            )
        trees, arrays = found.facts["trees"], found.arrays
        kept = {path: a for path, a in arrays.items() if path.split("/")[0] in trees}
        for place in found.facts["schedule_free"]:
            for path, z in _below(f"opt_state/{place}/z", arrays).items():
                name = f"params/{path}"
                own = (arrays[name], z, arrays[f"opt_state/{place}/b1"])
                kept[name] = at_average(*map(jnp.asarray, own))
        if average:
            own = _below("average", arrays)
            if trees["params"] and not own:
                raise ValueError(f"the checkpoints in {self.path} hold no average: compile with ema=0.999")
            kept |= {f"params/{path}": a for path, a in own.items()}
        tree = rebuilt(trees, kept)
        return tree["params"], tree["state"]

    def _best(self, store: Store) -> int | None:
        if self.best is None:
            raise ValueError("expected best='...', the name of a result, to find the best checkpoint by")
        newest = store.newest()
        direction = {} if newest is None else newest.facts["directions"]
        return self.store(direction.get(self.best, "min")).best_step()


def as_checkpoint(given: Any) -> Checkpoint:
    """A `Checkpoint` from itself or from the path of its folder."""
    if isinstance(given, (str, os.PathLike)):
        given = Checkpoint(given)
    if not isinstance(given, Checkpoint):
        raise TypeError(f"expected checkpoints to be a folder or a jl.Checkpoint, received {given!r}")
    require_orbax()
    return given


class Resumed(NamedTuple):
    """A run as a checkpoint has it.

    Attributes:
        state: to go on from.
        history: of the epochs that are over.
        first_epoch: at which the run began.
        stopped: a callback has ended the run.
        callbacks: the states of those that have one.
    """

    state: TrainState
    history: dict[str, list[float]]
    first_epoch: int
    stopped: bool
    callbacks: list[Any]


class Keeper:
    """Makes the checkpoints of one `fit`, and finds the one to go on from.

    Args:
        checkpoint: where and when.
        facts: what must be equal in a run that goes on; see `identity`.
        directions: by name in the logs, whichever is better.
        data: the source of batches.
        callbacks: of the fit.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        facts: Mapping[str, str],
        directions: Mapping[str, str],
        data: Batches,
        callbacks: Sequence[Callback],
    ):
        if checkpoint.best is not None and checkpoint.best not in directions:
            raise KeyError(
                f"the best checkpoint is asked for by {checkpoint.best!r}, which is not in the logs: "
                f"{nearest(checkpoint.best, directions)}"
                + (" (give fit validation data)" if checkpoint.best.startswith("val_") else "")
            )
        self.plan = checkpoint
        self.facts, self.directions, self.data = dict(facts), dict(directions), data
        self.callbacks = _with_state(callbacks)
        self.store = checkpoint.store(directions.get(checkpoint.best or "", "min"))
        self.first_epoch = 0
        self.stage = 0  # of the trainer; see `Trainer.stages`
        self.begun = False  # whether callbacks have heard that the epoch has begun
        self.last: tuple[int, int, bool] | None = None  # the place of the newest checkpoint
        self.clock = time.monotonic()

    def __enter__(self) -> Keeper:
        self.store.open()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.store.close()
        except OSError as second:
            if error is None:
                _tell(second)
            else:
                error.add_note(str(second))

    def resume(self, start: Callable[[int], TrainState]) -> Resumed | None:
        """The run as the last whole checkpoint has it; None if there is none.

        Args:
            start: gives the state of a new run in a stage of its trainer, for the form of its arrays,
                accumulators included.

        Raises:
            ValueError: the checkpoints are of a run with other data or another configuration; or all are
                damaged.
        """
        found = self.store.newest()
        if found is None:
            return None
        facts = found.facts
        if changes := _changes(facts["identity"], self.facts):
            raise ValueError(
                f"the checkpoints in {self.plan.path} are of another run: {'; '.join(changes)}. Call fit as "
                f"it was called then, or choose another folder"
            )
        callbacks = {path: a for path, a in found.arrays.items() if path.split("/")[0] == "callbacks"}
        self.stage = facts["stage"]
        state = start(self.stage)
        expected = _by_path(state)
        given = {path: a for path, a in found.arrays.items() if path not in callbacks}
        if problems := differences(given, expected):
            raise ValueError(
                f"the checkpoint of step {found.step} in {self.plan.path} does not fit:\n  "
                + "\n  ".join(problems)
            )
        leaves = [jax.device_put(given[path], leaf.sharding) for path, leaf in expected.items()]
        whole = copied(jax.tree.unflatten(jax.tree.structure(state), leaves))
        self.data.restore(facts["data"])
        self.first_epoch = facts["first_epoch"]
        self.last = (found.step, int(whole.epoch), facts["stopped"])
        kept = _unpacked(facts["callbacks"], callbacks)
        self.begun = facts.get("begun", int(whole.step) > int(whole.epoch_start))
        return Resumed(whole, facts["history"], self.first_epoch, facts["stopped"], kept)

    def restore_callbacks(self, kept: Sequence[Any]) -> None:
        """Gives each callback back what its `state` gave."""
        for callback, state in zip(self.callbacks, kept, strict=True):
            callback.restore(state)

    @property
    def every(self) -> list[int]:
        """Steps at whose multiples a dispatch must end."""
        return [] if self.plan.every_steps is None else [self.plan.every_steps]

    @property
    def by_clock(self) -> bool:
        """True if the time decides, too, when to save; it decides nothing about the steps."""
        return self.plan.every_minutes is not None

    def due_at_step(self, step: int) -> bool:
        plan = self.plan
        if plan.every_minutes is not None and time.monotonic() - self.clock >= 60 * plan.every_minutes:
            return True
        return plan.every_steps is not None and step % plan.every_steps == 0

    def due_at_epoch(self, epochs: int, step: int, history: Mapping[str, Sequence[float]]) -> bool:
        by_epoch = self.plan.every_epochs is not None and epochs % self.plan.every_epochs == 0
        return by_epoch or self._is_best(history) or self.due_at_step(step)

    def _is_best(self, history: Mapping[str, Sequence[float]]) -> bool:
        """True if the last epoch is the best one so far."""
        *before, last = history.get(self.plan.best or "") or [math.nan]
        sign = -1 if self.directions.get(self.plan.best or "") == "max" else 1
        return sign * last < min(
            (sign * value for value in before if not math.isnan(value)), default=math.inf
        )

    def save(
        self,
        state: TrainState,
        history: Mapping[str, Sequence[float]],
        *,
        logs: Mapping[str, float] | None = None,
        stopped: bool = False,
        kept: HostCopy | None = None,
    ) -> None:
        """Begin to write a checkpoint, unless it would be the last one again. A state that is not healthy is
        not written. If the checkpoint before this one could not be written, a `CheckpointWarning` says so.

        Args:
            state: the live one, which may move on when this returns.
            history: of the epochs that are over.
            logs: of the epoch that has just ended.
            stopped: a callback has ended the run.
            kept: the state on the host, if it is there already.
        """
        self.clock = time.monotonic()
        try:
            self.store.settle()
        except OSError as error:
            self.last = None
            _tell(error)
        values = (HostCopy(state) if kept is None else kept).values
        arrays: dict[str, np.ndarray] = dict(zip(_by_path(state), values, strict=True))
        place = (int(arrays["step"]), int(arrays["epoch"]), stopped)
        if place == self.last:
            return
        facts = {
            "identity": self.facts,
            "directions": self.directions,
            "history": {name: list(values) for name, values in history.items()},
            "first_epoch": self.first_epoch,
            "stage": self.stage,
            "stopped": stopped,
            "begun": self.begun,
            "callbacks": _packed([c.state() for c in self.callbacks], "callbacks", arrays),
            "data": dict(self.data.state(int(arrays["epoch"]), int(arrays["step"] - arrays["epoch_start"]))),
            "trees": structure_of({"params": state.params, "state": state.state}),
            "schedule_free": schedule_free_places(state.opt_state),
        }
        self.store.save(place[0], arrays, facts, logs, _unhealthy)
        self.last = place


def _tell(error: OSError) -> None:
    text = f"{error}. The training goes on; the checkpoints before this one stay"
    warnings.warn(text, CheckpointWarning, stacklevel=3)


def _by_path(state: TrainState) -> dict[str, Any]:
    """The arrays of a state: `params/dense/kernel`, `opt_state/0/mu/dense/kernel`, `epoch`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("live/"): leaf
        for path, leaf in leaves
    }
    if len(found) != len(leaves):
        raise ValueError("two arrays of the state have the same path: name layers and parameters without '/'")
    return found


def _below(place: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays below a path, by the rest of theirs."""
    start = f"{place}/".lstrip("/")
    return {path.removeprefix(start): array for path, array in arrays.items() if path.startswith(start)}


def _unhealthy(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Weights and statistics must be finite; an optimizer may keep an infinity, such as its best value."""
    for path, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.inexact):
            part = path.split("/")[0]
            weights = part in ("params", "state", "average") and not np.isfinite(array).all()
            if weights or (part == "opt_state" and np.isnan(array).any()):
                return f"{path} is not finite"
    return None


def _packed(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Plain data with the arrays taken out of them, each put into `arrays` under its path."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _packed(part, f"{path}/{name}", arrays) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(part, f"{path}/{place}", arrays) for place, part in enumerate(value)]
    if not hasattr(value, "dtype"):
        raise TypeError(
            f"{path}: expected plain data and arrays as the state of a callback, received {value!r}"
        )
    arrays[path] = np.array(value)
    return {_ARRAY: path}


def _unpacked(data: Any, arrays: Mapping[str, Any]) -> Any:
    """The inverse of `_packed`; tuples come back as lists."""
    if isinstance(data, dict):
        if _ARRAY in data:
            return jnp.asarray(arrays[data[_ARRAY]])
        return {name: _unpacked(part, arrays) for name, part in data.items()}
    return [_unpacked(part, arrays) for part in data] if isinstance(data, list) else data


def _with_state(callbacks: Sequence[Callback]) -> list[Callback]:
    """Callbacks whose state belongs to the run; what only shows or writes has none."""
    return [callback for callback in callbacks if callback.remembers]


def identity(
    trainer: Options, data: Batches, validation: Batches | None, callbacks: Sequence[Callback], **options: Any
) -> dict[str, str]:
    """Everything that decides the bits of a run, each as a text.

    Args:
        trainer: the options of `jl.compile`, and the model.
        data: to train on.
        validation: to validate on.
        callbacks: those that have a state.
        **options: further arguments of `fit`.
    """
    fields = ["model", *(field.name for field in dataclasses.fields(Options))]
    known = {name: _written(getattr(trainer, name)) for name in fields}
    known |= {name: _written(value) for name, value in options.items()}
    held_out = "none" if validation is None else validation.fingerprint()
    known |= {"the data": data.fingerprint(), "the validation data": held_out}
    for place, callback in enumerate(_with_state(callbacks)):
        given: Any = callback
        if callback.spec is None:
            given = {n: getattr(callback, n, None) for n in inspect.signature(type(callback)).parameters}
        known[f"callback {place}"] = f"{type(callback).__name__} {_written(given)}"
    return known


def _written(value: Any) -> str:
    """A value as a text that is the same in every process."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(part)}" for name, part in value.items()) + "}"
    try:
        return json.dumps(to_data(value), sort_keys=True)
    except TypeError:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The changes since then, in words."""

    def told(name: str) -> str:
        old, new = then.get(name, "none"), now.get(name, "none")
        short = len(old) + len(new) < 80 and "data" not in name
        return f"{name} was {old}, now {new}" if short else f"{name} differs"

    return [told(name) for name in {**then, **now} if then.get(name) != now.get(name)]
