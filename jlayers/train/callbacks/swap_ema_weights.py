"""The averaged weights in place of the last ones."""

from __future__ import annotations

from jlayers.core.errors import refused
from jlayers.train.callbacks.base import Callback, Run, register
from jlayers.train.state import TrainState

__all__ = ["SwapEMAWeights"]


@register
class SwapEMAWeights(Callback):
    """Return and save the moving average of the weights, which `jl.compile(..., ema=...)` keeps.

    `fit` returns a state with the averaged weights as its parameters; a run saves them, too, after each
    epoch. `EarlyStopping` with `restore_best_weights` first goes back to the best epoch, whose average it
    then is. The logs `val_loss` and `val_ema_loss` are those of both kinds of weights, without this
    callback, too. A checkpoint holds the plain weights, from which a run continues.

    Raises:
        ValueError: the trainer keeps no average.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((8, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), "sgd", loss="mse", ema=0.5)
    >>> state, _ = jl.fit(trainer, x, x[:, :1], callbacks=[jl.callbacks.SwapEMAWeights()])
    >>> bool((state.params["kernel"] == state.average["kernel"]).all())
    True
    """

    def check(self, run: Run) -> None:
        if run.trainer is not None and run.trainer.ema is None:
            raise refused(
                ValueError,
                "SwapEMAWeights: expected a trainer that keeps an average of the weights",
                instead="write ema=0.999",
                ema=None,
            )

    def to_keep(self, state: TrainState) -> TrainState:
        return state.averaged()
