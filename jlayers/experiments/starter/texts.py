"""Folders of text files by class looked at."""

from __future__ import annotations

import pathlib

import numpy as np

from jlayers.data.folders import by_class
from jlayers.data.texts import SUFFIXES, TextForm, read_text
from jlayers.experiments.starter.lines import Call, Commented, Source, line

__all__ = ["look_at_texts"]

MOST_LOOKED_AT = 300


def look_at_texts(path: pathlib.Path, shown: str, held: tuple[pathlib.Path, str] | None) -> Source:
    """A folder of texts by class as data; see `look_at_pictures`."""
    files, y, names = by_class(path, SUFFIXES)
    chosen = np.unique(np.linspace(0, len(y) - 1, MOST_LOOKED_AT).astype(int))
    words = [len(read_text(files.root / files.names[row], TextForm()).split()) for row in chosen]
    length = int(np.clip(10 * np.ceil(np.quantile(words, 0.9) / 10), 10, 500))
    seen = [
        f"{len(y):,} texts, half of them of {int(np.median(words))} words or more, in a folder for each of "
        f"{len(names)} classes."
    ]
    arguments = {
        "directory": Commented(str(path), "with a folder for each class; relative to this file", shown)
    }
    if held is not None:
        arguments["test_directory"] = Commented(str(held[0]), "held out for the final test", held[1])
    else:
        arguments["test_fraction"] = Commented(
            0.2, "held out for the final test, at random, the same in every run"
        )
        arguments["seed"] = Commented(0, "of that choice")
    preprocess = [
        "x:",
        "  TextVectorization:",
        line("    max_tokens: 10000", "the most frequent words; others count as one"),
        line(f"    output_sequence_length: {length}", "words of a text that are read"),
    ]
    layers = [
        line(
            "- Embedding: {input_dim: 10000, output_dim: 32, mask_zero: true}",
            "a vector for each of the max_tokens words",
        ),
        line("- GlobalAveragePooling1D", "the mean over the words of a text"),
        line("- Dropout: 0.3", "against learning the texts by heart"),
    ]
    return Source(seen, Call("text_dataset_from_directory", arguments), True, preprocess, layers)
