"""Outcomes on the held-out data, as plain records that a run's folder keeps as JSON."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

__all__ = [
    "Bin",
    "Classes",
    "Column",
    "Example",
    "Labels",
    "Numbers",
    "Other",
    "Outcome",
    "Outcomes",
    "Rates",
    "Shown",
]


@dataclasses.dataclass(frozen=True)
class Shown:
    """An input of a sample as people can look at it.

    Attributes:
        kind: "image", "text" or "values".
        name: name of the input; empty for a single one.
        image: a PNG file in base64.
        text: a text, cut where it is long.
        values: numbers or texts by the names of their columns; nothing where they have none.
    """

    kind: Literal["image", "text", "values"]
    name: str = ""
    image: str = ""
    text: str = ""
    values: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Example:
    """A sample that the model did badly on.

    Attributes:
        row: its number among the samples, from 0.
        loss: its loss, or None if the loss is not one of single samples.
        true: the target, in words.
        predicted: the prediction, in words.
        file: the file that it was read from, if each sample has one.
        inputs: the sample itself.
    """

    row: int
    loss: float | None
    true: str
    predicted: str
    file: str | None = None
    inputs: list[Shown] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence: how many, how sure they are, and how many are right."""

    count: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Rates:
    """The scores of one class.

    Attributes:
        name: name of the class.
        precision: the part of what is predicted to be the class that is it; None if nothing is predicted so.
        recall: the part of the class that is found; None without samples.
        f1: their harmonic mean.
        support: how many samples of the class there are.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcomes at one output.

    Attributes:
        name: name of the output; empty for a single one.
        count: predictions that were judged.
        left_out: predictions that are not finite, or have no target that counts.
        worst: those with the largest loss, the worst first; of classes only what was predicted wrongly.
    """

    name: str = ""
    count: int = 0
    left_out: int = 0
    worst: list[Example] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Classes(Outcome):
    """One class out of several.

    Attributes:
        classes: their names.
        confusion: `(true, predicted, count)` by the numbers of the classes, where the count is not 0.
        bins: the confidence of the predicted class against how often it is right.
    """

    kind: Literal["classes"] = "classes"
    classes: list[str] = dataclasses.field(default_factory=list)
    confusion: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    bins: list[Bin] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        known = range(len(self.classes))
        if any(true not in known or predicted not in known for true, predicted, _ in self.confusion):
            raise ValueError("the confusion matrix names a class that is not there")

    @property
    def matrix(self) -> np.ndarray:
        """Counts by true class (rows) and predicted class (columns)."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for true, predicted, count in self.confusion:
            matrix[true, predicted] = count
        return matrix

    @property
    def wrong(self) -> int:
        return sum(count for true, predicted, count in self.confusion if true != predicted)

    @property
    def rates(self) -> list[Rates]:
        matrix = self.matrix
        hits = zip(self.classes, np.diag(matrix), matrix.sum(0), matrix.sum(1), strict=True)
        return [_rates(name, int(hit), int(said), int(there)) for name, hit, said, there in hits]

    @property
    def calibration_error(self) -> float:
        return _calibration_error(self.bins)


@dataclasses.dataclass(frozen=True)
class Labels(Outcome):
    """Yes or no for each of several labels.

    Attributes:
        labels: their names.
        hits: by label, how often it was predicted where it is.
        said: how often it was predicted.
        there: how often it is there.
        bins: the predicted probabilities against how often the label is there.
    """

    kind: Literal["labels"] = "labels"
    labels: list[str] = dataclasses.field(default_factory=list)
    hits: list[int] = dataclasses.field(default_factory=list)
    said: list[int] = dataclasses.field(default_factory=list)
    there: list[int] = dataclasses.field(default_factory=list)
    bins: list[Bin] = dataclasses.field(default_factory=list)

    @property
    def rates(self) -> list[Rates]:
        return [_rates(*one) for one in zip(self.labels, self.hits, self.said, self.there, strict=True)]

    @property
    def calibration_error(self) -> float:
        return _calibration_error(self.bins)


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of a prediction, over all samples.

    Attributes:
        name: name of the target.
        points: `(true, predicted)` of some samples, at most 1,000.
        mean_error: the mean of predicted less true.
        mean_absolute_error: of these differences.
        root_mean_squared_error: of these differences.
        r2: the part of the variance of the targets that is explained; None where they do not vary.
        edges: edges of the bins of the residuals, true less predicted.
        counts: how many residuals are in each bin.
    """

    name: str
    points: list[tuple[float, float]]
    mean_error: float
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float | None
    edges: list[float]
    counts: list[int]


@dataclasses.dataclass(frozen=True)
class Numbers(Outcome):
    """Numbers: a regression."""

    kind: Literal["numbers"] = "numbers"
    columns: list[Column] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Other(Outcome):
    """An output that is neither, and why nothing is shown of it."""

    kind: Literal["other"] = "other"
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """All outputs of a model on some data.

    Attributes:
        data: "held out", or "validation" where nothing is held out.
        samples: how many samples.
        weights: the hash of the file of weights.
        outputs: one for each output.
        seeds: how many seeds predict together.
    """

    data: Literal["held out", "validation"]
    samples: int
    weights: str
    outputs: list[Classes | Labels | Numbers | Other]
    seeds: int = 1


def _rates(name: str, hits: int, said: int, there: int) -> Rates:
    precision = hits / said if said else None
    recall = hits / there if there else None
    f1 = 2 * hits / (said + there) if said + there else None
    return Rates(name, precision, recall, f1, there)


def _calibration_error(bins: list[Bin]) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy, over the predictions."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / total if total else 0.0
