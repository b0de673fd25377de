"""Makes the checkpoints of a run of `fit`, and finds the one to resume from, bit for bit."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import about
from jlayers.core.spelling import nearest
from jlayers.data.batches import Batches
from jlayers.optimizers.schedule_free import schedule_free_places
from jlayers.saving.checkpoints import CheckpointWarning
from jlayers.saving.model import structure_of
from jlayers.saving.weights import differences
from jlayers.train.callbacks import Callback
from jlayers.train.checkpoint import Checkpoint
from jlayers.train.identity import changes_between, with_state
from jlayers.train.state import HostCopy, TrainState, copied

__all__ = ["Keeper", "Resumed"]

_ARRAY = "$array"
SHARE = 0.02  # of the time that checkpoints at the ends of epochs may take


class Resumed(NamedTuple):
    """A run as a checkpoint has it.

    Attributes:
        state: to continue from.
        history: history of the epochs that are over.
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
    """Makes the checkpoints of one `fit`, and finds the one to resume from.

    Args:
        checkpoint: where and when.
        facts: what must be equal in a resumed run; see `identity`.
        directions: by name in the logs, whichever is better.
        data: the source of batches.
        callbacks: callbacks of the fit.
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
            error = KeyError(
                f"the best checkpoint is asked for by {checkpoint.best!r}, which is not in the logs: "
                f"{nearest(checkpoint.best, directions)}"
                + (" (give fit validation data)" if checkpoint.best.startswith("val_") else "")
            )
            raise about(error, "best", checkpoints=checkpoint)
        self.plan = checkpoint
        self.facts, self.directions, self.data = dict(facts), dict(directions), data
        self.callbacks = with_state(callbacks)
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
        if changes := changes_between(facts["identity"], self.facts):
            error = ValueError(
                f"the checkpoints in {self.plan.path} are of another run: {'; '.join(changes)}. Call fit as "
                f"it was called then, or choose another folder"
            )
            raise about(error, checkpoints=self.plan)
        callbacks = {path: a for path, a in found.arrays.items() if path.split("/")[0] == "callbacks"}
        self.stage = facts["stage"]
        state = start(self.stage)
        expected = _by_path(state)
        arrays = {path: a for path, a in found.arrays.items() if path not in callbacks}
        if problems := differences(arrays, expected):
            error = ValueError(
                f"the checkpoint of step {found.step} in {self.plan.path} does not fit:\n  "
                + "\n  ".join(problems)
            )
            raise about(error, checkpoints=self.plan)
        leaves = [jax.device_put(arrays[path], leaf.sharding) for path, leaf in expected.items()]
        whole = copied(jax.tree.unflatten(jax.tree.structure(state), leaves))
        self.data.restore(facts["data"])
        self.first_epoch = facts["first_epoch"]
        self.last = (found.step, int(whole.epoch), facts["stopped"])
        states = _unpacked(facts["callbacks"], callbacks)
        self.begun = facts.get("begun", int(whole.step) > int(whole.epoch_start))
        return Resumed(whole, facts["history"], self.first_epoch, facts["stopped"], states)

    def restore_callbacks(self, states: Sequence[Any]) -> None:
        """Gives each callback back what its `state` gave."""
        for callback, state in zip(self.callbacks, states, strict=True):
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
        every = self.plan.every_epochs
        by_epoch = self._is_cheap() if every == "auto" else every is not None and epochs % every == 0
        return by_epoch or self._is_best(history) or self.due_at_step(step)

    def _is_cheap(self) -> bool:
        """True if writing takes so little of the time since the last checkpoint that nobody notices."""
        return time.monotonic() - self.clock >= self.store.seconds / SHARE

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
        copy: HostCopy | None = None,
    ) -> None:
        """Begin to write a checkpoint, unless it would be the last one again. A state that is not healthy is
        not written. If the checkpoint before this one could not be written, a `CheckpointWarning` says so.

        Args:
            state: the live one, which may move on when this returns.
            history: history of the epochs that are over.
            logs: logs of the epoch that has just ended.
            stopped: a callback has ended the run.
            copy: the state on the host, if it exists already.
        """
        self.clock = time.monotonic()
        try:
            self.store.settle()
        except OSError as error:
            self.last = None
            _tell(error)
        values = (HostCopy(state) if copy is None else copy).values
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
    text = f"{error}. The training continues; the checkpoints before this one stay"
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
