"""`.npz` files looked at: which arrays are inputs and targets, and whether they are images."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from jlayers.core.shapes import describe
from jlayers.data.numpy_files import read_npz
from jlayers.experiments.starter.lines import Call, Commented, Source, flow, line
from jlayers.experiments.starter.pictures import convolutions

__all__ = ["look_at_arrays"]

_PAIRS = (
    ("x_train", "y_train"),
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("data", "target"),
    ("data", "labels"),
    ("features", "targets"),
    ("features", "labels"),
    ("inputs", "targets"),
    ("arr_0", "arr_1"),
)


def look_at_arrays(path: pathlib.Path, shown: str, task: str | None) -> Source:
    """Arrays of a `.npz` file as data for a task.

    Raises:
        ValueError: no arrays for inputs and targets, or of kinds that models do not take.
    """
    arrays = read_npz(path)
    x_name, y_name = _names(path, arrays)
    x, y = arrays[x_name], arrays[y_name]
    for name, array in ((x_name, x), (y_name, y)):
        if array.dtype.kind not in "fiub" or not array.ndim or not array.size:
            fix = "; number the classes from 0" if array.dtype.kind in "US" else ""
            raise ValueError(f"{path}: expected {name!r} to hold numbers, received {describe(array)}{fix}")
    if x.ndim < 2 or len(x) != len(y):
        raise ValueError(
            f"{path}: expected samples along the first axis of both arrays, received {x_name} {describe(x)} "
            f"and {y_name} {describe(y)}"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(
            f"{path}: expected finite numbers, {x_name!r} has NaN or infinite ones; replace them"
        )
    arguments = {
        "path": Commented(str(path), "relative to this file", shown),
        "x": Commented(x_name, "the array of the inputs"),
        "y": Commented(y_name, "the array of the targets"),
    }
    if x_name == "x_train" and {"x_test", "y_test"} <= set(arrays):
        arguments["x_test"] = Commented("x_test", "held out for the final test")
        arguments["y_test"] = Commented("y_test", "its targets")
    else:
        arguments["test_fraction"] = Commented(
            0.2, "held out for the final test, at random, the same in every run"
        )
        arguments["seed"] = Commented(0, "of that choice")
    labels = _is_class(y, task)
    others = arrays[arguments["x_test"].value] if "x_test" in arguments else x
    preprocess, layers = _tokens(x, others) if _is_tokens(x) else _layers(x)
    seen = [f"Arrays: {x_name} {describe(x)} and {y_name} {describe(y)}."]
    return Source(seen, Call("npz", arguments), labels, preprocess, layers)


def _names(path: pathlib.Path, arrays: dict[str, Any]) -> tuple[str, str]:
    for pair in _PAIRS:
        if set(pair) <= set(arrays):
            return pair
    found = ", ".join(f"{name} {describe(array)}" for name, array in arrays.items()) or "none"
    raise ValueError(f"{path}: expected arrays called x and y, received {found}; save them under these names")


def _is_class(y: np.ndarray, task: str | None) -> bool:
    flat = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    if task is not None or not flat or y.dtype.kind == "f":
        return task == "classification"
    classes = int(y.max()) + 1
    return bool(y.min() >= 0) and classes <= max(2, min(1000, len(y) // 5))


def _layers(x: np.ndarray) -> tuple[list[str], list[str]]:
    """Lines for preprocessing, and of the layers that read such inputs."""
    normalized = [line("x: Normalization", "every feature to mean 0 and variance 1, by the training data")]
    if _is_image(x):
        height, width, *channels = x.shape[1:]
        begin = []
        if not channels:
            begin.append(
                line(f"- Reshape: {flow({'target_shape': [height, width, 1]})}", "one channel: gray")
            )
        low, high = float(x.min()), float(x.max())
        top = 255.0 if x.dtype == np.uint8 else high
        if low >= 0 and top > 1:
            begin.append(line(f"- Rescaling: {{scale: {flow(1 / top)}}}", f"pixels from 0..{top:g} to 0..1"))
        return [], [*begin, *convolutions(height, width)]
    if x.ndim == 3:
        return normalized, [
            line(
                "- Conv1D: {filters: 64, kernel_size: 5, padding: same, activation: relu}", "along the steps"
            ),
            "- MaxPooling1D",
            "- Conv1D: {filters: 64, kernel_size: 5, padding: same, activation: relu}",
            line("- GlobalAveragePooling1D", "the mean over the steps"),
            line("- Dropout: 0.2", "against learning the samples by heart"),
        ]
    flat = [] if x.ndim == 2 else [line("- Flatten", "all numbers of a sample in one row")]
    return normalized, [
        *flat,
        line("- Dense: {units: 64, activation: relu}", "more units or layers learn more, and need more data"),
        line("- Dropout: 0.2", "against learning the samples by heart"),
        "- Dense: {units: 64, activation: relu}",
    ]


def _tokens(x: np.ndarray, others: np.ndarray) -> tuple[list[str], list[str]]:
    """Lines for sequences of numbers of words, which are not amounts."""
    count = int(max(x.max(), others.max())) + 1
    embedding: dict[str, Any] = {"input_dim": count, "output_dim": 32}
    if _padding(x).any():
        embedding["mask_zero"] = True
    padded = "; 0 fills up and does not count" if "mask_zero" in embedding else ""
    return [], [
        line(
            f"- Embedding: {flow(embedding)}",
            f"a vector for each number{padded}",
        ),
        line("- GlobalAveragePooling1D", "the mean over the sequence"),
        line("- Dropout: 0.3", "against learning the sequences by heart"),
    ]


def _is_tokens(x: np.ndarray) -> bool:
    """True if the rows are sequences of numbers of words, characters or the like.

    They are whole numbers, the same ones in all columns. Zeros, if there are any, fill up one end of rows.
    """
    if x.ndim != 2 or x.shape[1] < 4 or x.dtype.kind not in "iu" or x.dtype == np.uint8 or x.min() < 0:
        return False
    padding = _padding(x)
    if not np.array_equal(padding, x == 0) or x.max() < 10:
        return False
    means = [column[column > 0].mean() for column in x.T if (column > 0).any()]
    return bool(padding.any() or len(np.unique(x)) > 30) and max(means) < 3 * min(means)


def _padding(x: np.ndarray) -> np.ndarray:
    """True for the zeros at the beginning of each row, or at the end of each row, wherever there are more."""
    filled = x != 0
    before = ~np.logical_or.accumulate(filled, axis=1)
    after = ~np.logical_or.accumulate(filled[:, ::-1], axis=1)[:, ::-1]
    return before if before.sum() > after.sum() else after


def _is_image(x: np.ndarray) -> bool:
    sides = x.shape[1:3]
    if x.ndim == 4:
        return x.shape[3] in (1, 3, 4) and min(sides) >= 4
    return x.ndim == 3 and min(sides) >= 4 and (x.dtype == np.uint8 or sides[0] == sides[1])
