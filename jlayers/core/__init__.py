"""The contract: layers, and containers of layers."""

from jlayers.core.layer import (
    Layer,
    LayerLike,
    MissingKeyError,
    Wiring,
    layers,
    need_key,
    no_params,
)

__all__ = ["Layer", "LayerLike", "MissingKeyError", "Wiring", "layers", "need_key", "no_params"]
