"""The whole file: what was seen, the data, a model for the task, and how long to train."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Literal

import numpy as np

from jlayers.core.errors import refused
from jlayers.data import Dataset, registry
from jlayers.data.folders import files_in, list_classes
from jlayers.experiments.starter.arrays import look_at_arrays
from jlayers.experiments.starter.lines import Source, flow, indented, line
from jlayers.experiments.starter.parquets import look_at_parquet
from jlayers.experiments.starter.pictures import look_at_pictures
from jlayers.experiments.starter.tables import look_at_table
from jlayers.experiments.starter.texts import look_at_texts

__all__ = ["DATA", "Starter", "starter"]

DATA = "a .csv, .parquet or .npz file, or a folder with a subfolder of pictures or .txt files for each class"
STEPS = 2000  # of a training that is not stopped early

Task = Literal["classification", "regression"]


@dataclasses.dataclass(frozen=True)
class Starter:
    """A configuration, and what was found.

    Attributes:
        text: text of the file.
        seen: sentences about the data and the task.
    """

    text: str
    seen: tuple[str, ...]


def starter(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    name: str,
    target: str | None = None,
    task: Task | None = None,
) -> Starter:
    """A configuration for data, with a comment on each line that says something new.

    Args:
        data: a `.csv`, `.parquet` or `.npz` file, or a folder with a subfolder of pictures or texts for each
            class, or with such folders called `train` and `test`.
        folder: the folder of the file to write, which paths are relative to.
        name: name of that file, for its comments.
        target: the column to predict, in a `.csv` or `.parquet` file; a guess if not given.
        task: whether the targets are classes; by their values if not given.

    Raises:
        ValueError: data that are none of these, or that cannot be learned from; with the place.
        FileNotFoundError: no such data.
    """
    path = pathlib.Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected {DATA}")
    is_table = path.suffix.lower() in (".csv", ".tsv", ".txt") and path.is_file()
    is_parquet = path.suffix.lower() == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))
    if target is not None and not (is_table or is_parquet):
        raise refused(ValueError, "expected a --target with a .csv or .parquet file only", target=target)
    shown = _shown(path, folder)
    if is_parquet:
        source = look_at_parquet(path, shown, target, task)
    elif path.is_dir():
        if task == "regression":
            raise refused(ValueError, "expected classification, as folders are classes", task=task)
        source = _folder(path, folder)
    elif is_table:
        source = look_at_table(path, shown, target, task)
    elif path.suffix.lower() == ".npz":
        source = look_at_arrays(path, shown, task)
    else:
        raise ValueError(f"expected {DATA}, received {path}")
    made = registry.build(source.data.name, source.data.values())
    if made.sizes[0] < 8:
        raise ValueError(f"{path}: expected at least 10 samples, received {sum(made.sizes)}")
    return _starter_of(source, made, name)


def _shown(path: pathlib.Path, folder: str | os.PathLike[str]) -> str:
    """A path as the file names it: relative if it is near."""
    relative = os.path.relpath(path.absolute(), os.path.abspath(folder))
    far = relative.startswith(os.path.join(*[os.pardir] * 3))
    return str(path.absolute()) if far else pathlib.PurePath(relative).as_posix()


def _folder(path: pathlib.Path, folder: str | os.PathLike[str]) -> Source:
    """Pictures or texts by class, or such folders for training and test."""
    classes = list_classes(path)
    inner = {name.lower(): path / name for name in classes}
    held = next((inner[name] for name in ("test", "val", "valid", "validation") if name in inner), None)
    if "train" in inner and held is not None:
        given = inner["train"], (held, _shown(held, folder))
    else:
        given = path, None
    for look, kind in ((look_at_pictures, "images"), (look_at_texts, "texts")):
        if _has(given[0], kind):
            return look(given[0], _shown(given[0], folder), given[1])
    raise ValueError(
        f"{path}: expected a folder of pictures or .txt files for each class, received no such files"
    )


def _has(path: pathlib.Path, kind: str) -> bool:
    from jlayers.data import images, texts

    suffixes = {"images": images.SUFFIXES, "texts": texts.SUFFIXES}[kind]
    return any(files_in(path / name, suffixes).names for name in list_classes(path))


# ------------------------------------------------------------------------------------- the sections


@dataclasses.dataclass(frozen=True)
class Goal:
    """The parts that follow from the targets: the last layers, the loss, the metrics."""

    seen: str
    layers: list[str]
    loss: str
    metrics: str
    balanced: bool = False


def _goal(source: Source, made: Dataset) -> Goal:
    y = made.train[1]
    if source.labels:
        return _classes(made, np.ravel(y))
    if y.ndim == 2 and y.shape[1] > 1 and _is_one_hot(y):
        softmax = line(
            f"- Dense: {{units: {y.shape[1]}, activation: softmax}}", "a probability for each class"
        )
        loss = line("loss: categorical_crossentropy", "for rows with a 1 at the class")
        return Goal(
            f"Classification: {y.shape[1]} classes, as rows with a single 1.",
            [softmax],
            loss,
            line("metrics: [accuracy]", "the share that is right"),
        )
    count = 1 if y.ndim == 1 else int(np.prod(y.shape[1:]))
    mean, spread = float(np.mean(y, dtype=np.float64)), float(np.std(y, dtype=np.float64))
    if not np.isfinite(spread) or not spread:
        raise ValueError("expected targets that are finite and differ, received others")
    scale = flow({"scale": float(f"{spread:.4g}"), "offset": float(f"{mean:.4g}")})
    layers = [
        line(f"- Dense: {count}", "the estimate, of mean 0 and variance 1"),
        line(f"- Rescaling: {scale}", "in the units of the target: its standard deviation and mean"),
    ]
    if y.ndim > 2:
        layers.append(f"- Reshape: {flow({'target_shape': list(y.shape[1:])})}")
    low, high = float(np.min(y)), float(np.max(y))
    return Goal(
        f"Regression: the target goes from {low:.4g} to {high:.4g}, with mean {mean:.4g}.",
        layers,
        line("loss: mse", "the mean squared error; mae cares less about a few large errors"),
        line("metrics: [mae, R2Score]", "mean absolute error; share of the variance that is explained"),
    )


def _classes(made: Dataset, y: np.ndarray) -> Goal:
    count = made.classes or int(y.max()) + 1
    counts = np.bincount(y, minlength=count)
    names = made.class_names
    listed = ", ".join((names or tuple(map(str, range(count))))[:6]) + (", ..." if count > 6 else "")
    there = counts[counts > 0]
    sizes = f"{there.min():,}" if there.min() == there.max() else f"{there.min():,} to {there.max():,}"
    seen = f"Classification: {count} classes ({listed}), each with {sizes} training samples."
    balanced = bool(there.max() > 3 * there.min())
    if count == 2:
        one = names[1] if names else "1"
        return Goal(
            seen,
            [line("- Dense: {units: 1, activation: sigmoid}", f"the probability of {one}, the second class")],
            line("loss: binary_crossentropy", "for two classes"),
            line("metrics: [accuracy, AUC]", "share that is right; area under the ROC curve, 0.5 is chance"),
            balanced,
        )
    return Goal(
        seen,
        [line(f"- Dense: {{units: {count}, activation: softmax}}", "a probability for each class")],
        line("loss: sparse_categorical_crossentropy", "for classes given as numbers"),
        line(
            "metrics: [accuracy]",
            f"the share that is right; the most frequent class is {there.max() / len(y):.0%}",
        ),
        balanced,
    )


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all())


def _starter_of(source: Source, made: Dataset, name: str) -> Starter:
    goal = _goal(source, made)
    train, _ = made.sizes
    seen = (*source.seen, goal.seen)
    validation = 0.1 if train >= 500 else 0.2
    batch = 128 if train >= 50_000 else 32 if train >= 200 else 16
    epochs = _round(STEPS * batch / train)
    lines = [
        *(f"# {text}" for text in seen),
        "#",
        f"#   jlayers train {name}",
        "#",
        "# `jlayers list layers` (losses, metrics, ...) shows what else can be named here.",
        "",
        "data:",
        *indented(source.data.lines()),
        "",
        *(["preprocess:", *indented(source.preprocess), ""] if source.preprocess else []),
        "model:",
        "  Sequential:",
        *indented([*source.layers, *goal.layers], 4),
        "",
        goal.loss,
        goal.metrics,
        "",
        "optimizer:",
        line("  adam: {learning_rate: 0.001}", "lower it if the loss jumps, raise it if it falls slowly"),
        "",
        line("seed: 0", "of the weights, of dropout and of the order of the samples"),
        "",
        "training:",
        line(f"  epochs: {epochs}", f"passes over the {train:,} training samples, at most"),
        line(f"  batch_size: {batch}", "samples in one step"),
        line(f"  validation: {validation}", "share of them kept back, to see when to stop"),
    ]
    if goal.balanced:
        lines.append(line("  class_weight: balanced", "rare classes count as much as frequent ones"))
    lines += [
        "  early_stopping:",
        line("    monitor: val_loss", "the loss on what was kept back"),
        line(f"    patience: {max(3, epochs // 5)}", "epochs without a better one before the training stops"),
        line("    restore_best_weights: true", "those of the best epoch are kept"),
    ]
    return Starter("\n".join(lines) + "\n", seen)


def _round(epochs: float) -> int:
    return next((n for n in (5, 10, 20, 30, 50) if epochs <= n), 100)
