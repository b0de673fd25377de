"""`Dataset`: arrays for training and arrays held out, as every source of data returns them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np

from jlayers.core.registry import Kind, Registry
from jlayers.core.shapes import describe
from jlayers.data.lazy import is_lazy

__all__ = [
    "Dataset",
    "DatasetLike",
    "FilePath",
    "Table",
    "as_bytes",
    "check_rows",
    "fingerprint",
    "get",
    "register",
    "registry",
]

registry = Registry("dataset")
get = registry.get

FilePath = str | os.PathLike[str]


def register(loader: Any) -> Any:
    """Enter a function that returns a `Dataset` under its own name; its arguments are what YAML may give.

    >>> import numpy as np
    >>> from jlayers.data import Dataset, register, registry
    >>> @register
    ... def ramp(rows: int = 4) -> Dataset:
    ...     x = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    ...     return Dataset("ramp", (x, 2 * x))
    >>> registry.build("ramp", {"rows": 3}).train[0].shape
    (3, 1)
    """
    registry.register(loader.__name__, loader)
    return loader


@dataclasses.dataclass(frozen=True)
class Table:
    """The layout of a CSV file, by which further files are read in the same way.

    Attributes:
        names: names of the columns of x, in their order.
        places: places of these columns in the file, counted from 0.
        targets: the names of the columns of y.
        text: the columns of x that are text.
        width: the number of columns of the file.
        header: whether its first line holds names.
        delimiter: between cells.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    targets: tuple[str, ...]
    text: tuple[str, ...]
    width: int
    header: bool
    delimiter: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Table:
        """The same from plain data, in which tuples are lists."""
        tuples = {name: tuple(facts[name]) for name in ("names", "places", "targets", "text")}
        return cls(**{**facts, **tuples})


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Inputs and targets for training, and the same held out for the final test.

    Attributes:
        name: for people.
        train: `(x, y)`; x is an array with the samples along its first axis, or a dict of such arrays for
            a model of several inputs. It may be a `LazyArray`, which is read when a step needs it.
        test: as `train`, or None if nothing is held out.
        class_names: what the labels 0, 1, ... stand for, if y holds labels.
        table: the columns of a CSV file that x and y were read from, or None.
        form: how the files of a folder become x, by which further files are read in the same way; or None.

    Raises:
        ValueError: no samples, or x and y differ in their number of samples.

    >>> import numpy as np
    >>> from jlayers.data import Dataset
    >>> print(Dataset("toy", (np.zeros((6, 2), np.float32), np.array([0, 1, 2, 0, 1, 2]))))
    toy: 6 for training, none held out; x float32(2,), y int64(), 3 classes
    """

    name: str
    train: tuple[Any, Any]
    test: tuple[Any, Any] | None = None
    class_names: tuple[str, ...] | None = None
    table: Table | None = None
    form: Any = None

    def __post_init__(self) -> None:
        for part, pair in (("train", self.train), ("test", self.test)):
            if pair is not None:
                check_rows(pair, f"{self.name}, {part}")

    @property
    def features(self) -> Any:
        """The shape and dtype of one batch row: x as `jax.ShapeDtypeStruct`s with a batch of 1."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), self.train[0])

    @property
    def classes(self) -> int | None:
        """The number of classes, if y holds labels (whole numbers, one for each sample), else None."""
        if self.class_names is not None:
            return len(self.class_names)
        y = self.train[1]
        if isinstance(y, Mapping) or y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            return None
        return int(y.max()) + 1

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of samples for training and held out."""
        return _rows(self.train[1]), 0 if self.test is None else _rows(self.test[1])

    def fingerprint(self) -> str:
        """A SHA-256 over names, shapes, dtypes and bytes of all arrays: equal data, equal fingerprint."""
        return fingerprint((self.train, self.test))

    def __str__(self) -> str:
        train, test = self.sizes
        x, y = (jax.tree.map(lambda a: np.empty(a.shape[1:], a.dtype), part) for part in self.train)
        classes = f", {self.classes} classes" if self.classes is not None else ""
        held_out = f"{test} held out" if test else "none held out"
        return f"{self.name}: {train} for training, {held_out}; x {describe(x)}, y {describe(y)}{classes}"


def fingerprint(tree: Any) -> str:
    """A SHA-256 over names, shapes, dtypes and bytes of all arrays of a pytree; lazy ones have their own."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        if is_lazy(leaf):
            digest.update(f"{jax.tree_util.keystr(path)} {leaf!r} {leaf.fingerprint()}".encode())
            continue
        leaf = as_bytes(np.ascontiguousarray(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype.str} {leaf.shape}".encode())
        digest.update(leaf.reshape(-1).view(np.uint8).data)  # bfloat16 is no buffer itself
    return digest.hexdigest()


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Texts in UTF-8 with their lengths, other arrays as they are."""
    if array.dtype != object:
        return array
    texts = [text.encode() for text in array.ravel().tolist()]
    return np.frombuffer(b"".join(b"%d:%b" % (len(text), text) for text in texts), np.uint8)


def _rows(tree: Any) -> int:
    return int(jax.tree.leaves(tree)[0].shape[0])


def check_rows(pair: tuple[Any, Any], where: str) -> None:
    """Refuse arrays whose first axes differ, or that have none.

    Raises:
        ValueError: with all the shapes; also for arrays without any sample.
    """
    leaves = jax.tree.leaves(pair)
    if any(leaf.ndim == 0 for leaf in leaves) or len({leaf.shape[0] for leaf in leaves}) != 1:
        raise ValueError(
            f"{where}: expected x and y with the same number of samples along the first axis, received "
            f"x={describe(pair[0])}, y={describe(pair[1])}"
        )
    if leaves[0].shape[0] == 0:
        raise ValueError(f"{where}: expected at least one sample, received x={describe(pair[0])}")


DatasetLike = Annotated[Dataset | str | Mapping[str, Any], Kind("dataset")]
