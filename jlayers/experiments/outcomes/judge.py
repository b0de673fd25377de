"""From targets and predictions of one output to its outcomes: plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.masks import mask_of, values_of
from jlayers.experiments.outcomes.kinds import Bin, Classes, Column, Example, Labels, Numbers, Other
from jlayers.losses.base import Loss

__all__ = ["judge", "reliability"]

BINS = 15  # of confidence, as in Guo et al. (2017), https://arxiv.org/abs/1706.04599
WORST = 12
_POINTS = 1000
_COLUMNS = 8
_POSITIONS = 20  # of a sequence that are written out

Show = Callable[[int, float | None, str, str], Example]


def judge(
    name: str, loss: Loss | None, target: Any, output: Any, names: Sequence[str] | None, show: Show
) -> Classes | Labels | Numbers | Other:
    """The outcomes at one output.

    Args:
        name: name of the output.
        loss: loss of the output; it says what the predictions are.
        target: an array with the samples first.
        output: the predictions, an array or a `Masked`.
        names: names of the classes, or of the numbers of a prediction.
        show: makes an example from its row, its loss, and target and prediction in words.
    """
    values, mask = np.asarray(values_of(output)), mask_of(output)
    if loss is None or target is None:
        return Other(name, reason="it has no loss")
    target = np.asarray(target)
    if target.dtype.kind not in "biuf" or values.dtype.kind not in "iuf" or not len(values):
        return Other(name, reason="its targets or predictions are not numbers")
    losses, counts = _losses(loss, target, values)
    real = None if mask is None else np.asarray(mask)
    task = _Output(name, target, values, losses, _both(counts, real), names, show)
    if loss.from_logits is None:
        return task.numbers()
    shares = np.asarray(loss.link(values.astype(np.float32)))
    return task.labels(shares) if loss.binary else task.classes(shares)


def _losses(loss: Loss, target: np.ndarray, values: np.ndarray) -> tuple[np.ndarray | None, Any]:
    """The loss of each sample or position, and which of them count; None for what depends on other rows."""
    if loss.across_rows:
        return None, None
    made, counted = jax.jit(lambda t, v: (loss(t, v), loss.counted(t, v)))(target, values)
    made = np.asarray(made, np.float64)
    return made if made.ndim else None, None if counted is None else np.asarray(counted)


def _both(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else np.logical_and(a, b)


class _Output:
    """One output: its targets and predictions, and what of them counts."""

    def __init__(
        self,
        name: str,
        target: np.ndarray,
        values: np.ndarray,
        losses: np.ndarray | None,
        counted: np.ndarray | None,
        names: Sequence[str] | None,
        show: Show,
    ):
        self.name, self.target, self.values, self.losses = name, target, values, losses
        self.counted, self.names, self.show = counted, names, show

    def _counted_positions(self, shape: tuple[int, ...], *finite: np.ndarray) -> np.ndarray:
        """True for the positions of this shape, samples first, that are finite and count."""
        kept = np.ones(shape, bool)
        for array in finite:
            kept &= np.isfinite(array).reshape(*shape, -1).all(-1)
        if self.counted is not None:
            counted = self.counted.astype(bool)
            kept &= np.broadcast_to(
                counted.reshape(counted.shape[: len(shape)] + (1,) * (len(shape) - counted.ndim)), shape
            )
        return kept

    def _by_sample(self, kept: np.ndarray) -> np.ndarray | None:
        """The mean loss of each sample over what is kept; NaN where nothing is."""
        if self.losses is None:
            return None
        losses = self.losses
        weights = kept if losses.shape == kept.shape else np.ones(losses.shape, bool)
        rows = len(losses)
        total = np.where(weights, losses, 0.0).reshape(rows, -1).sum(1)
        count = weights.reshape(rows, -1).sum(1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _worst(self, rows: np.ndarray, losses: np.ndarray | None, say: Any) -> list[Example]:
        """Examples of these rows, those with the largest loss first."""
        if losses is not None:
            rows = rows[np.isfinite(losses[rows])]
            rows = rows[np.argsort(-losses[rows], kind="stable")]
        return [
            self.show(int(row), None if losses is None else float(losses[row]), *say(row))
            for row in rows[:WORST]
        ]

    def classes(self, shares: np.ndarray) -> Classes | Labels | Other:
        """One class out of several, at each position that there is."""
        known = shares.shape[-1]
        target = self.target
        if known == 1 and target.shape == shares.shape:
            return self.labels(shares)
        if target.shape == shares.shape:
            target = target.argmax(-1)
        elif target.shape == (*shares.shape[:-1], 1):
            target = target[..., 0]
        if target.shape != shares.shape[:-1] or known < 2:
            return Other(self.name, reason="its targets are not classes of single predictions")
        return self._classes(target.astype(np.int64), shares)

    def _classes(self, target: np.ndarray, shares: np.ndarray) -> Classes:
        known = shares.shape[-1]
        names = self._names(known)
        kept = self._counted_positions(target.shape, shares) & (target >= 0) & (target < known)
        predicted = shares.argmax(-1)
        sure = shares.max(-1)
        right = (predicted == target) & kept
        pairs, counts = np.unique(np.stack([target[kept], predicted[kept]]), axis=1, return_counts=True)
        wrong = np.flatnonzero((kept & ~right).reshape(len(kept), -1).any(1))

        def say(row: int) -> tuple[str, str]:
            if target.ndim == 1:
                return names[target[row]], f"{names[predicted[row]]} ({sure[row]:.0%})"
            here = kept[row]
            missed = f"{int((here & ~right[row]).sum())} of {int(here.sum())} wrong"
            if here.sum() > _POSITIONS:
                return f"{int(here.sum())} positions", missed
            true, said = ([names[n] for n in part[row][here].ravel()] for part in (target, predicted))
            return " ".join(true), f"{missed}: {' '.join(said)}"

        return Classes(
            self.name,
            count=int(kept.sum()),
            left_out=int(kept.size - kept.sum()),
            worst=self._worst(wrong, self._by_sample(kept), say),
            classes=names,
            confusion=[(int(t), int(p), int(n)) for (t, p), n in zip(pairs.T, counts, strict=True)],
            bins=reliability(sure[kept], right[kept]),
        )

    def labels(self, shares: np.ndarray) -> Classes | Labels | Other:
        """Yes or no: two classes for a single answer, else one label for each."""
        if self.target.shape != shares.shape:
            return Other(self.name, reason="its targets are not yes or no for each number of a prediction")
        if shares.ndim == 1 or shares.shape[-1] == 1:
            one = shares if shares.ndim == 1 else shares[..., 0]
            target = self.target if shares.ndim == 1 else self.target[..., 0]
            return self._classes((target > 0.5).astype(np.int64), np.stack([1 - one, one], -1))
        known = shares.shape[-1]
        names = self._names(known)
        kept = self._counted_positions(shares.shape[:-1], shares)
        target, said = self.target > 0.5, shares > 0.5
        by_label = [np.where(kept[..., None], one, False).reshape(-1, known).sum(0)
                    for one in (target & said, said, target)]  # fmt: skip
        wrong = np.flatnonzero((kept & (target != said).any(-1)).reshape(len(kept), -1).any(1))

        def say(row: int) -> tuple[str, str]:
            sets = ([names[n] for n in np.flatnonzero(part[row].reshape(-1, known).any(0))[:20]]
                    for part in (target, said))  # fmt: skip
            true, predicted = (", ".join(one) or "none" for one in sets)
            return true, predicted

        return Labels(
            self.name,
            count=int(kept.sum()),
            left_out=int(kept.size - kept.sum()),
            worst=self._worst(wrong, self._by_sample(kept), say),
            labels=names,
            hits=by_label[0].tolist(),
            said=by_label[1].tolist(),
            there=by_label[2].tolist(),
            bins=reliability(shares[kept].ravel(), target[kept].ravel()),
        )

    def numbers(self) -> Numbers | Other:
        """Numbers that should be near the targets."""
        if self.target.shape != self.values.shape:
            return Other(self.name, reason="its targets have another shape than its predictions")
        rows = len(self.values)
        shape = (rows,) if self.counted is None else self.counted.shape
        kept = self._counted_positions(shape, self.target, self.values)
        width = self.values.size // kept.size
        both = (self.target, self.values)
        true, made = (a.astype(np.float64).reshape(-1, width)[kept.ravel()] for a in both)
        if not len(true):
            return Other(self.name, reason="no prediction is finite")
        names = self._names(true.shape[1]) if true.shape[1] > 1 else [*(self.names or [""])][:1]
        if true.shape[1] > _COLUMNS:
            true, made, names = true.reshape(-1, 1), made.reshape(-1, 1), ["all"]
        say_true, say_made = (a.reshape(rows, -1) for a in (self.target, self.values))

        def say(row: int) -> tuple[str, str]:
            return _few(say_true[row]), _few(say_made[row])

        losses = self._by_sample(kept)
        return Numbers(
            self.name,
            count=int(kept.sum()),
            left_out=int(kept.size - kept.sum()),
            worst=[] if losses is None else self._worst(np.arange(rows), losses, say),
            columns=[_column(n, t, p) for n, t, p in zip(names, true.T, made.T, strict=True)],
        )

    def _names(self, count: int) -> list[str]:
        given = self.names
        return list(given) if given is not None and len(given) == count else [str(n) for n in range(count)]


def _few(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:6].tolist()) + ", …" * (len(values) > 6)


def _column(name: str, true: np.ndarray, made: np.ndarray) -> Column:
    residuals = true - made
    spread = float(np.square(true - true.mean()).sum())
    counts, edges = np.histogram(residuals, bins=min(30, max(5, len(true) // 5)))
    rows = np.arange(len(true))
    if len(rows) > _POINTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _POINTS, replace=False))
    return Column(
        name,
        points=[(float(true[row]), float(made[row])) for row in rows],
        mean_error=float(-residuals.mean()),
        mean_absolute_error=float(np.abs(residuals).mean()),
        root_mean_squared_error=float(np.sqrt(np.square(residuals).mean())),
        r2=1 - float(np.square(residuals).sum()) / spread if spread > 0 else None,
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def reliability(sure: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Predictions in bins of equal width by their confidence; empty bins are left out.

    >>> reliability(np.array([0.99, 0.98, 0.55]), np.array([True, True, False]), bins=2)
    [Bin(count=3, confidence=0.84, accuracy=0.6666666666666666)]
    """
    places = np.clip((np.asarray(sure, np.float64) * bins).astype(int), 0, bins - 1)
    found = []
    for place in range(bins):
        here = places == place
        if count := int(here.sum()):
            found.append(
                Bin(count, float(np.mean(sure[here], dtype=np.float64)), float(np.mean(right[here])))
            )
    return found
