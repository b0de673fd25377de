"""Images as ImageNet's networks expect them, and the names of ImageNet's thousand classes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Num

from jlayers.applications.published import Mode
from jlayers.core.errors import refused
from jlayers.core.spelling import nearest

__all__ = ["class_names", "decode_predictions", "preprocess_input", "preprocessing"]

MEAN = (0.485, 0.456, 0.406)  # of the colors of ImageNet's images, in [0, 1]
DEVIATION = (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red

# By mode: whether red and blue change places, and what is then subtracted and divided by.
_MODES: dict[str, tuple[bool, Any, Any]] = {
    "caffe": (True, _CAFFE_MEAN, 1.0),
    "tf": (False, 127.5, 127.5),
    "torch": (False, tuple(255 * m for m in MEAN), tuple(255 * d for d in DEVIATION)),
    "lite": (False, 127.0, 128.0),
    "none": (False, 0.0, 1.0),
}


def preprocess_input(x: Num[Array, "*batch height width channels"], mode: Mode = "caffe") -> Any:
    """Pixels from 0 to 255 as the networks of a kind were trained on them. As in Keras, with checks.

    The result is new, while Keras may write it over the input, and as wide as the input, at least float32.

    Shapes: one image or a batch, channels last, three of them; kept.

    Args:
        x: pixels, red, green and blue, from 0 to 255: whole numbers, or fractions after resizing.
        mode: "caffe" turns them to blue, green and red and subtracts the mean color; "tf" scales them to -1
            to 1; "torch" scales them to 0 to 1 and normalizes each color; "lite" is `(x - 127) / 128`; "none"
            leaves them as they are, for networks that scale them themselves.

    Raises:
        ValueError: a mode that does not exist, another shape, or values that cannot be pixels from 0 to 255.
            Inside a compiled function values are not looked at.
        TypeError: booleans, complex numbers or what is not an array of numbers.

    >>> import numpy as np, jlayers as jl
    >>> red = np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3)
    >>> jl.applications.preprocess_input(red, mode="tf").ravel().tolist()
    [1.0, -1.0, -1.0]
    """
    if mode not in _MODES:
        raise refused(
            ValueError, f"expected a mode, {nearest(mode, _MODES)}", raised_by="preprocess_input", mode=mode
        )
    x = _checked(x)
    swap, mean, deviation = _MODES[mode]
    xp = jnp if isinstance(x, jax.Array) else np
    x = x[..., ::-1] if swap else x

    def for_each_pixel(values: Any) -> Any:
        return xp.broadcast_to(xp.asarray(values, x.dtype), x.shape)

    return (x - for_each_pixel(mean)) / for_each_pixel(deviation)


def _checked(x: Any) -> Any:
    """The pixels as float32 or wider, if they can be pixels."""
    x = x if isinstance(x, (jax.Array, np.ndarray)) else np.asarray(x)

    def wrong(kind: type[Exception], expected: str, instead: str = "") -> Exception:
        return refused(kind, expected, x, instead=instead, raised_by="preprocess_input")

    if not (jnp.issubdtype(x.dtype, jnp.integer) or jnp.issubdtype(x.dtype, jnp.floating)):
        raise wrong(TypeError, "expected pixels as numbers from 0 to 255")
    if x.ndim not in (3, 4) or x.shape[-1] != 3:
        raise wrong(
            ValueError,
            "expected images (height, width, 3) or a batch of them, red, green and blue",
            instead="repeat a gray channel three times: np.repeat(x, 3, axis=-1)",
        )
    if not isinstance(x, Tracer) and x.size:
        least, most = float(x.min()), float(x.max())
        if not 0 <= least <= most <= 255:
            raise wrong(
                ValueError,
                f"expected pixels from 0 to 255, not values from {least:g} to {most:g}",
                instead="pass the image as it was before any scaling",
            )
        if most <= 1 and not np.array_equal(x, np.round(x)):
            raise wrong(
                ValueError,
                f"expected pixels from 0 to 255, not fractions up to {most:g}",
                instead="multiply images that were scaled to 0 to 1 by 255",
            )
    return x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def preprocessing(mode: Mode) -> Callable[..., Any]:
    """`preprocess_input` for the networks of one family."""

    def of_family(x: Any) -> Any:
        return preprocess_input(x, mode)

    of_family.__name__ = of_family.__qualname__ = "preprocess_input"
    of_family.__doc__ = f"`jl.applications.preprocess_input` with the mode of this family, {mode!r}."
    return of_family


@functools.cache
def class_names() -> tuple[tuple[str, str], ...]:
    """The thousand classes of ImageNet in order: WordNet's id and first word, as Keras gives them.

    >>> import jlayers as jl
    >>> jl.applications.class_names()[281]
    ('n02123045', 'tabby')
    """
    text = files("jlayers.applications").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple((key, name) for key, _, name in (line.partition(" ") for line in text.splitlines()))


def decode_predictions(preds: Float[Array, "batch 1000"], top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The most probable classes of each image as `(id, name, score)`, the best first. As in Keras.

    Args:
        preds: probabilities or logits of ImageNet's thousand classes.
        top: how many classes for each image.

    Raises:
        ValueError: another shape, or `top` that is not a number from 1 to 1000.

    >>> import numpy as np, jlayers as jl
    >>> jl.applications.decode_predictions(np.eye(1000, dtype=np.float32)[[281]], top=1)
    [[('n02123045', 'tabby', 1.0)]]
    """
    scores = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise refused(
            ValueError,
            "expected scores (batch, 1000)",
            preds,
            instead="a model with other classes has its own list of names",
            raised_by="decode_predictions",
        )
    if not isinstance(top, int) or not 1 <= top <= 1000:
        raise refused(ValueError, "expected top from 1 to 1000", raised_by="decode_predictions", top=top)
    names = class_names()
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*names[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]
