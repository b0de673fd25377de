"""Folders of text files by class, read when a step needs them."""

from __future__ import annotations

import codecs
import dataclasses

import numpy as np

from jlayers.core.errors import refused
from jlayers.data.dataset import Dataset, FilePath, register
from jlayers.data.folders import FileRows, Files, LabelMode, labelled
from jlayers.data.reading import open_file

__all__ = ["SUFFIXES", "TextFiles", "TextForm", "read_text", "text_dataset_from_directory"]

SUFFIXES = (".txt",)
MOST = 1 << 26  # bytes of one text


@dataclasses.dataclass(frozen=True)
class TextForm:
    """The rules by which text files are read.

    Attributes:
        max_length: characters that are kept of a text; all if None.
        encoding: encoding of the files.

    Raises:
        ValueError: an encoding that Python does not know, or a length below 1.
    """

    max_length: int | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise refused(ValueError, "expected at least 1 character", max_length=self.max_length)
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise refused(
                ValueError, "expected an encoding that Python knows", encoding=self.encoding
            ) from None


def read_text(path: FilePath, form: TextForm) -> str:
    """The text of a file.

    Raises:
        ValueError: bytes that the encoding does not fit, or a file of more than 64 MiB, with its path.
        FileNotFoundError: no such file.
    """
    with open_file(path, MOST) as file:
        raw = file.read()
    try:
        return raw.decode(form.encoding)[: form.max_length]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text in {form.encoding}, received bytes that are something else "
            f"({error.reason} at byte {error.start}); name the encoding, such as encoding='latin-1', or save "
            f"the file as UTF-8"
        ) from None


class TextFiles(FileRows):
    """Text files as an array of texts `(files,)` that is read when it is needed."""

    def __init__(self, files: Files, form: TextForm):
        super().__init__((len(files.names),), object)
        self.files, self.form = files, form

    def read(self, rows: np.ndarray) -> np.ndarray:
        made = np.empty(len(rows), object)
        made[:] = [read_text(self.path(row), self.form) for row in rows]
        return made


@register
def text_dataset_from_directory(
    directory: FilePath,
    label_mode: LabelMode = "int",
    class_names: list[str] | None = None,
    max_length: int | None = None,
    encoding: str = "utf-8",
    test_directory: FilePath | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    follow_links: bool = False,
) -> Dataset:
    """Text files (.txt) in a folder with a subfolder for each class; they are read when a step needs them.

    x is text `(samples,)`, which `preprocess` in YAML, or `jl.data.transform`, makes into numbers. y is the
    class, in the order of `class_names`.

    Args:
        directory: the folder; in YAML, relative to the YAML file.
        label_mode: "int" for int32 `(samples,)`, "categorical" for one-hot rows, "binary" for float32
            `(samples, 1)` of 2 classes.
        class_names: the subfolders to take, in the order of their numbers; all, sorted, if not given.
        max_length: characters that are kept of a text; all if not given.
        encoding: encoding of the files.
        test_directory: a folder of the same classes, held out.
        test_fraction: the part of each class that is held out at random if there is no `test_directory`.
        seed: seed of that split, and of the order of the samples.
        follow_links: whether links to folders are followed.

    Raises:
        ValueError: no folders of classes, or one without texts; while reading, bytes that are not text, with
            the path of the file.
        NotADirectoryError: no such folder.
    """
    form = TextForm(max_length, encoding)
    made = labelled(
        "text_dataset_from_directory",
        lambda files: TextFiles(files, form),
        directory,
        SUFFIXES,
        label_mode=label_mode,
        class_names=class_names,
        test_directory=test_directory,
        test_fraction=test_fraction,
        seed=seed,
        follow_links=follow_links,
    )
    return dataclasses.replace(made, form=form)
