"""Ends the training without an error when the loss becomes NaN."""

from __future__ import annotations

import warnings

from jlayers.train.callbacks.base import Callback, Run, register

__all__ = ["TerminateOnNaN"]


@register
class TerminateOnNaN(Callback):
    """End the training, without an error, when the loss or a weight becomes NaN or infinite; as in Keras.

    Without this callback `fit` raises a `FloatingPointError`. In either case there is the state of the last
    healthy epoch: here `fit` returns it, with a warning that says what happened. If no epoch was healthy,
    there is nothing to return, and the error is raised.

    Attributes:
        error: what ended the training, or None.

    >>> import jlayers as jl
    >>> jl.callbacks.TerminateOnNaN()
    TerminateOnNaN()
    """

    def __init__(self) -> None:
        self.error: FloatingPointError | None = None

    def on_fit_begin(self, run: Run) -> None:
        self.error = None

    def on_error(self, error: BaseException) -> bool | None:
        if not isinstance(error, FloatingPointError):
            return None
        self.error = error
        warnings.warn(f"the training ended: {error}", RuntimeWarning, stacklevel=2)
        return True
