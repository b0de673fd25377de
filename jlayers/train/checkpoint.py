"""`Checkpoint`: where the checkpoints of a run of `fit` are, when they are made, and what is in them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp

from jlayers.core.errors import about
from jlayers.optimizers.schedule_free import at_average
from jlayers.saving.checkpoints import Store, require_orbax
from jlayers.saving.model import rebuilt

__all__ = ["Checkpoint", "Plan", "as_checkpoint"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The times at which checkpoints are made, and the number that stays.

    The end of the run always makes one, and so do Ctrl-C, SIGTERM and an error of the data.

    Attributes:
        every_steps: make one at each multiple of this number of steps, counted over the whole run.
        every_epochs: make one at the end of each multiple of this number of epochs. "auto" makes one at the
            end of each epoch, but skips some if epochs are short, so that writing takes less than a
            fiftieth of the time.
        every_minutes: make one after the step at which so many minutes have passed since the last one. The
            bits of the run do not depend on when checkpoints are made.
        keep: how many of the latest ones to keep.
        best: a name in the logs, such as `val_accuracy`; a checkpoint at the end of the epoch in which it
            was best is always made and kept.
    """

    every_steps: int | None = None
    every_epochs: int | Literal["auto"] | None = "auto"
    every_minutes: float | None = None
    keep: int = 3
    best: str | None = None

    def __post_init__(self) -> None:
        minutes = self.every_minutes
        if minutes is not None and not (isinstance(minutes, (int, float)) and 0 < minutes < math.inf):
            error = ValueError(f"Checkpoint: expected minutes above 0, received every_minutes={minutes!r}")
            raise about(error, every_minutes=minutes)
        for name in ("every_steps", "every_epochs", "keep"):
            value = getattr(self, name)
            least = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            auto = name == "every_epochs" and value == "auto"
            if not (least or auto) and (value is not None or name == "keep"):
                or_auto = " or 'auto'" if name == "every_epochs" else ""
                error = ValueError(
                    f"Checkpoint: expected a whole number of at least 1{or_auto}, received {name}={value!r}"
                )
                raise about(error, **{name: value})


@dataclasses.dataclass(frozen=True)
class Checkpoint(Plan):
    """Checkpoints of `fit`, in a folder, kept by Orbax (`pip install 'jlayers[checkpoint]'`).

    A `fit` that is called again with the same arguments continues from the last one, even in the middle of an
    epoch, and ends with the same bits as one that was never interrupted. The first Ctrl-C or SIGTERM makes a
    checkpoint and raises a KeyboardInterrupt; a second one does not wait.

    A checkpoint that cannot be written, as on a full disk, is reported by a `CheckpointWarning`, and the
    training continues. The ones before it stay.

    Args:
        path: path of the folder.
        every_steps: make one at each multiple of this number of steps, counted over the whole run.
        every_epochs: make one at the end of each multiple of this number of epochs. "auto" makes one at the
            end of each epoch, but skips some if epochs are short, so that writing takes less than a
            fiftieth of the time.
        every_minutes: make one after the step at which so many minutes have passed since the last one. The
            bits of the run do not depend on when checkpoints are made.
        keep: how many of the latest ones to keep.
        best: a name in the logs, such as `val_accuracy`; a checkpoint at the end of the epoch in which it
            was best is always made and kept.

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
            step: step of the checkpoint; the last one, or the one in which `best` was best.
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
        weights = {path: a for path, a in arrays.items() if path.split("/")[0] in trees}
        for place in found.facts["schedule_free"]:
            for path, z in _below(f"opt_state/{place}/z", arrays).items():
                name = f"params/{path}"
                own = (arrays[name], z, arrays[f"opt_state/{place}/b1"])
                weights[name] = at_average(*map(jnp.asarray, own))
        if average:
            own = _below("average", arrays)
            if trees["params"] and not own:
                raise ValueError(f"the checkpoints in {self.path} hold no average: compile with ema=0.999")
            weights |= {f"params/{path}": a for path, a in own.items()}
        tree = rebuilt(trees, weights)
        return tree["params"], tree["state"]

    def _best(self, store: Store) -> int | None:
        if self.best is None:
            error = ValueError("expected best='...', the name of a result, to find the best checkpoint by")
            raise about(error, best=None)
        newest = store.newest()
        direction = {} if newest is None else newest.facts["directions"]
        return self.store(direction.get(self.best, "min")).best_step()


def as_checkpoint(value: Any) -> Checkpoint:
    """A `Checkpoint` from itself or from the path of its folder."""
    if isinstance(value, (str, os.PathLike)):
        value = Checkpoint(value)
    if not isinstance(value, Checkpoint):
        error = TypeError(f"expected checkpoints to be a folder or a jl.Checkpoint, received {value!r}")
        raise about(error, checkpoints=value)
    require_orbax()
    return value


def _below(place: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays below a path, by the rest of theirs."""
    start = f"{place}/".lstrip("/")
    return {path.removeprefix(start): array for path, array in arrays.items() if path.startswith(start)}
