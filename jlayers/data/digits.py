"""The 1,797 real handwritten digits that come with scikit-learn: data that needs no download."""

from __future__ import annotations

import numpy as np

from jlayers.data.dataset import Dataset, register
from jlayers.data.split import hold_out

__all__ = ["digits"]


@register
def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Handwritten digits, 8 by 8 pixels, from scikit-learn (the test set of the UCI collection of 1998).

    x is float32 `(samples, 8, 8, 1)` in [0, 1]; y is int32 `(samples,)`, 0 to 9.

    Args:
        test_fraction: the part of each class that is held out.
        seed: seed of the split.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: a fraction outside [0, 1).

    >>> from jlayers.data import digits
    >>> print(digits())
    digits: 1438 for training, 359 held out; x float32(8, 8, 1), y int32(), 10 classes
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            'the dataset "digits" is part of scikit-learn, which is not installed; install it with: '
            'pip install "jlayers[examples]"'
        ) from None
    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 8, 8, 1) / 16.0).astype(np.float32)
    train, test = hold_out(x, labels.astype(np.int32), test_fraction, seed)
    return Dataset("digits", train, test, tuple("0123456789"))
