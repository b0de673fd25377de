"""Folders of images by class, read when a step needs them."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from jlayers.core.errors import refused
from jlayers.data.dataset import Dataset, FilePath, register
from jlayers.data.folders import FileRows, Files, LabelMode, labelled
from jlayers.data.gate import check_at_least, check_choice

__all__ = ["SUFFIXES", "ImageFiles", "ImageForm", "image_dataset_from_directory", "read_image"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
CACHE = 1 << 28
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_FILTERS = {
    "nearest": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "area": "BOX",
    "lanczos3": "LANCZOS",
}

_THREADS = min(8, os.cpu_count() or 1)

ColorMode = Literal["grayscale", "rgb", "rgba"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos3"]


@dataclasses.dataclass(frozen=True)
class ImageForm:
    """The size and the channels of an image once it is read, and the way to resize it.

    Attributes:
        image_size: height and width.
        color_mode: "grayscale", "rgb" or "rgba", for 1, 3 or 4 channels.
        interpolation: between pixels; all but "nearest" smooth what they make smaller.
        crop_to_aspect_ratio: cut off what goes beyond the aspect ratio of `image_size`, at both sides.
        pad_to_aspect_ratio: add black at both sides up to that ratio.

    Raises:
        ValueError: a size below 1, an unknown mode or interpolation, or both cropping and padding.
    """

    image_size: tuple[int, int] = (256, 256)
    color_mode: ColorMode = "rgb"
    interpolation: Interpolation = "bilinear"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False

    def __post_init__(self) -> None:
        check_choice("color_mode", self.color_mode, list(_MODES))
        check_choice("interpolation", self.interpolation, list(_FILTERS))
        size = tuple(self.image_size)
        if len(size) != 2 or not all(isinstance(n, int) and n >= 1 for n in size):
            raise refused(ValueError, "expected a height and a width of at least 1", image_size=size)
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise refused(ValueError, "expected to crop or to pad, received both", pad_to_aspect_ratio=True)
        object.__setattr__(self, "image_size", size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (*self.image_size, _CHANNELS[self.color_mode])


def read_image(path: FilePath, form: ImageForm) -> np.ndarray:
    """An image file as `(height, width, channels)` from 0 to 255: uint8, or float32 for 16 bits.

    A photograph stands as its EXIF orientation says. Transparency is dropped where `color_mode` has none.
    Gray becomes color and color gray as `color_mode` says. A palette becomes its colors. Gray of 16 bits
    becomes fractions in the same range, color of 16 bits loses its lower half. Of several frames the first
    one counts.

    Raises:
        ValueError: not readable as an image, with its path.
        FileNotFoundError: no such file.
        ImportError: Pillow is missing.
    """
    image_module, operations = _pillow()
    try:
        with image_module.open(path, formats=FORMATS) as image:
            upright = operations.exif_transpose(image)
            return _pixels(_in_size(_in_mode(upright, form.color_mode), form), form)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file: Pillow raises whatever it stumbles over
        raise ValueError(
            f"{path}: expected an image ({', '.join(FORMATS)}), received a file that cannot be read as one: "
            f"{error}; repair or remove it"
        ) from None


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError(
            "images are read by Pillow, which is not installed; install it with: "
            "pip install 'jlayers[images]'"
        ) from None
    return Image, ImageOps


def _in_mode(image: Any, color_mode: ColorMode) -> Any:
    """In the channels that are asked for; 16 bits of gray as fractions."""
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        if int(deep.max()) > 0xFFFF or int(deep.min()) < 0:
            raise ValueError("expected at most 16 bits per pixel")
        return _pillow()[0].fromarray(deep.astype(np.float32) / np.float32(257))
    if image.mode == "F":
        raise ValueError("expected whole numbers as pixels, received fractions")
    if "transparency" in image.info and image.mode != "RGBA":
        image = image.convert("RGBA")
    return image.convert(_MODES[color_mode])


def _in_size(image: Any, form: ImageForm) -> Any:
    """In the size that is asked for."""
    height, width = form.image_size
    if image.size == (width, height):
        return image
    method = getattr(_pillow()[0].Resampling, _FILTERS[form.interpolation])
    wide, high = image.size
    if form.crop_to_aspect_ratio:
        w, h = min(wide, high * width / height), min(high, wide * height / width)
        left, top = (wide - w) / 2, (high - h) / 2
        return image.resize((width, height), method, box=(left, top, left + w, top + h))
    if form.pad_to_aspect_ratio:
        scale = min(width / wide, height / high)
        w, h = max(1, round(wide * scale)), max(1, round(high * scale))
        framed = _pillow()[0].new(image.mode, (width, height))
        framed.paste(image.resize((w, h), method), ((width - w) // 2, (height - h) // 2))
        return framed
    return image.resize((width, height), method)


def _pixels(image: Any, form: ImageForm) -> np.ndarray:
    pixels = np.asarray(image)
    if image.mode == "F":  # gray of 16 bits
        made = np.repeat(np.clip(pixels, 0, 255)[..., None], form.shape[2], axis=2)
        made[..., 3:] = 255
        return made
    return pixels.reshape(form.shape)


class ImageFiles(FileRows):
    """Image files as an array `(files, height, width, channels)` that is read when it is needed, in threads.

    Args:
        files: in their order.
        form: what each becomes.
        cache_bytes: for images that stay in memory once they are read, the first ones that come.
    """

    def __init__(self, files: Files, form: ImageForm, cache_bytes: int = CACHE):
        check_at_least("cache_bytes", cache_bytes, 0)
        super().__init__((len(files.names), *form.shape), np.float32)
        self.files, self.form = files, form
        self.left = cache_bytes
        self._kept: dict[int, np.ndarray] = {}

    def read(self, rows: np.ndarray) -> np.ndarray:
        made = np.empty((len(rows), *self.shape[1:]), np.float32)

        def fill(places: np.ndarray) -> None:
            for place in places:
                made[place] = self._image(int(rows[place]))

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="jlayers-images") as threads:
            list(threads.map(fill, np.array_split(np.arange(len(rows)), _THREADS)))
        return made

    def _image(self, row: int) -> np.ndarray:
        image = self._kept.get(row)
        if image is None:
            image = read_image(self.path(row), self.form)
            if image.nbytes <= self.left:
                self.left -= image.nbytes
                self._kept[row] = image
        return image


@register
def image_dataset_from_directory(
    directory: FilePath,
    label_mode: LabelMode = "int",
    class_names: list[str] | None = None,
    color_mode: ColorMode = "rgb",
    image_size: tuple[int, int] = (256, 256),
    interpolation: Interpolation = "bilinear",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    test_directory: FilePath | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    follow_links: bool = False,
    cache_bytes: int = CACHE,
) -> Dataset:
    """Images in a folder with a subfolder for each class; they are read when a step needs them.

    x is float32 `(samples, height, width, channels)` from 0 to 255, as in Keras: begin the model with
    `Rescaling(1 / 255)`. y is the class, in the order of `class_names`. Files end in .png, .jpg, .jpeg, .bmp,
    .gif or .webp; others and hidden ones are left out. `read_image` says how a file becomes an array.

    Unlike in Keras, photographs are rotated by their EXIF orientation, and images that are made smaller
    are smoothed. Batch size, shuffling and validation are arguments of `fit` and of `training` in YAML.

    Args:
        directory: the folder; in YAML, relative to the YAML file.
        label_mode: "int" for int32 `(samples,)`, "categorical" for one-hot rows, "binary" for float32
            `(samples, 1)` of 2 classes.
        class_names: the subfolders to take, in the order of their numbers; all, sorted, if not given.
        color_mode: "grayscale", "rgb" or "rgba", for 1, 3 or 4 channels.
        image_size: height and width.
        interpolation: how images of another size are resized.
        crop_to_aspect_ratio: instead of distorting, cut off at both sides what does not fit the aspect ratio
            of `image_size`.
        pad_to_aspect_ratio: add black at both sides instead of distorting.
        test_directory: a folder of the same classes, held out.
        test_fraction: the part of each class that is held out at random if there is no `test_directory`.
        seed: seed of that split, and of the order of the samples.
        follow_links: whether links to folders are followed.
        cache_bytes: memory for images that stay once they are read, 256 MiB if not given; others are read
            again in each epoch. A pixel of a channel takes a byte.

    Raises:
        ValueError: no folders of classes, or one without images; while reading, a file that is not an image,
            with its path.
        NotADirectoryError: no such folder.
        ImportError: Pillow is missing (`pip install 'jlayers[images]'`).
    """
    form = ImageForm(image_size, color_mode, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio)
    _pillow()
    made = labelled(
        "image_dataset_from_directory",
        lambda files: ImageFiles(files, form, cache_bytes),
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
