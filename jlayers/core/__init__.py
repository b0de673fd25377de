"""What a layer is, and how layers compose: the contract, without any layer."""

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
