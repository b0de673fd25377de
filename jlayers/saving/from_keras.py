"""A Keras model object as a layer, with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.core.tree import join
from jlayers.interop.keras_config import UnsupportedError, layer_of
from jlayers.saving.loading import load_weights

__all__ = ["from_keras"]


def from_keras(model: Any) -> tuple[Layer, dict[str, Any], dict[str, Any]]:
    """A Keras model as a layer, with its parameters and state.

    Functional and sequential models are read, nested ones, shared layers and several inputs and outputs
    included. Layers keep their names, so that `params["dense"]["kernel"]` is the kernel of the layer `dense`.
    The Keras model stays as it is.

    Args:
        model: a Keras 3 model that is built.

    Returns:
        `(model, params, state)`.

    Raises:
        TypeError: no Keras model.
        ValueError: a subclassed model, or a part that has nothing like it here; its path is named.
        ImportError: Keras is not installed: `pip install 'jlayers[keras]'`.

    >>> import jlayers as jl, numpy as np, keras
    >>> theirs = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="score")])
    >>> model, params, state = jl.from_keras(theirs)
    >>> model
    Sequential([InputLayer((4,), name='...'), Dense(3, name='score')], name='...')
    >>> bool(np.allclose(params["score"]["kernel"], theirs.layers[0].kernel))
    True
    """
    try:
        import keras
    except ImportError:
        raise ImportError("a Keras model is described by Keras: pip install 'jlayers[keras]'") from None
    if not isinstance(model, keras.Model):
        raise about(TypeError(f"from_keras: expected a Keras model, received {model!r}"), model=model)
    if not model.built:
        error = ValueError(
            f"from_keras: expected a built model, received {model.name!r}: call it on data, or give it "
            f"an Input"
        )
        raise about(error, model=model)
    data: Any = keras.saving.serialize_keras_object(model)
    if "layers" not in data["config"]:
        error = UnsupportedError(
            f"from_keras: expected a functional or a sequential model, received {type(model).__name__}, "
            f"which is a class of its own; write its call as a graph of layers"
        )
        raise about(error, model=model)
    arrays = _arrays_of(model)
    made = layer_of(data, arrays)
    fixed = _paths_of_class(model, keras.layers.Normalization)
    learned = {n for n in arrays if n.rpartition("/")[0] in fixed}
    weights = {name: array for name, array in arrays.items() if name not in learned}
    params, state = load_weights(made, weights)
    return made, params, state


def _paths_of_class(model: Any, normalization: Any, path: str = "") -> set[str]:
    """The paths of layers of a class whose weights are arguments here."""
    found = set()
    for layer in getattr(model, "layers", []):
        inner = join(path, layer.name)
        found |= {inner} if isinstance(layer, normalization) else _paths_of_class(layer, normalization, inner)
    return found


def _arrays_of(model: Any, path: str = "") -> dict[str, np.ndarray]:
    """The variables by the path of their layer; Keras's own paths leave out the models around."""
    found: dict[str, np.ndarray] = {}
    for layer in model.layers:
        inner = join(path, layer.name)
        if hasattr(layer, "layers"):
            found.update(_arrays_of(layer, inner))
            continue
        for variable in layer.variables:
            if "seed_generator" in variable.path:
                continue
            _, _, name = f"/{variable.path}".rpartition(f"/{layer.name}/")
            found[f"{inner}/{name}"] = np.asarray(variable.value)
    return found
