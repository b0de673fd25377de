"""A sample as people can look at it: an image, a text, or values by the names of their columns."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.data.lazy import is_lazy
from jlayers.experiments.outcomes.kinds import Shown

__all__ = ["file_of", "shown"]

_TEXT = 300  # characters
_VALUES = 16
_PIXELS = 128  # of the longer side of an image that is kept


def shown(x: Any, row: int, columns: Sequence[str] = ()) -> list[Shown]:
    """The inputs of one sample.

    Args:
        x: an array with the samples first, or a dict of such, as they were before preprocessing.
        row: the number of the sample.
        columns: the names of the values of a table.
    """
    if isinstance(x, Mapping):
        sample = {name: np.asarray(array[row]) for name, array in x.items()}
        words = {name: value for name, value in sample.items() if _is_word(value)}
        rest = [one for name in sample if name not in words for one in _shown(name, sample[name], ())]
        values = [(name, _short_text(value)) for name, value in words.items()]
        return [*([Shown("values", values=values[:_VALUES])] if values else []), *rest]
    return _shown("", x[row], columns)


def file_of(x: Any, row: int) -> str | None:
    """The file that a sample was read from, if each has one."""
    return x.origin(row) if is_lazy(x) else None


def _shown(name: str, value: Any, columns: Sequence[str]) -> list[Shown]:
    value = np.asarray(value)
    if value.dtype == object or value.dtype.kind in "US":
        return [Shown("text", name, text=_cut_text(" | ".join(map(str, value.ravel().tolist()))))]
    if _is_image(value) and (image := _png(value)):
        return [Shown("image", name, image=image)]
    flat = value.ravel()
    names = columns if len(columns) == len(flat) else [""] * len(flat)
    values = [(n, _short_text(v)) for n, v in zip(names, flat[:_VALUES], strict=False)]
    if len(flat) > _VALUES:
        values.append(("", f"and {len(flat) - _VALUES} more"))
    return [Shown("values", name, values=values)]


def _is_word(value: np.ndarray) -> bool:
    """True for a single number, or a text of one word, such as a category."""
    return value.ndim == 0 and not (isinstance(value.item(), str) and " " in value.item())


def _is_image(value: np.ndarray) -> bool:
    """True for two axes, or three with one, three or four channels."""
    return (
        value.ndim in (2, 3) and min(value.shape[:2]) > 3 and (value.ndim == 2 or value.shape[2] in (1, 3, 4))
    )


def _png(value: np.ndarray) -> str:
    """The image in base64; fractions from 0 to 1 are shades, others are stretched between their ends."""
    try:
        from PIL import Image
    except ImportError:
        return ""
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[..., 0]
    if value.dtype != np.uint8:
        value = np.nan_to_num(value.astype(np.float32))
        low, high = float(value.min()), float(value.max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low >= 0 and 1 < high <= 255 and high > 16:
            low, high = 0.0, 255.0
        value = np.round(255 * np.clip((value - low) / ((high - low) or 1.0), 0, 1)).astype(np.uint8)
    image = Image.fromarray(value)
    if max(image.size) > _PIXELS:
        image.thumbnail((_PIXELS, _PIXELS))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _short_text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return f"{value:.4g}" if isinstance(value, float) else _cut_text(str(value))


def _cut_text(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
