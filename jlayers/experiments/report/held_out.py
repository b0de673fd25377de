"""The part of a report on the held-out data: which classes are confused, how sure the model is, the worst."""

from __future__ import annotations

from collections.abc import Iterator

from jlayers.experiments.outcomes import Classes, Labels, Numbers, Other, Outcomes
from jlayers.experiments.outcomes import pictures as draw
from jlayers.experiments.outcomes.kinds import Example, Rates, Shown
from jlayers.experiments.report.html import Element, element, table
from jlayers.experiments.report.pictures import Pictures

__all__ = ["held_out"]

_CLASSES = 50  # rows of the table of classes
_WRONG = "Predicted wrongly, the largest loss first"


def held_out(outcomes: Outcomes, pictures: Pictures) -> Iterator[Element]:
    """The elements of the section."""
    validation = "validation data, since nothing else is held out"
    what = "held-out data" if outcomes.data == "held out" else validation
    who = f"The ensemble of {outcomes.seeds} seeds" if outcomes.seeds > 1 else "The kept weights"
    yield element("p", f"{who} on the {what}: {outcomes.samples:,} samples.")
    for outcome in outcomes.outputs:
        if outcome.name:
            yield element("h3", f"Output {outcome.name}")
        if outcome.left_out:
            why = "they are not finite, or their targets do not count"
            yield element("p", f"{outcome.left_out:,} predictions are left out: {why}.", class_="note")
        if isinstance(outcome, Other):
            yield element("p", f"Nothing is shown of it: {outcome.reason}.", class_="dim")
        elif isinstance(outcome, Classes):
            yield from _classes(outcome, pictures)
        elif isinstance(outcome, Labels):
            yield from _labels(outcome, pictures)
        else:
            yield from _numbers(outcome, pictures)


def _classes(outcome: Classes, pictures: Pictures) -> Iterator[Element]:
    right = outcome.count - outcome.wrong
    share = right / outcome.count if outcome.count else 0.0
    error = f"expected calibration error {outcome.calibration_error:.3f}"
    yield element("p", f"{right:,} of {outcome.count:,} right ({share:.2%}), {error}.")
    confusion = "Confusion matrix: counts, colored by their share of the true class"
    reliability = "Reliability: how often predictions of a confidence are right"
    yield element(
        "div",
        pictures.add(draw.confusion, outcome, confusion),
        pictures.add(draw.calibration, outcome, reliability),
        class_="pictures",
    )
    yield from _rates(outcome.rates)
    yield from _examples(outcome.worst, _WRONG, "No sample was predicted wrongly.")


def _labels(outcome: Labels, pictures: Pictures) -> Iterator[Element]:
    error = f"expected calibration error {outcome.calibration_error:.3f}"
    yield element("p", f"{outcome.count:,} predictions of {len(outcome.labels):,} labels each, {error}.")
    caption = "Reliability: how often a label is there, by its predicted probability"
    yield element("div", pictures.add(draw.calibration, outcome, caption), class_="pictures")
    yield from _rates(outcome.rates)
    yield from _examples(outcome.worst, _WRONG, "All labels were predicted rightly.")


def _numbers(outcome: Numbers, pictures: Pictures) -> Iterator[Element]:
    rows = []
    for one in outcome.columns:
        numbers = one.root_mean_squared_error, one.mean_absolute_error, one.mean_error, one.r2
        rows.append([one.name or "prediction", *("–" if n is None else f"{n:.4g}" for n in numbers)])
    yield table(["", "RMSE", "mean absolute error", "mean error", "R²"], rows)
    for one in outcome.columns:
        both = [pictures.add(function, one) for function in (draw.against_true, draw.residuals)]
        yield element("div", both, class_="pictures")
    yield from _examples(outcome.worst, "The largest loss first", "")


def _rates(rates: list[Rates]) -> Iterator[Element]:
    yield element("h3", "By class")
    shown = rates
    if len(rates) > _CLASSES:
        shown = sorted(rates, key=lambda one: (one.f1 is None, one.f1))[:_CLASSES]
        yield element("p", f"The {_CLASSES} of {len(rates):,} classes with the lowest F1.", class_="dim")
    rows = [
        [one.name, *map(_share, (one.precision, one.recall, one.f1)), f"{one.support:,}"] for one in shown
    ]
    yield table(["", "precision", "recall", "F1", "support"], rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _examples(examples: list[Example], title: str, none: str) -> Iterator[Element]:
    if not examples:
        if none:
            yield element("p", none)
        return
    images = any(one.image for example in examples for one in example.inputs)
    yield element("h3", title)
    yield element("div", map(_example, examples), class_="examples" if images else "examples words")


def _example(example: Example) -> Element:
    loss = "" if example.loss is None else f", loss {example.loss:.3g}"
    where = example.file or f"sample {example.row}"
    return element(
        "div",
        map(_input, example.inputs),
        element("p", element("b", "true "), example.true),
        element("p", element("b", "predicted "), example.predicted),
        element("p", f"{where}{loss}", class_="dim"),
        class_="example",
    )


def _input(shown: Shown) -> Element:
    name = f"{shown.name}: " if shown.name else ""
    if shown.kind == "image":
        return element("img", src=f"data:image/png;base64,{shown.image}", alt=shown.name or "the input")
    if shown.kind == "text":
        return element("p", name, shown.text)
    values = ", ".join(f"{column} {value}".strip() for column, value in shown.values)
    return element("p", name, values, class_="values")
