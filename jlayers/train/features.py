"""Features of a frozen part of a model, computed once per sample and kept while the rest is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec
from jlayers.core.tree import flatten
from jlayers.data.batches import map_arrays, rows_of
from jlayers.data.dataset import fingerprint
from jlayers.saving.files import new_folder
from jlayers.train.inference import predict
from jlayers.train.sources import arrays
from jlayers.train.state import TrainState, inputs_of
from jlayers.train.trainer import Trainer
from jlayers.transform.features import FeatureSplit, split_features
from jlayers.transform.freeze import trainable_mask

__all__ = ["FeatureCache", "as_feature_cache", "features_of", "on_features", "trainer_of_head"]

_DATA = "features-{}.npy"
_ENTRY = re.compile(r"features-[0-9a-f]{32}")  # the folder may hold other things, which are never touched
_BATCHES = 16  # that are computed before they are written


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """A place for the features of a frozen part, for `fit(cache_features=...)`.

    An entry is found by a hash of the frozen layers, their weights, the samples and the version of JAX, so
    that it is never used for anything else. When the folder is full, the entry that was used longest ago is
    removed.

    Args:
        folder: a folder on a disk, for several runs; None for memory, for one run.
        max_bytes: the most that all entries may take together.

    Raises:
        ValueError: `max_bytes` that is not a whole number above 0.
        NotADirectoryError: `folder` is a file.

    >>> import jlayers as jl
    >>> cache = jl.FeatureCache("cache/features", max_bytes=2**30)
    """

    folder: str | os.PathLike[str] | None = None
    max_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or self.max_bytes < 1:
            raise refused(
                ValueError,
                "expected a whole number of bytes",
                instead="write 2**30 for a GiB",
                raised_by="FeatureCache",
                max_bytes=self.max_bytes,
            )
        if self.folder is not None and pathlib.Path(self.folder).is_file():
            raise refused(
                NotADirectoryError, "expected a folder", raised_by="FeatureCache", folder=str(self.folder)
            )


def as_feature_cache(value: Any) -> FeatureCache | None:
    """A cache from what `fit` takes: False, True for memory, a folder, or a `FeatureCache`."""
    if value is None or value is False:
        return None
    if value is True:
        return FeatureCache()
    if isinstance(value, (str, os.PathLike)):
        return FeatureCache(value)
    if isinstance(value, FeatureCache):
        return value
    raise refused(
        TypeError, "expected True, a folder or a jl.FeatureCache", raised_by="fit", cache_features=value
    )


def trainer_of_head(trainer: Trainer, x: Any) -> tuple[Trainer, FeatureSplit]:
    """A trainer of the layers behind the features, with the parameters and the state of the whole model.

    Raises:
        TypeError: tasks in place of a model, or data that are not arrays.
        ValueError: no frozen layer stands where the model begins, or training changes what is frozen, or the
            samples.
    """
    if not isinstance(trainer.model, Layer):
        error = TypeError("fit: expected a model for cache_features, received a trainer of tasks")
        raise about(error, trainer=trainer)
    if trainer.augment is not None:
        raise refused(
            ValueError,
            "expected no augmentation beside cache_features, for it changes the samples in each epoch",
            raised_by="fit",
            augment=trainer.augment,
        )
    one = map_arrays(lambda array: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype), x)
    leaves, form = jax.tree.flatten(one)
    site = (form, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    known = vars(trainer).setdefault("_heads", {})
    if site not in known:
        _, last = trainer.stages[-1]  # in which most is trained: what is before this cut never moves
        try:
            split = split_features(last.model, *map(as_spec, inputs_of(one)))
        except (TypeError, ValueError) as error:
            about(error, cache_features=True)
            if trainer.unfreeze:
                error.add_note(
                    f"layers that begin to move, unfreeze={dict(trainer.unfreeze)}, have no features: "
                    f"train in two calls of fit, the head on kept features, then more layers without them"
                )
            raise
        head = split.head.with_frozen(trainer.model.frozen)
        known[site] = (dataclasses.replace(trainer, model=head), split)
    return known[site]


def features_of(cache: FeatureCache, split: FeatureSplit, state: TrainState, x: Any, batch_size: int) -> Any:
    """The features of all samples: arrays in memory, or on disk where they are read as they are needed.

    Raises:
        ValueError: they take more than `cache.max_bytes`.
    """
    rows = rows_of(x=x)
    size = sum(math.prod((rows, *form.shape[1:])) * form.dtype.itemsize for form in split.forms.values())
    if size > cache.max_bytes:
        raise refused(
            ValueError,
            f"expected features of at most {cache.max_bytes} bytes, while those of {rows} samples at "
            f"{', '.join(map(repr, split.forms))} take {size}",
            instead="freeze up to a layer with a smaller output, such as a pooling, or allow more",
            raised_by="FeatureCache",
            max_bytes=cache.max_bytes,
        )
    if cache.folder is None:
        return predict(split.base, (state.params, state.state), x, batch_size=batch_size)
    folder = pathlib.Path(cache.folder)
    entry = folder / f"features-{_key(split, state, x)}"
    found = _read(entry, split, rows)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, cache.max_bytes - size)
        with (
            contextlib.suppress(FileExistsError),  # another process was first
            new_folder(entry, "features are never written over") as partial,
        ):
            _write(partial, split, state, x, batch_size, rows)
        found = _read(entry, split, rows)
    return found


def _key(split: FeatureSplit, state: TrainState, x: Any) -> str:
    used = dict(_used(split, state))
    facts = [repr(split.base), *split.forms, jax.__version__, jax.default_backend()]
    return fingerprint((used, x, np.array(facts, object)))[:32]


def _used(split: FeatureSplit, state: TrainState) -> Iterator[tuple[str, Any]]:
    """The weights of the frozen layers; others do not enter the features."""
    for part, tree in (("params", state.params), ("state", state.state)):
        moves = flatten(trainable_mask(split.base, tree))
        for path, value in flatten(tree).items():
            if not moves[path]:
                yield f"{part}/{path}", jax.device_get(value)


def _write(
    folder: pathlib.Path,
    split: FeatureSplit,
    state: TrainState,
    x: Any,
    batch_size: int,
    rows: int,
) -> None:
    files = [
        np.lib.format.open_memmap(
            folder / _DATA.format(number), "w+", np.dtype(form.dtype), (rows, *form.shape[1:])
        )
        for number, form in enumerate(split.forms.values())
    ]
    step = batch_size * _BATCHES
    for start in range(0, rows, step):
        part = map_arrays(lambda array: array[start : start + step], x)  # noqa: B023
        features = predict(split.base, (state.params, state.state), part, batch_size=batch_size)
        for file, name in zip(files, split.forms, strict=True):
            file[start : start + step] = features[name]
    for file in files:
        file.flush()


def _read(entry: pathlib.Path, split: FeatureSplit, rows: int) -> dict[str, np.ndarray] | None:
    """The features under this entry; None if there are none, or not all of them."""
    try:
        found = {
            name: np.load(entry / _DATA.format(number), mmap_mode="r", allow_pickle=False).view(form.dtype)
            for number, (name, form) in enumerate(split.forms.items())
        }
        os.utime(entry)  # what was used last is removed last
    except (OSError, ValueError):
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return found if all(len(array) == rows for array in found.values()) else None


def _make_room(folder: pathlib.Path, bytes_left: int) -> None:
    """Remove the entries that were used longest ago until the others fit; what is no entry stays."""
    entries = [path for path in folder.iterdir() if _ENTRY.fullmatch(path.name) and path.is_dir()]
    total = 0
    for entry in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True):
        total += sum(file.stat().st_size for file in entry.glob(_DATA.format("*")))
        if total > bytes_left:
            shutil.rmtree(entry, ignore_errors=True)


def on_features(
    cache: FeatureCache,
    trainer: Trainer,
    state: TrainState | None,
    parts: Any,
    validation_data: Any,
    batch_size: int,
    seed: int,
) -> tuple[Trainer, TrainState, Any, Any]:
    """The trainer of the head, the state of the whole model, and features in the place of the samples."""
    if parts is None or not isinstance(validation_data, (tuple, type(None))):
        raise TypeError("fit: expected arrays to train and to validate on beside cache_features")
    x, y, weight = parts
    if state is None:
        state = trainer.init(jax.random.key(seed), map_arrays(lambda a: a[:batch_size], x), y)
    else:
        trainer.check_state(state)
    head, split = trainer_of_head(trainer, x)
    parts = (features_of(cache, split, state, x, batch_size), y, weight)
    if validation_data is not None:
        held_out, *others = arrays(*validation_data)  # type: ignore[misc]
        validation_data = (features_of(cache, split, state, held_out, batch_size), *others)
    return head, state, parts, validation_data
