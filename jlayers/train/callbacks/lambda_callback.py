"""Functions of the user's own at any event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jlayers.core.errors import refused
from jlayers.train.callbacks._steps import steps_between
from jlayers.train.callbacks.base import Callback, register

__all__ = ["LambdaCallback"]

_Function = Callable[..., Any]


@register
class LambdaCallback(Callback):
    """Call functions at events, with the arguments that the methods of `jl.Callback` have.

    Args:
        on_fit_begin: `f(run)`.
        on_epoch_begin: `f(epoch)`.
        on_step: `f(step, logs, state)`, after each `every` steps.
        on_validation_end: `f(epoch, logs, state)`.
        on_epoch_end: `f(epoch, logs, state)`.
        on_fit_end: `f(state)`.
        every: steps between two calls of `on_step`; 1 if not given.
        changes_rate: a function may return a `jl.callbacks.Change` of the learning rate.

    Raises:
        TypeError: something that is not a function.
        ValueError: `every` below 1, or without `on_step`.

    >>> import numpy as np, jlayers as jl
    >>> x, seen = np.ones((8, 2), np.float32), []
    >>> callback = jl.callbacks.LambdaCallback(on_step=lambda step, logs, state: seen.append(step), every=2)
    >>> trainer = jl.compile(jl.Dense(1), loss="mse")
    >>> _ = jl.fit(trainer, x, x[:, :1], batch_size=1, callbacks=[callback])
    >>> seen
    [2, 4, 6, 8]
    """

    def __init__(
        self,
        on_fit_begin: _Function | None = None,
        on_epoch_begin: _Function | None = None,
        on_step: _Function | None = None,
        on_validation_end: _Function | None = None,
        on_epoch_end: _Function | None = None,
        on_fit_end: _Function | None = None,
        every: int | None = None,
        changes_rate: bool = False,
    ):
        given = {
            "on_fit_begin": on_fit_begin,
            "on_epoch_begin": on_epoch_begin,
            "on_step": on_step,
            "on_validation_end": on_validation_end,
            "on_epoch_end": on_epoch_end,
            "on_fit_end": on_fit_end,
        }
        for event, function in given.items():
            if function is None:
                continue
            if not callable(function):
                raise refused(TypeError, "expected a function", **{event: function})
            setattr(self, event, function)
        if every is not None and on_step is None:
            raise refused(ValueError, "expected on_step beside every", every=every)
        self.every = steps_between(every) or (1 if on_step else None)
        self.changes_rate = changes_rate
