"""The mask of a dropout, from as few random bits as the probability needs.

`jax.random.bernoulli` makes a float of 32 random bits for each element, and making them is what a dropout
costs on a CPU. But a probability of 1/2 takes one bit, and 16 say 0.9 to within a hundred-thousandth. So each
random word serves several elements. Microseconds for dropout of float32 on two cores of an x86-64 CPU, the
forms in turns:

| shape | 32 bits | 16 | 8 | 1 |
| --- | ---: | ---: | ---: | ---: |
| (128, 512) | 508 | 331 | 179 | 89 |
| (32, 26, 26, 32) | 2543 | 1696 | 1070 | 366 |
| (16, 128, 512) | 8206 | 4593 | 2149 | 504 |

Other devices take the same form, so that a key gives the same mask everywhere.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from jlayers.ops.platform import by_platform
from jlayers.ops.stored import stored

__all__ = ["bits_for", "keep_mask", "keep_mask_plain"]

Mask = Bool[Array, "..."]

WIDTHS = (1, 2, 4, 8, 16)  # which divide a word of 32 bits
TOLERANCE = 2.0**-10


def bits_for(probability: float) -> int:
    """The fewest bits that say a probability and its opposite to within a thousandth of themselves, or 32.

    >>> [bits_for(p) for p in (0.5, 0.75, 0.9, 0.999)]
    [1, 2, 16, 32]
    """
    rarer = min(probability, 1 - probability)
    errors = {width: abs(round(rarer * 2**width) / 2**width - rarer) for width in WIDTHS}
    return next((width for width, error in errors.items() if error <= TOLERANCE * rarer), 32)


def keep_mask(key: Any, probability: float, shape: tuple[int, ...]) -> Mask:
    """True with a probability strictly between 0 and 1, each element for itself.

    The last axis is made of words that are cut up; the others stay apart, and may be sharded.
    """
    width = bits_for(probability)
    if width == 32 or not shape:
        return keep_mask_plain(key, probability, shape)
    *others, last = shape
    words = jax.random.bits(key, (*others, -(-last * width // 32)), jnp.uint32)
    below = functools.partial(_below, last=last, width=width, most=round(probability * 2**width))
    # Stored, what is dropped is computed by the same loop, and so to the same bits, wherever it stands.
    return by_platform(functools.partial(stored, below), below, words)


def _below(words: jax.Array, last: int, width: int, most: int) -> jax.Array:
    """True for those of the first `last` numbers of `width` bits in the words that are less than `most`."""
    each = 32 // width
    cut = (*words.shape, each)
    shifts = lax.mul(lax.broadcasted_iota(jnp.uint32, cut, words.ndim), lax.full(cut, width, jnp.uint32))
    parts = lax.shift_right_logical(lax.broadcast_in_dim(words, cut, tuple(range(words.ndim))), shifts)
    parts = lax.bitwise_and(parts, lax.full_like(parts, 2**width - 1))
    numbers = lax.reshape(parts, (*words.shape[:-1], words.shape[-1] * each))
    numbers = lax.slice_in_dim(numbers, 0, last, axis=-1)
    return lax.lt(numbers, lax.full_like(numbers, most))


def keep_mask_plain(key: Any, probability: float, shape: tuple[int, ...]) -> Mask:
    """The same of 32 bits for each element."""
    return jax.random.bernoulli(key, probability, shape)
