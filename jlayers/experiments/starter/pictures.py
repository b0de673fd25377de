"""Folders of pictures looked at, and a small convolutional network for pictures of a size."""

from __future__ import annotations

import math
import pathlib

import numpy as np

from jlayers.data.folders import by_class
from jlayers.data.images import SUFFIXES, ImageForm, read_image
from jlayers.experiments.starter.lines import Call, Commented, Source, line

__all__ = ["convolutions", "look_at_pictures"]

MOST_LOOKED_AT = 100
MOST_PIXELS = 128  # along a side, of pictures that differ in size


def convolutions(height: int, width: int) -> list[str]:
    """Layers that end in one vector for each picture."""
    side = min(height, width)
    pools = min(4, int(math.log2(side / 4))) if side >= 8 else 0
    lines: list[str] = []
    for i in range(max(2, pools)):
        filters = min(128, 32 * 2**i)
        patterns = ("finds patterns of 3 by 3 pixels", "finds patterns of patterns")[i] if i < 2 else ""
        lines.append(
            line(
                f"- Conv2D: {{filters: {filters}, kernel_size: 3, padding: same, activation: relu}}", patterns
            )
        )
        why = "" if i else "keeps values in a range, so that it learns faster"
        lines.append(line("- BatchNormalization: {momentum: 0.9}", why))
        if i < pools:
            lines.append(line("- MaxPooling2D", "" if i else "half the height and width"))
    if side <= 32:
        lines.append(line("- Flatten", "all numbers of a picture in one row"))
    else:
        lines.append(line("- GlobalAveragePooling2D", "the mean over all places of a picture"))
    return [*lines, line("- Dropout: 0.3", "against learning the pictures by heart")]


def look_at_pictures(path: pathlib.Path, shown: str, held: tuple[pathlib.Path, str] | None) -> Source:
    """A folder of pictures by class as data.

    Args:
        path: path of the folder.
        shown: how the file names it.
        held: the same of a folder of pictures that are held out.

    Raises:
        ValueError: no folders of classes, or a file that is not a picture.
    """
    files, y, names = by_class(path, SUFFIXES)
    chosen = np.unique(np.linspace(0, len(y) - 1, MOST_LOOKED_AT).astype(int))
    sizes: list[tuple[int, int]] = []
    gray = True
    for row in chosen:
        file = files.root / files.names[row]
        size, plain = _looked_at(file)
        sizes.append(size)
        gray = gray and plain
    height, width = _common(sizes)
    same = len(set(sizes)) == 1
    kinds = f"of {sizes[0][0]} by {sizes[0][1]} pixels" if same else "of several sizes"
    seen = [
        f"{len(y):,} {'gray' if gray else 'color'} pictures {kinds}, in a folder for each of {len(names)} "
        f"classes."
    ]
    arguments = {
        "directory": Commented(str(path), "with a folder for each class; relative to this file", shown),
        "image_size": Commented(
            [height, width], "height and width" + ("" if same else "; pictures are resized to it")
        ),
        "color_mode": Commented("grayscale" if gray else "rgb", "1 channel" if gray else "3 channels"),
    }
    if held is not None:
        arguments["test_directory"] = Commented(str(held[0]), "held out for the final test", held[1])
    else:
        arguments["test_fraction"] = Commented(
            0.2, "held out for the final test, at random, the same in every run"
        )
        arguments["seed"] = Commented(0, "of that choice")
    layers = [line(f"- Rescaling: {{scale: {1 / 255}}}", "pixels from 0..255 to 0..1")]
    if not gray:
        layers.append("# - RandomFlip: {mode: horizontal} # for pictures that may be seen in a mirror")
    call = Call("image_dataset_from_directory", arguments)
    return Source(seen, call, True, [], [*layers, *convolutions(height, width)])


def _looked_at(file: pathlib.Path) -> tuple[tuple[int, int], bool]:
    """Height and width as the picture stands, and whether it has no color."""
    from PIL import Image, ImageOps

    read_image(file, ImageForm((8, 8)))  # tells what is wrong with it
    with Image.open(file) as image:
        width, height = ImageOps.exif_transpose(image).size
        if image.mode in ("1", "L", "I", "I;16"):
            return (height, width), True
        small = np.asarray(image.convert("RGB").resize((16, 16)), int)
    return (height, width), bool((small.max(-1) - small.min(-1)).max() <= 4)


def _common(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """A size for all: their own if it is one, else the middle one, made smaller if it is large."""
    if len(set(sizes)) == 1 and max(sizes[0]) <= 2 * MOST_PIXELS:
        return sizes[0]
    height, width = (sorted(side)[len(sizes) // 2] for side in zip(*sizes, strict=True))
    scale = min(1.0, MOST_PIXELS / max(height, width))
    return tuple(max(8, 8 * round(side * scale / 8)) for side in (height, width))  # type: ignore[return-value]
