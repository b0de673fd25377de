"""All checks in their order, causes before consequences; and `jl.doctor`, which gives them an experiment."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import details_of, told_apart
from jlayers.data.batches import Batch, Batches, form_of, map_arrays
from jlayers.experiments.doctor.activations import check_activations
from jlayers.experiments.doctor.balance import check_balance
from jlayers.experiments.doctor.behind import behind_frozen
from jlayers.experiments.doctor.case import Case, as_held
from jlayers.experiments.doctor.cost import check_cost
from jlayers.experiments.doctor.duplicates import check_duplicates
from jlayers.experiments.doctor.features import check_features, check_scale
from jlayers.experiments.doctor.finding import Finding, Report
from jlayers.experiments.doctor.finite import check_values, rows_not_finite
from jlayers.experiments.doctor.frozen import check_frozen
from jlayers.experiments.doctor.gradients import check_gradients
from jlayers.experiments.doctor.information import check_information
from jlayers.experiments.doctor.labels import check_labels
from jlayers.experiments.doctor.loss import check_loss
from jlayers.experiments.doctor.overfit import check_overfit
from jlayers.experiments.doctor.rate import Range, check_rate, range_of, too_slow
from jlayers.train.sources import source
from jlayers.train.state import TrainState
from jlayers.train.trainer import Trainer

__all__ = ["CHECKS", "TRAINING", "doctor", "examine"]

CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    "values": check_values,
    "duplicates": check_duplicates,
    "loss": check_loss,
    "labels": check_labels,
    "balance": check_balance,
    "features": check_features,
    "scale": check_scale,
    "frozen": check_frozen,
    "activations": check_activations,
    "gradients": check_gradients,
}
# These train for some steps.
TRAINING: dict[str, Callable[[Case, Range | None], list[Finding]]] = {
    "information": check_information,
    "rate": check_rate,
    "overfit": check_overfit,
}
# By the check that has found an error, those whose results would only be consequences of it.
TRAINED = ("information", "rate", "overfit", "cost")
HIDES = {
    "model": TRAINED,
    "loss": TRAINED,
    "labels": TRAINED,
    "frozen": ("gradients", *TRAINED),
    "activations": ("gradients", *TRAINED),
    "gradients": TRAINED,
    "nan": TRAINED,
    "scale": ("gradients", "rate", "overfit"),
    "information": ("rate", "overfit"),
}
BATCHES = 64  # of an iterable that are looked at


def examine(case: Case, more: Sequence[Finding] = ()) -> Report:
    """Run every check on a case.

    Args:
        case: the experiment.
        more: findings that exist already, such as those of a run that failed; they hide no check.
    """
    begun = time.perf_counter()
    found, ran, skipped = list(more), [], {}

    def run(name: str, check: Callable[[], list[Finding]]) -> None:
        own = found[len(more) :]
        serious = [f.check for f in own if f.severity == "error" or f.check == "scale"]
        if causes := [check for check in serious if name in HIDES.get(check, ())]:
            skipped[name] = f"mend first what {causes[0]} has found"
            return
        ran.append(name)
        try:
            found.extend(check())
        except (ValueError, TypeError, KeyError, FloatingPointError) as error:
            refusal = _refusal(error)
            if all(other.check != "model" and other.message != refusal.message for other in found):
                found.append(refusal)  # once: every later check would run into it

    run("values", functools.partial(check_values, case))
    others = [name for name in (*CHECKS, *TRAINED) if name != "values"]
    bad = rows_not_finite(case)
    if any(marks.all() for marks in bad.values()):
        skipped |= dict.fromkeys(others, "no sample has only finite numbers")
        return _report(found, ran, skipped, None, begun)
    case = case.without(bad)  # the other checks look at the rest
    for name in others[: len(CHECKS) - 1]:
        run(name, functools.partial(CHECKS[name], case))
    if case.task is None:
        skipped |= dict.fromkeys(TRAINED, "several tasks take turns, and no single loss tells")
        return _report(found, ran, skipped, None, begun)
    behind = functools.cache(functools.partial(behind_frozen, case))
    ranges = functools.cache(lambda: range_of(behind()))
    tested: list[Range | None] = []

    def train(check: Callable[[Case, Range | None], list[Finding]]) -> list[Finding]:
        tested[:] = [ranges()]
        return check(behind(), tested[0])

    for name, check in TRAINING.items():
        run(name, functools.partial(train, check))
    run("cost", lambda: check_cost(behind()))
    if tested == [None]:
        for name in set(TRAINING) & set(ran):
            ran.remove(name)
            skipped[name] = too_slow(behind())
    return _report(found, ran, skipped, tested[0] if tested else None, begun)


def _refusal(error: Exception) -> Finding:
    """A finding for an error of the library itself, in its own words."""
    message, advice = told_apart(error)
    return Finding("model", "error", details_of(error).path or "", message, advice)


def _report(
    found: Sequence[Finding], ran: Sequence[str], skipped: dict[str, str], tested: Range | None, begun: float
) -> Report:
    curves: dict[str, Any] = {}
    if tested is not None:
        curves = {
            "rate": tested.rate,
            "suggested": tested.suggested,
            "level": tested.level,
            "losses": {factor: curve.tolist() for factor, curve in tested.curves.items()},
        }
    return Report(
        findings=[f for f in found if f.severity != "note"],
        notes=[f for f in found if f.severity == "note"],
        checks=list(ran),
        skipped=skipped,
        curves=curves,
        seconds=time.perf_counter() - begun,
    )


def doctor(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    test_data: Any = None,
    batch_size: int = 32,
    epochs: int = 10,
    shuffle: bool = True,
    seed: int = 0,
    sample_weight: Any = None,
    class_weight: Any = None,
    class_names: Sequence[str] | None = None,
    state: TrainState | None = None,
    cache_features: bool = False,
    seconds: float = 10.0,
) -> Report:
    """Look for faults in a training before it starts; nothing is changed, and nothing is written.

    It looks at the data (values that are not finite, labels out of range or doubtful, rare classes, samples
    in two parts, constant or badly scaled inputs, targets that do not depend on them), at the model
    (a loss that does not fit, a frozen head, dead units, gradients), and trains a little: at several learning
    rates, and on one batch.

    Args:
        trainer: what `jl.compile` returns.
        x: as for `jl.fit`: arrays, or an iterable, whose first batches are checked.
        y: the targets.
        validation_data: `(x, y)`.
        test_data: `(x, y)`, held out for the end.
        batch_size: batch size of the training.
        epochs: epochs that the training would take.
        shuffle: whether it draws a new order in each epoch.
        seed: seed of the weights and the order.
        sample_weight: weights of the training; it only matters whether there are any.
        class_weight: the same.
        class_names: what the labels stand for.
        state: to start from, with loaded weights; fresh ones if not given.
        cache_features: whether the training computes only once what frozen layers at the beginning give; the
            checks that train then do so, too, for a part of the samples.
        seconds: time limit for each check that trains.

    Returns:
        A `Report`: findings, each with what to change, and notes.

    Raises:
        TypeError: something other than a trainer.

    >>> import numpy as np, jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, activation="relu"), jl.Dense(3, activation="softmax"))
    >>> trainer = jl.compile(model, "adam", loss="sparse_categorical_crossentropy")
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> print(jl.doctor(trainer, x, 1 + np.arange(60) % 3).findings[0])
    error (labels, y): class numbers from 1 to 3 for 3 outputs, which stand for 0 to 2: 20 of 60 are ...
        the classes are numbered from 1: subtract 1
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"doctor: expected what jl.compile(model, optimizer, loss) returns, received a "
            f"{type(trainer).__name__}"
        )
    if y is None and not hasattr(x, "__array__") and not isinstance(x, (dict, tuple)):
        x, y = _first_batches(source("x", x, None, None))
    held_out = {"validation": validation_data, "test": test_data}
    given = {name: part for name, part in held_out.items() if part is not None}
    case = Case(
        trainer=trainer,
        x=as_held(x),
        y=as_held(y),
        held_out={name: (as_held(part[0]), as_held(part[1])) for name, part in given.items()},
        batch_size=batch_size,
        epochs=epochs,
        shuffle=shuffle,
        seed=seed,
        weighed=sample_weight is not None or class_weight is not None,
        class_names=class_names,
        given=None if state is None else state.copy(),
        cache_features=bool(cache_features),
        seconds=seconds,
    )
    return examine(case)


def _first_batches(batches: Batches) -> tuple[Any, Any]:
    """The first batches as arrays: those whose samples have the form of the first one."""

    def form(batch: Batch) -> Any:
        return form_of(Batch(*(map_arrays(lambda a: np.asarray(a)[:0], part) for part in batch[:2])))

    taken = [Batch(*batch[:2]) for batch in itertools.islice(batches.epoch(0), BATCHES)]
    same = [batch for batch in taken if form(batch) == form(taken[0])]
    return jax.tree.map(lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *same)[:2]
