"""Folders whose subfolders are classes: their files in a fixed order, with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jlayers.core.errors import about, concerning, refused
from jlayers.core.spelling import nearest
from jlayers.data.dataset import Dataset
from jlayers.data.digest import digest_of
from jlayers.data.gate import check_choice
from jlayers.data.lazy import LazyArray
from jlayers.data.split import hold_out

__all__ = ["FileRows", "Files", "LabelMode", "by_class", "files_in", "labelled", "list_classes"]

LabelMode = Literal["int", "categorical", "binary"]


class Files(NamedTuple):
    """Files of a folder, as paths relative to it, with their sizes in bytes."""

    root: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def files_in(root: str | os.PathLike[str], suffixes: Sequence[str], follow_links: bool = False) -> Files:
    """All files in and below a folder that end in one of the suffixes, in the order of their paths.

    What is hidden, by a name that begins with a dot, is left out, and so are links to folders unless
    `follow_links`.

    Raises:
        NotADirectoryError: no folder.
        ValueError: a file without content.
    """
    root = Path(root)
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root}: expected a folder, received {'a file' if root.exists() else 'nothing'}"
        )
    found: dict[str, int] = {}
    for folder, folders, names in os.walk(root, followlinks=follow_links):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or not name.lower().endswith(tuple(suffixes)):
                continue
            path = Path(folder, name)
            size = path.stat().st_size
            if not size:
                raise ValueError(f"{path}: expected a file with content, received an empty one; remove it")
            found[path.relative_to(root).as_posix()] = size
    names = sorted(found)
    return Files(root, tuple(names), tuple(found[name] for name in names))


def list_classes(root: str | os.PathLike[str], follow_links: bool = False) -> tuple[str, ...]:
    """The names of the subfolders, sorted; hidden ones are left out."""
    with os.scandir(root) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=True)]
    return tuple(sorted(name for name in names if follow_links or not Path(root, name).is_symlink()))


def by_class(
    directory: str | os.PathLike[str],
    suffixes: Sequence[str],
    class_names: Sequence[str] | None = None,
    follow_links: bool = False,
    raised_by: str = "",
) -> tuple[Files, np.ndarray, tuple[str, ...]]:
    """The files of the folder of each class, their classes, int32 `(files,)`, and the names of the classes.

    Args:
        directory: whose subfolders are the classes.
        suffixes: suffixes of the files that count, in small letters.
        class_names: the subfolders to take, in the order of their numbers; all, sorted, if not given.
        follow_links: whether links to folders are followed.
        raised_by: who asks, for messages.

    Raises:
        ValueError: no subfolders, a class that is not there, or one without files.
        NotADirectoryError: no folder.
    """
    root = Path(directory)
    if not root.is_dir():
        files_in(root, suffixes)
    there = list_classes(root, follow_links)
    kinds = ", ".join(suffixes)
    if not there:
        raise ValueError(
            f"{root}: expected a folder for each class, with files {kinds} in it, received no folders"
        )
    names = there if class_names is None else tuple(class_names)
    if len(set(names)) != len(names) or not names:
        raise refused(ValueError, "expected names that differ", raised_by=raised_by, class_names=list(names))
    if missing := [name for name in names if name not in there]:
        error = ValueError(f"{root} has no folder for the class {missing[0]!r}: {nearest(missing[0], there)}")
        raise about(error, names.index(missing[0]), class_names=class_names)
    paths: list[str] = []
    sizes: list[int] = []
    labels: list[np.ndarray] = []
    for number, name in enumerate(names):
        files = files_in(root / name, suffixes, follow_links)
        if not files.names:
            raise ValueError(
                f"{root / name}: expected files {kinds} of the class {name!r}, received none; remove the "
                f"folder, or name the folders that are classes in class_names"
            )
        paths += [f"{name}/{file}" for file in files.names]
        sizes += files.sizes
        labels.append(np.full(len(files.names), number, np.int32))
    return Files(root, tuple(paths), tuple(sizes)), np.concatenate(labels), names


class FileRows(LazyArray):
    """Rows that are one file each."""

    files: Files

    def path(self, row: int) -> Path:
        return self.files.root / self.files.names[row]

    def origin(self, row: int) -> str | None:
        return self.files.names[row]

    def fingerprint(self) -> str:
        """A hash of the names and sizes of all files, and of their content as `digest_of` says."""
        return digest_of([self.path(row) for row in range(len(self))], self.files.names)


def labelled(
    name: str,
    make: Any,
    directory: str | os.PathLike[str],
    suffixes: Sequence[str],
    *,
    label_mode: LabelMode,
    class_names: Sequence[str] | None,
    test_directory: str | os.PathLike[str] | None,
    test_fraction: float,
    seed: int,
    follow_links: bool,
) -> Dataset:
    """A dataset of a folder: rows that `make` makes of its files, ordered by the seed, and their labels."""
    check_choice("label_mode", label_mode, ("int", "categorical", "binary"))
    if test_directory is not None and test_fraction:
        raise refused(
            ValueError,
            "expected a test_directory or a test_fraction, received both",
            raised_by=name,
            test_fraction=test_fraction,
        )
    with concerning(directory=directory):
        files, y, names = by_class(directory, suffixes, class_names, follow_links, name)
    if label_mode == "binary" and len(names) != 2:
        raise refused(
            ValueError, f"expected 2 classes, received {len(names)}", raised_by=name, label_mode=label_mode
        )
    rows = np.random.default_rng(seed).permutation(len(y))  # so that the last share is one of all classes
    train, test = hold_out(make(files).select(rows), y[rows], test_fraction, seed)
    if test_directory is not None:
        with concerning(test_directory=test_directory):
            files, y, _ = by_class(test_directory, suffixes, names, follow_links, name)
        test = make(files), y

    def targets(pair: Any) -> Any:
        return None if pair is None else (pair[0], _targets(pair[1], label_mode, len(names)))

    return Dataset(Path(directory).name or name, targets(train), targets(test), names)


def _targets(y: np.ndarray, mode: LabelMode, classes: int) -> np.ndarray:
    if mode == "int":
        return y
    return y[:, None].astype(np.float32) if mode == "binary" else np.eye(classes, dtype=np.float32)[y]
