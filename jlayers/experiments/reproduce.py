"""A run trained again from its folder, and compared bit for bit: `jlayers reproduce RUN`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.config import Experiment, load
from jlayers.data.pieces import changed_pieces
from jlayers.experiments.record import RunRecord, flattened, read_run
from jlayers.interop.safetensors import read_safetensors
from jlayers.runs import Run
from jlayers.runs.contents import preprocess_to_data
from jlayers.runs.environment import installed
from jlayers.runs.files import DATA, ENVIRONMENT, PREPROCESS, REQUIREMENTS, WEIGHTS
from jlayers.runs.own_code import OwnCode
from jlayers.runs.requirements import read_requirements
from jlayers.runs.training import train_run
from jlayers.saving.files import read_json
from jlayers.train.callbacks import Callback

__all__ = ["Difference", "Reproduction", "compare_bits", "reproduce"]

REPRODUCTION = "reproduction.json"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A value that is not the same in both runs.

    Attributes:
        where: such as `epoch 3, val_loss`, `weights, params/dense/kernel[0, 2]` or `version of jax`.
        then: the value in the run that is reproduced; None where it does not say.
        now: the value in the new run.
    """

    where: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.where}: {_shown(self.then)} then, {_shown(self.now)} now"


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The comparison of a run with the training that repeats it.

    Attributes:
        run: the folder of the run that is reproduced.
        again: the folder of the new run.
        differences: differences of the results, in the order in which they arise: what the preprocessors
            learned, each epoch, the final results, the weights. Empty if all of them are bit-identical.
        causes: what differs between the circumstances of the two trainings, the likeliest cause first:
            settings, data, code, versions, device, flags.
        compared: what was compared, such as `60 epochs`.
        unknown: circumstances that the first run did not note, because an older version made it.
    """

    run: pathlib.Path
    again: pathlib.Path
    differences: tuple[Difference, ...]
    causes: tuple[Difference, ...]
    compared: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """True if not one bit differs in all that was compared."""
        return not self.differences

    def to_data(self) -> dict[str, Any]:
        """The comparison as plain data, as `reproduction.json` of the new run holds it."""
        return {
            "run": str(self.run),
            "again": str(self.again),
            "identical": self.identical,
            "compared": list(self.compared),
            "unknown": list(self.unknown),
            "differences": [dataclasses.asdict(d) for d in self.differences],
            "causes": [dataclasses.asdict(d) for d in self.causes],
        }


class _Until(Callback):
    """Ends a training after as many epochs as the other run has."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: Any, state: Any) -> bool:
        return epoch + 1 >= self.epochs


def reproduce(
    run: str | os.PathLike[str],
    into: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    code: Sequence[OwnCode] = (),
    callbacks: Sequence[Any] = (),
    begun: Callable[[Run], Any] = lambda new: None,
) -> Reproduction:
    """Train a run again from its folder and compare the two, bit for bit.

    The new run has the configuration, the seed and the adapted preprocessors of the first one. A run that
    was interrupted or killed is repeated as far as it got. One that failed must fail for the same reason.

    Args:
        run: the folder of a run. Nothing in it is changed.
        into: the folder of the new run; `<run>-reproduced-<n>` beside the first one if not given.
        overrides: settings to change, such as `"seed=1"`, or a new path of the data.
        code: the user's own files that the run needs; they have been executed already.
        callbacks: more listeners, such as a progress bar.
        begun: called with the new run before it is trained.

    Raises:
        FileNotFoundError: no run there.
        ValueError: the run is still being trained, or ended before its first epoch.
        ConfigError: the configuration cannot be built here, for example because the data are missing.
    """
    old, before = Run(run), read_run(run)
    if before.status == "running":
        raise ValueError(f"{run} is still being trained: wait until it has ended")
    if not before.epochs and before.status != "failed":
        raise ValueError(f"{run} ended before its first epoch ({before.status}): there is nothing to compare")
    experiment = load(old.config, overrides)
    kept = old.preprocess()
    experiment = dataclasses.replace(experiment, learned=kept or None)
    adapted = _differences_of_preprocessing(old, experiment) if kept else ()
    experiment.check()
    config = experiment.to_data()
    new = (
        Run.create_next(old.path.parent, f"{old.path.name}-reproduced", config, code=code)
        if into is None
        else Run.create(into, config, code=code)
    )
    begun(new)
    listeners = [*callbacks, *([] if before.status == "completed" else [_Until(before.epochs)])]
    try:
        train_run(experiment, new, listeners)
    except Exception:
        if (before.status, new.status) != ("failed", "failed"):
            raise
    result = compare_bits(old.path, new.path)
    result = dataclasses.replace(result, differences=(*adapted, *result.differences))
    new.write_json(REPRODUCTION, result.to_data())
    return result


def compare_bits(run: str | os.PathLike[str], again: str | os.PathLike[str]) -> Reproduction:
    """Two runs compared bit for bit: their histories, results and weights, and what may be why they differ.

    Raises:
        FileNotFoundError: one of them is not a run.
        ValueError: a file of one of them is damaged.
    """
    old, new, before, after = Run(run), Run(again), read_run(run), read_run(again)
    weights, differences = _weights(old, new)
    found = (*_results(before, after), *differences)
    compared = (*_compared_things(before), *([weights] if weights else []))
    causes = tuple(_causes(old, new, before, after))
    return Reproduction(old.path, new.path, found, causes, compared, tuple(_unknown(old)))


# ------------------------------------------------------------------------------------- results


def _results(then: RunRecord, now: RunRecord) -> Iterator[Difference]:
    """The results that differ, the first epochs first."""
    histories = [_history(then), _history(now)]
    names = list(dict.fromkeys(name for history in histories for name in history))
    for epoch in range(max(then.epochs, now.epochs)):
        for name in names:
            values = [_value_at(history.get(name, ()), epoch) for history in histories]
            if not _same(*values):
                yield Difference(f"epoch {epoch + 1}, {name}", *values)
    if then.status != "completed":
        if then.status == "failed" and (then.status, then.reason) != (now.status, now.reason):
            yield Difference("end of the training", then.reason, now.reason or now.status)
        return
    yield from _differing({"kept epoch": then.kept_epoch}, {"kept epoch": now.kept_epoch})
    for name in dict.fromkeys([*then.metrics, *now.metrics]):
        values = then.metrics.get(name), now.metrics.get(name)
        if name.startswith("test_") and not _same(*values):
            yield Difference(f"held out, {name.removeprefix('test_')}", *values)


def _history(record: RunRecord) -> dict[str, Sequence[float]]:
    """The history of a run; of one of many seeds, that of each seed besides the means."""
    first, each = record.settings.get("seed", 0), Run(record.path).seeds_history()
    return {
        **record.history,
        **{
            f"{name} of seed {first + place}": values.tolist()
            for name, rows in each.items()
            for place, values in enumerate(rows.T)
        },
    }


def _value_at(values: Sequence[float], place: int) -> float | None:
    return values[place] if place < len(values) else None


def _same(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or a == b


def _weights(old: Run, new: Run) -> tuple[str, list[Difference]]:
    """The weights, or their hashes where a file is gone: what could be compared, and what differs of it."""
    paths = [run.path / WEIGHTS for run in (old, new)]
    if all(path.is_file() for path in paths):
        if old.kept_epoch() != new.kept_epoch():  # the first run ended early, or its results tell it
            return "", []
        return "weights", list(_arrays(*map(read_safetensors, paths)))
    then, now = (run.results().get("weights_hash") for run in (old, new))
    if then is None or now is None:
        return "", []
    return "hashes of the weights", list(_differing({"": then}, {"": now}, "weights, hash"))


def _arrays(then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> Iterator[Difference]:
    """The arrays that differ, each with its first value that does."""
    for path in sorted({*then, *now}):
        if path not in then or path not in now:
            yield Difference(
                f"weights, {path}", *("there" if path in found else None for found in (then, now))
            )
            continue
        a, b = then[path], now[path]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            yield Difference(f"weights, {path}", f"{a.dtype}{a.shape}", f"{b.dtype}{b.shape}")
        elif a.tobytes() != b.tobytes():
            yield _first_value(path, a, b)


def _first_value(path: str, a: np.ndarray, b: np.ndarray) -> Difference:
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(a.size, -1) for array in (a, b)]
    differing = np.flatnonzero((bits[0] != bits[1]).any(1))
    place = np.unravel_index(differing[0], a.shape)
    index = f"[{', '.join(map(str, map(int, place)))}]" if a.shape else ""
    share = f" ({differing.size:,} of {a.size:,} values differ)" if a.size > 1 else ""
    return Difference(f"weights, {path}{index}{share}", *(_plain(array[place]) for array in (a, b)))


def _plain(value: Any) -> Any:
    """A number of NumPy with as many digits as its own dtype needs."""
    return float(str(value)) if np.issubdtype(value.dtype, np.floating) else value.item()


def _compared_things(then: RunRecord) -> Iterator[str]:
    yield f"{then.epochs} epoch{'s' * (then.epochs != 1)}"
    if then.status == "failed":
        yield "the error that ended the training"
    elif then.status != "completed":
        yield "as far as the run went"
    elif any(name.startswith("test_") for name in then.metrics):
        yield "results on the held-out data"


# ------------------------------------------------------------------------------------- causes


def _causes(old: Run, new: Run, before: RunRecord, after: RunRecord) -> Iterator[Difference]:
    yield from (Difference(f"{name}, a file of the run", "as trained", "edited") for name in old.changes())
    seeds = [run.results().get("seed") for run in (old, new)]
    if before.settings.get("seed") != seeds[0] is not None:  # else it is among the settings
        yield from _differing({"seed": seeds[0]}, {"seed": seeds[1]})
    known = {_section(path) for path in before.settings}  # later versions have more, with defaults
    settings = {path: value for path, value in after.settings.items() if _section(path) in known}
    yield from _differing(before.settings, settings, "setting")
    yield from _data(old, new)
    yield from _differing(old.code, new.code, "own code")
    then, now = _environment(old), _environment(new)
    yield from _versions(old, then)
    for name, title in _FACTS.items():
        if name not in then or name not in now:  # an older version did not note all of them
            continue
        if name == "settings":
            yield from _differing(then[name], {key: now[name].get(key) for key in then[name]}, title)
        elif isinstance(then[name], Mapping):
            yield from _differing(then[name], now[name], title)
        else:
            yield from _differing({title: then[name]}, {title: now[name]})


_FACTS = {
    "device": "device",
    "devices": "number of devices",
    "flags": "environment variable",
    "settings": "setting of JAX",
    "source": "hash of jlayers' own files",
    "python": "version of Python",
    "runtime": "runtime of the device",
    "processor": "processor",
    "platform": "platform",
}


def _section(path: str) -> tuple[str, ...]:
    parts = path.split(".")
    return tuple(parts[: 1 + (parts[0] == "training")])


def _unknown(run: Run) -> Iterator[str]:
    facts = _environment(run)
    yield from (title for name, title in _FACTS.items() if name not in facts)
    if not (run.path / REQUIREMENTS).is_file():
        yield "versions of all packages"
    if (run.path / DATA).is_file() and "pieces" not in run.data():
        yield "which rows the data had"


def _data(old: Run, new: Run) -> Iterator[Difference]:
    try:
        then, now = old.data(), new.data()
    except FileNotFoundError:
        yield Difference("data", "not noted", "noted")
        return
    pieces = changed_pieces(then.get("pieces", {}), now.get("pieces", {})) if "pieces" in then else {}
    yield from (Difference(f"data, {where}", *values) for where, values in pieces.items())
    if not pieces and then.get("fingerprint") != now.get("fingerprint"):
        yield Difference("data, fingerprint", then.get("fingerprint"), now.get("fingerprint"))


def _versions(old: Run, then: Mapping[str, Any]) -> Iterator[Difference]:
    """The packages of the first run that are installed in another version now."""
    path = old.path / REQUIREMENTS
    kept = read_requirements(path.read_text("utf-8")) if path.is_file() else {}
    versions = {**then.get("versions", {}), **kept}
    now = {name: installed(name) for name in versions}
    found = [Difference(f"version of {name}", versions[name], now[name]) for name in versions]
    differing = [difference for difference in found if difference.then != difference.now]
    yield from sorted(differing, key=lambda difference: difference.now is None)  # absent: seldom the cause


def _environment(run: Run) -> dict[str, Any]:
    path = run.path / ENVIRONMENT
    return read_json(path) if path.is_file() else {}


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], title: str = "") -> Iterator[Difference]:
    """The entries of nested plain data that differ."""
    flat = [flattened(dict(values)) if values else {} for values in (then, now)]
    for path in dict.fromkeys([*flat[0], *flat[1]]):
        values = flat[0].get(path), flat[1].get(path)
        if not _same(*values):
            yield Difference(f"{title} {path}".strip(), *values)


def _differences_of_preprocessing(run: Run, experiment: Experiment) -> tuple[Difference, ...]:
    """Differences between what the run's preprocessors learned and what they would learn now."""
    kept, again = read_json(run.path / PREPROCESS), preprocess_to_data(experiment.adapted())
    then, now = ({name: entry["made"] for name, entry in found.items()} for found in (kept, again))
    first: dict[str, Difference] = {}  # of each argument: all that follows in a vocabulary has moved
    for difference in _differing(then, json.loads(json.dumps(now)), "preprocessing of"):
        first.setdefault(re.sub(r"(\.\d+)+$", "", difference.where), difference)
    return tuple(first.values())


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "absent" if value is None else json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", text):  # a hash
        return text[:12]
    return text if len(text) <= 200 else f"{text[:200]}..."
