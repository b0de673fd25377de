"""Pairs held in inference mode, as frozen layers are."""

from __future__ import annotations

from typing import Any

import jax

from jlayers.core.pair import Pair

__all__ = ["freeze_pair", "hold_in_inference"]


def hold_in_inference(pair: Pair) -> Pair:
    """The canonical pair that always runs in inference mode, and in training does not move its state."""

    def inference_apply(
        params: Any, state: Any, *inputs: Any, train: bool = False, **keywords: Any
    ) -> tuple[Any, Any]:
        output, moved = pair.apply(params, state, *inputs, train=False, **keywords)
        return output, state if train else moved

    return pair.wrap(apply=inference_apply)


def freeze_pair(pair: Pair) -> Pair:
    """The canonical pair in inference mode, and without a gradient to its parameters."""
    inference = hold_in_inference(pair)

    def frozen_apply(params: Any, *rest: Any, **keywords: Any) -> tuple[Any, Any]:
        return inference.apply(jax.lax.stop_gradient(params), *rest, **keywords)

    return inference.wrap(apply=frozen_apply)
