"""Parquet files of any size, read by row groups."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlayers.core.errors import concerning, refused
from jlayers.core.spelling import nearest
from jlayers.data.blocks import Blocks
from jlayers.data.dataset import Dataset, FilePath, register
from jlayers.data.digest import digest_of
from jlayers.data.folders import files_in
from jlayers.data.gate import as_dtype, check_names, check_resolution
from jlayers.data.split import hold_out

__all__ = ["ParquetFiles", "parquet"]

_MOST_WHOLE = 100_000  # above that, whole numbers are names


class ParquetFiles:
    """One or several Parquet files with the same columns, as row groups one after the other."""

    def __init__(self, path: FilePath):
        try:
            import pyarrow.parquet
        except ImportError:
            raise ImportError(
                "Parquet is read by PyArrow, which is not installed; install it with: "
                "pip install 'jlayers[parquet]'"
            ) from None
        self.path = Path(path)
        if self.path.is_dir():
            self.paths = [self.path / name for name in files_in(self.path, (".parquet",)).names]
        else:
            self.paths = [self.path]
        if not self.paths:
            raise ValueError(f"{path}: expected files that end in .parquet, received none")
        self.files: list[Any] = []
        for one in self.paths:
            try:
                self.files.append(pyarrow.parquet.ParquetFile(one))
            except FileNotFoundError:
                raise
            except Exception as error:  # a damaged file: PyArrow raises whatever it stumbles over
                raise ValueError(
                    f"{one}: expected a Parquet file, received one that cannot be read as such: {error}"
                ) from None
        self.schema = self.files[0].schema_arrow
        self.names = list(self.schema.names)
        for one, file in zip(self.paths, self.files, strict=True):
            if not file.schema_arrow.equals(self.schema):
                raise ValueError(
                    f"{one}: expected the columns and types of {self.paths[0]}, received others; write all "
                    f"files with one schema"
                )
        self.groups = [(f, g) for f, file in enumerate(self.files) for g in range(file.num_row_groups)]
        rows = [self.files[f].metadata.row_group(g).num_rows for f, g in self.groups]
        self.groups = [group for group, count in zip(self.groups, rows, strict=True) if count]
        self.ends = np.cumsum([count for count in rows if count])
        if not self.groups:
            raise ValueError(f"{path}: expected at least one row, received none")

    def check(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.names:
                raise KeyError(f"{self.path} has no column {name!r}: {nearest(name, self.names)}")

    def is_text(self, name: str) -> bool:
        import pyarrow.types as types

        kind = self.schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_string(kind) or types.is_large_string(kind)

    def read(self, number: int, names: Sequence[str]) -> list[np.ndarray]:
        """Columns of a row group, as numbers or as texts."""
        file, group = self.groups[number]
        try:
            table = self.files[file].read_row_group(group, columns=list(dict.fromkeys(names)))
        except Exception as error:
            raise ValueError(
                f"{self.paths[file]}: expected a row group {group} that can be read, received: {error}; "
                f"write the file again"
            ) from None
        return [
            self._array(table.column(name), f"{self.paths[file]}, row group {group}, column {name!r}")
            for name in names
        ]

    def _array(self, column: Any, where: str) -> np.ndarray:
        import pyarrow.types as types

        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise refused(
                ValueError,
                "expected a value, received a missing one",
                instead="fill it in or remove the row",
                raised_by=f"{where}, row {row}",
            )
        kind = column.type
        if types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if types.is_string(kind) or types.is_large_string(kind):
            return np.array(column.to_pylist(), object)
        if types.is_fixed_size_list(kind):
            values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return _numbers(values.reshape(len(column), kind.list_size), where)
        if not (
            types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
            or types.is_decimal(kind)
        ):
            raise refused(
                ValueError,
                f"expected numbers or texts, received {kind}",
                instead="convert the column first",
                raised_by=where,
            )
        return _numbers(column.to_numpy(), where)

    def fingerprint(self) -> str:
        return digest_of(self.paths, [path.name for path in self.paths])

    def check_resolution(self, names: Sequence[str]) -> None:
        """Refuse columns whose values float32 cannot keep apart, by the statistics in the file."""
        for name in names:
            found = [self._range(f, g, name) for f, g in self.groups]
            known = [pair for pair in found if pair is not None]
            if known:
                low, high = min(a for a, _ in known), max(b for _, b in known)
                error = float(np.spacing(np.float32(max(abs(low), abs(high))))) / 2
                check_resolution(f"{self.path}, column {name!r}", low, high, error)

    def _range(self, file: int, group: int, name: str) -> tuple[float, float] | None:
        found = self.files[file].metadata.row_group(group).column(self.names.index(name)).statistics
        if found is None or not found.has_min_max or not isinstance(found.min, (int, float)):
            return None
        return float(found.min), float(found.max)


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    made = as_dtype(where, values if values.dtype != object else values.astype(np.float64), np.float32)
    if not np.isfinite(made).all():
        row = int(np.argwhere(~np.isfinite(made))[0][0])
        raise refused(
            ValueError,
            f"expected finite numbers, received {made[row]}",
            instead="fill it in or remove the row",
            raised_by=f"{where}, row {row}",
        )
    return made


@register
def parquet(
    path: FilePath,
    target: str | list[str],
    labels: bool = False,
    features: list[str] | None = None,
    test_path: FilePath | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Rows of Parquet files, which may be larger than the memory: row groups are read when a step needs them.

    x is float32 `(rows, columns)`, all columns but the target unless `features` names some. If one of them is
    text, or a list of fixed size, x is a dict with one input for each column: text `(rows,)`, float32
    `(rows, size)`, float32 `(rows, 1)`. The targets are in memory, and so are a few row groups. Shuffling
    keeps to a few row groups at a time: write files with row groups of some thousand rows.

    Args:
        path: path of a file, or of a folder of `.parquet` files with the same columns, which are taken in the
            order of their paths; in YAML, relative to the YAML file.
        target: name of the target column; a list gives y of shape `(rows, columns)`, one gives `(rows,)` for
            labels and `(rows, 1)` for numbers.
        labels: True if the target is a class: whole numbers from 0 as they are, others in their order, texts
            in sorted order; y is then int32, else float32.
        features: the columns of x.
        test_path: a second file or folder, held out, whose columns are found by the same names.
        test_fraction: the part held out at random if there is no `test_path`, of each class with labels.
        seed: seed of that split.

    Raises:
        ValueError: missing values, numbers that are not finite or that float32 cannot keep apart, other
            types, or an unreadable file.
        KeyError: no column of that name.
        ImportError: PyArrow is missing (`pip install 'jlayers[parquet]'`).
    """
    targets = target if isinstance(target, list) else [target]
    if labels and len(targets) != 1:
        raise refused(ValueError, "expected one target column of labels", raised_by="parquet", target=target)
    with concerning(path=path):
        train = ParquetFiles(path)
    with concerning(target=target):
        train.check(targets)
    with concerning(features=features):
        train.check(features or [])
    names = features or [name for name in train.names if name not in targets]
    if not names or set(names) & set(targets):
        raise refused(
            ValueError,
            f"expected feature columns beside the target {target!r}",
            raised_by="parquet",
            features=features,
        )
    train.check_resolution(names)
    with concerning(test_path=test_path):
        held = None if test_path is None else ParquetFiles(test_path)
    if held is not None:
        check_names(str(test_path), held.names, [*names, *targets])
    pairs = [(_columns(files, names), _targets(files, targets, labels)) for files in (train, held) if files]
    class_names = None
    if labels:
        ys, class_names = _classes([y for _, y in pairs], str(test_path))
        pairs = [(x, y) for (x, _), y in zip(pairs, ys, strict=True)]
    (x, y), *rest = pairs
    parts = ((x, y), rest[0]) if rest else hold_out(x, y, test_fraction, seed)
    return Dataset(Path(path).stem, *parts, class_names)


def _columns(files: ParquetFiles, names: Sequence[str]) -> Any:
    """The inputs, as arrays that are read by row groups."""
    first = dict(zip(names, files.read(0, names), strict=True))
    alone = all(array.dtype != object and array.ndim == 1 for array in first.values())

    def load(number: int) -> dict[str, np.ndarray]:
        arrays = files.read(number, names)
        if alone:
            return {"": np.stack(arrays, axis=1)}
        shaped = [a[:, None] if a.dtype != object and a.ndim == 1 else a for a in arrays]
        return dict(zip(names, shaped, strict=True))

    return Blocks(files.ends.tolist(), load, functools.cache(files.fingerprint)).columns()


def _targets(files: ParquetFiles, names: Sequence[str], labels: bool) -> np.ndarray:
    if labels and files.is_text(names[0]):
        return np.concatenate([files.read(i, names)[0] for i in range(len(files.groups))])
    arrays = [np.stack(files.read(i, names), axis=1) for i in range(len(files.groups))]
    return np.concatenate(arrays)[:, 0] if labels else np.concatenate(arrays)


def _classes(ys: Sequence[np.ndarray], test: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as int32, and what 0, 1, ... stand for."""
    values = np.unique(ys[0])
    for y in ys[1:]:
        if new := sorted(set(np.unique(y).tolist()) - set(values.tolist())):
            raise ValueError(
                f"{test}: expected labels of the training data, received {new[0]!r}; add such rows to the "
                f"training data, or remove these"
            )
    whole = values.dtype != object and (values == np.round(values)).all()
    if whole and values.min() >= 0 and values.max() < _MOST_WHOLE:
        return [y.astype(np.int32) for y in ys], tuple(str(i) for i in range(int(values.max()) + 1))
    shown = values.tolist() if values.dtype == object else [f"{v:g}" for v in values]
    return [np.searchsorted(values, y).astype(np.int32) for y in ys], tuple(shown)
