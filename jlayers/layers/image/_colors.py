"""Numerics that change the colors of one image."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.layers.image._images import Image

__all__ = ["blend", "contrast", "equalize", "gray", "hsv", "rgb", "smooth", "stretch", "to_range"]


def to_range(image: Any, old: tuple[float, float], new: tuple[float, float]) -> Any:
    """Values of the range `old` in the range `new`."""
    if tuple(old) == tuple(new):
        return image
    return (image - old[0]) / (old[1] - old[0]) * (new[1] - new[0]) + new[0]


def blend(image: Image, other: Image, factor: Any, limits: tuple[float, float]) -> Image:
    """A mix of `image` (factor 0) and `other` (factor 1), or beyond, clipped."""
    return jnp.clip(image + factor * (other - image), *limits)


def contrast(image: Image, factor: Any, limits: tuple[float, float]) -> Image:
    """The distances to each channel's mean times `factor`, clipped."""
    return blend(jnp.mean(image, axis=(0, 1), keepdims=True), image, factor, limits)


def gray(image: Image) -> Image:
    """The luma of red, green and blue (ITU-R BT.601) in one channel; one channel stays."""
    if image.shape[-1] == 1:
        return image
    weights = jnp.asarray([0.2989, 0.587, 0.114], image.dtype)
    return jnp.sum(image * weights[None, None, :], axis=-1, keepdims=True)


def smooth(image: Image) -> Image:
    """Each pixel with its eight neighbors, itself weighing five times; the border is repeated outwards.

    Keras puts zeros around, which draws a frame.
    """
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return (sum(around, start=4 * image)) / 13


def hsv(image: Image) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hue, saturation and value, each in [0, 1], of red, green and blue in [0, 1]."""
    red, green, blue = (image[..., i] for i in range(3))
    # Compared in pairs: once fused with what makes the image, a maximum may equal none of the three.
    value = jnp.maximum(jnp.maximum(red, green), blue)
    spread = value - jnp.minimum(jnp.minimum(red, green), blue)
    least = jnp.finfo(image.dtype).eps  # below, the squares in the gradients of the quotients vanish
    safe = jnp.where(spread > least, spread, 1)
    sixths = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / safe,
        jnp.where(green >= blue, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = jnp.where(spread > least, jnp.mod(sixths / 6, 1), 0)
    return hue, jnp.where(value > least, spread / jnp.where(value > least, value, 1), 0), value


def rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> Image:
    """The inverse of `hsv`; a hue counts modulo 1."""
    sixths = jnp.mod(hue, 1) * 6
    pure = (jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4))
    return jnp.stack([value * (1 - saturation * (1 - jnp.clip(p, 0, 1))) for p in pure], axis=-1)


def stretch(image: Image, limits: tuple[float, float]) -> Image:
    """Each channel from its own lowest and highest value to those of the range; flat channels stay."""
    low = jnp.min(image, axis=(0, 1), keepdims=True)
    spread = jnp.max(image, axis=(0, 1), keepdims=True) - low
    full = (image - low) / jnp.where(spread > 0, spread, 1) * (limits[1] - limits[0]) + limits[0]
    return jnp.where(spread > 0, full, image)


def equalize(image: Image, bins: int) -> Image:
    """Each channel, in 0 to 255, by its own distribution function, so that all values are as frequent."""

    def channel(plane: jax.Array) -> jax.Array:
        places = jnp.clip(plane * ((bins - 1) / 255), 0, bins - 1).astype(jnp.int32)
        below = jnp.cumsum(jnp.zeros(bins, jnp.int32).at[places].add(1))
        lowest = below[jnp.min(places)]
        rest = below[-1] - lowest
        table = jnp.round(
            (below - lowest).astype(plane.dtype) * 255 / jnp.maximum(rest, 1).astype(plane.dtype)
        )
        return jnp.where(rest > 0, jnp.clip(table, 0, 255)[places], plane)

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def equalize_tiles(image: Image, grid: tuple[int, int], clip_limit: float) -> Image:
    """Each channel, in 0 to 255, by the distribution functions of the tiles around a pixel."""
    height, width, _ = image.shape
    sides = (-(-height // grid[0]), -(-width // grid[1]))
    ends = [(0, tiles * side - size) for tiles, side, size in zip(grid, sides, (height, width), strict=True)]
    whole = jnp.pad(image, [*ends, (0, 0)], mode="symmetric")
    values = jnp.clip(whole, 0, 255).astype(jnp.int32)
    area = sides[0] * sides[1]

    def table(values: jax.Array) -> jax.Array:
        histogram = jnp.zeros(256, image.dtype).at[values].add(1)
        if clip_limit > 0:
            clipped = jnp.minimum(histogram, clip_limit * area / 256)
            histogram = clipped + jnp.sum(histogram - clipped) / 256
        below = jnp.cumsum(histogram)
        rest = area - below[0]
        return jnp.clip((below - below[0]) * 255 / jnp.where(rest == 0, 1, rest), 0, 255)

    def channel(plane: jax.Array) -> jax.Array:
        tiles = plane.reshape(grid[0], sides[0], grid[1], sides[1]).swapaxes(1, 2)
        tables = jax.vmap(jax.vmap(table))(tiles.reshape(*grid, area))
        (above, down), (before, across) = (
            _tiles_and_shares(n, side, image.dtype) for n, side in zip(grid, sides, strict=True)
        )
        down, across = down[:, None], across[None, :]

        def at(row: jax.Array, column: jax.Array) -> jax.Array:
            rows, columns = (jnp.clip(at, 0, n - 1) for at, n in zip((row, column), grid, strict=True))
            return tables[rows[:, None], columns[None, :], plane]

        upper = (1 - across) * at(above, before) + across * at(above, before + 1)
        lower = (1 - across) * at(above + 1, before) + across * at(above + 1, before + 1)
        return (1 - down) * upper + down * lower

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(values)[:height, :width]


def _tiles_and_shares(tiles: int, side: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """For each place along an axis the tile whose middle lies before it, and how far on it is to the next."""
    places = (jnp.arange(tiles * side, dtype=dtype) - side / 2) / side
    before = jnp.floor(places)
    return before.astype(jnp.int32), places - before
