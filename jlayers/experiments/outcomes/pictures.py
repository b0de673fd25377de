"""Pictures of what a model makes of the held-out data; each function gives a figure."""

from __future__ import annotations

import base64
import io
import pathlib
import re
from typing import Any

import numpy as np

from jlayers.experiments.outcomes.kinds import Classes, Column, Example, Labels, Numbers, Outcomes
from jlayers.runs.figures import INK, SERIES, can_draw, new_figure, plain_axes, save_png, written

__all__ = [
    "against_true",
    "calibration",
    "confusion",
    "draw_outcomes",
    "regression",
    "residuals",
    "worst",
]

_CLASSES = 40  # of a confusion matrix that is drawn


def draw_outcomes(outcomes: Outcomes, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the pictures as PNG files into a folder; none without matplotlib.

    They are `confusion.png`, `calibration.png`, `regression.png`, and `worst.png` of inputs that are images,
    with the name of the output before it where there are several. One of earlier weights does not stay.

    Returns:
        the files.
    """
    if not can_draw():
        return []
    files = []
    for number, outcome in enumerate(outcomes.outputs):
        known = re.sub(r"[^\w.-]+", "_", outcome.name, flags=re.ASCII)[:60]
        start = f"{number}-{known}-" if len(outcomes.outputs) > 1 else ""
        figures: dict[str, Any] = {}
        if isinstance(outcome, Classes):
            figures["confusion"] = confusion(outcome)
        if isinstance(outcome, (Classes, Labels)):
            figures["calibration"] = calibration(outcome)
        if isinstance(outcome, Numbers):
            figures["regression"] = regression(outcome)
        figures["worst"] = worst(outcome.worst)
        for name, figure in figures.items():
            path = folder / f"{start}{name}.png"
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            save_png(figure, path)
            files.append(path)
    return files


def confusion(outcome: Classes) -> Any:
    """Counts by true and predicted class, colored by their share of the true class.

    Of more than 40 classes those are drawn that are confused most.
    """
    matrix, names = outcome.matrix, [written(name, 18) for name in outcome.classes]
    title = ""
    if len(names) > _CLASSES:
        wrong = matrix - np.diag(np.diag(matrix))
        kept = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:_CLASSES])
        matrix, names = matrix[np.ix_(kept, kept)], [names[place] for place in kept]
        title = f"the {_CLASSES} of {len(outcome.classes)} classes that are confused most"
    count = len(names)
    size = min(9.0, max(3.6, 1.8 + 0.36 * count))
    figure = new_figure(size + 0.6, size)
    axes = figure.subplots()
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba

    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    strong = to_rgba(SERIES[0])
    shades = LinearSegmentedColormap.from_list("shades", [(*strong[:3], 0.0), strong])  # seen on any page
    image = axes.imshow(shares, cmap=shades, norm=PowerNorm(0.5, 0, 1))  # few mistakes are seen, too
    small = max(5.0, min(9.0, 130 / count))
    if count <= 25:
        for true in range(count):
            for predicted in range(count):
                if number := int(matrix[true, predicted]):
                    color = "white" if shares[true, predicted] > 0.3 else INK
                    axes.text(
                        predicted, true, f"{number}", ha="center", va="center", color=color, fontsize=small
                    )
    long = max(map(len, names)) > 3 or count > 12
    axes.set_xticks(range(count), names, rotation=90 if long else 0)
    axes.set_yticks(range(count), names)
    plain_axes(axes, title, "predicted", "true")
    axes.tick_params(labelsize=small, colors=INK)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("share of the true class", color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)
    return figure


def calibration(outcome: Classes | Labels) -> Any:
    """A reliability diagram: how often predictions of a confidence are right; below, how many there are."""
    if not outcome.bins:
        return None
    sure, right, counts = (
        np.array([getattr(one, name) for one in outcome.bins]) for name in ("confidence", "accuracy", "count")
    )
    figure = new_figure(4.6, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8, label="perfect")
    upper.plot(sure, right, color=SERIES[0], linewidth=1.0, alpha=0.5)
    upper.scatter(
        sure, right, s=15 + 85 * counts / counts.max(), color=SERIES[0], label="this model", zorder=3
    )
    several = isinstance(outcome, Labels)
    plain_axes(upper, f"expected calibration error {outcome.calibration_error:.3f}", "",
               "share that is there" if several else "share that is right")  # fmt: skip
    upper.set_ylim(-0.04, 1.06)
    upper.legend(frameon=False, fontsize=9, labelcolor=INK)
    lower.bar(sure, counts, width=0.04, color=SERIES[0])
    lower.set_yscale("symlog", linthresh=1)
    plain_axes(lower, "", "predicted probability" if several else "confidence of the prediction", "count")
    lower.set_xlim(0, 1.02)
    return figure


def regression(outcome: Numbers) -> Any:
    """For each number, predicted against true values, and how the residuals are spread."""
    rows = len(outcome.columns)
    figure = new_figure(9.0, 3.6 * rows)
    for (left, right), column in zip(figure.subplots(rows, 2, squeeze=False), outcome.columns, strict=True):
        _against_true(left, column)
        _residuals(right, column)
    return figure


def against_true(column: Column) -> Any:
    """Predicted against true values of one number."""
    figure = new_figure(4.6, 3.6)
    _against_true(figure.subplots(), column)
    return figure


def residuals(column: Column) -> Any:
    """A histogram of the residuals of one number."""
    figure = new_figure(4.6, 3.6)
    _residuals(figure.subplots(), column)
    return figure


def _against_true(axes: Any, column: Column) -> None:
    true, made = np.array(column.points, float).reshape(-1, 2).T
    ends = [min(true.min(), made.min()), max(true.max(), made.max())]
    axes.plot(ends, ends, "--", color=INK, linewidth=0.8)
    axes.plot(true, made, "o", color=SERIES[0], markersize=4, alpha=0.8, markeredgewidth=0)
    r2 = "" if column.r2 is None else f"R² {column.r2:.3f}, "
    title = f"{_start(column)}{r2}RMSE {column.root_mean_squared_error:.4g}"
    plain_axes(axes, title, "true", "predicted")


def _residuals(axes: Any, column: Column) -> None:
    axes.stairs(column.counts, column.edges, fill=True, color=SERIES[0])
    axes.axvline(0, color=INK, linewidth=0.8)
    plain_axes(axes, f"{_start(column)}residuals, mean {-column.mean_error:.3g}", "true − predicted", "count")


def _start(column: Column) -> str:
    return f"{column.name}: " if column.name else ""


def worst(examples: list[Example]) -> Any:
    """The images with the largest loss, each with what it is and what was predicted; None without any."""
    shown = [(one, images) for one in examples if (images := [i.image for i in one.inputs if i.image])]
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.4 * columns, 2.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, (example, images) in zip(grid, shown, strict=False):
        axes.imshow(_side_by_side(images), cmap="gray", vmin=0, vmax=255)
        loss = "" if example.loss is None else f"\nloss {example.loss:.3g}"
        said = f"true: {written(example.true, 30)}\npredicted: {written(example.predicted, 30)}{loss}"
        axes.set_title(said, fontsize=8, color=INK)
    return figure


def _side_by_side(images: list[str]) -> np.ndarray:
    """Several images as one, with a white line between them."""
    from PIL import Image

    made = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in images]
    height = max(image.shape[0] for image in made)
    line = max(1, height // 32) if len(made) > 1 else 0
    pads = [((0, height - len(image)), (0, line), (0, 0)) for image in made]
    padded = [np.pad(image, pad, constant_values=255) for image, pad in zip(made, pads, strict=True)]
    return np.concatenate(padded, axis=1)
