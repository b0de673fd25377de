"""Samples kept apart from those that are trained on: a random share, or the last ones."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.data.lazy import take_rows

__all__ = ["hold_out", "last_share"]


def hold_out(
    x: Any, y: Any, fraction: float, seed: int, name: str = "test_fraction"
) -> tuple[tuple[Any, Any], tuple[Any, Any] | None]:
    """Split off a share of the samples at random; with labels, the same share of each class.

    The same seed gives the same split. Within both parts the samples keep their order.

    Args:
        x: array or tree of arrays.
        y: targets; a 1-D array of whole numbers counts as labels.
        fraction: 0.0 holds out nothing.
        seed: for the draw.
        name: name of the fraction in messages.

    Raises:
        ValueError: the fraction is not in [0, 1), or one of the two parts would be empty.

    >>> import numpy as np
    >>> y = np.array([0] * 8 + [1] * 4)
    >>> (x_train, y_train), (x_test, y_test) = hold_out(y, y, 0.25, seed=0)
    >>> y_test.tolist()
    [0, 0, 1]
    """
    _check_share(fraction, name)
    if fraction == 0.0:
        return (x, y), None
    rows = _rows(y)
    labels = isinstance(y, np.ndarray) and y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
    groups = [np.flatnonzero(y == label) for label in np.unique(y)] if labels else [np.arange(rows)]
    draw = np.random.default_rng(seed).random(rows)
    held = np.zeros(rows, bool)
    for group in groups:
        count = min(round(fraction * len(group)), len(group) - 1)  # a class keeps one to train on
        first = np.argsort(draw[group], kind="stable")[:count]
        held[group[first]] = True
    _check_parts(rows, int(held.sum()), fraction, name)
    return (_take(x, ~held), _take(y, ~held)), (_take(x, held), _take(y, held))


def last_share(parts: Any, share: float, name: str = "validation_split") -> tuple[Any, Any]:
    """Split off the last share of the samples, as Keras does; the parts keep their structure.

    Args:
        parts: a tree of arrays, samples first; None stays None.
        share: above 0.0.
        name: the share's name in messages.

    Raises:
        ValueError: the share is not in [0, 1), or one of the two parts would be empty.

    >>> import numpy as np
    >>> (first, _), (last, _) = last_share((np.arange(5), None), 0.4)
    >>> first.tolist(), last.tolist()
    ([0, 1, 2], [3, 4])
    """
    _check_share(share, name)
    rows = _rows(parts)
    kept = int(rows * (1.0 - share))
    _check_parts(rows, rows - kept, share, name)
    return _take(parts, slice(kept)), _take(parts, slice(kept, None))


def _check_share(share: Any, name: str) -> None:
    number = isinstance(share, (int, float, np.number)) and not isinstance(share, bool)
    if not number or not 0.0 <= share < 1.0:
        raise refused(ValueError, "expected a share of the samples in [0, 1)", **{name: share})


def _check_parts(rows: int, held: int, share: float, name: str) -> None:
    if not 0 < held < rows:
        error = ValueError(
            f"expected a share that leaves samples on both sides, received {name}={share!r} of {rows} "
            f"samples: {rows - held} to train on and {held} held out"
        )
        raise about(error, **{name: share})


def _rows(tree: Any) -> int:
    return int(jax.tree.leaves(tree)[0].shape[0])


def _take(tree: Any, rows: Any) -> Any:
    """The given rows of every array of a tree."""
    return jax.tree.map(lambda leaf: take_rows(leaf, rows), tree)
