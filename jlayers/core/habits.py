"""What Keras's users write out of habit, and what is written here: for errors that teach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["argument_error", "call_error", "missing_attribute"]

# Arguments of Keras's constructors that no constructor here has: what was expected, and what to do.
_ARGUMENTS = {
    "dtype": (
        "Keras's dtype under the name precision",
        "write precision='mixed_bfloat16' or the name of another policy",
    ),
    "seed": ("no seed, for randomness is explicit", "give the key to the call: apply(..., key=key)"),
    "input_shape": ("no shape of the input", "put jl.Input(shape) at the head of the model"),
}
_CALL = {
    "training": "training is said in layer.apply(..., train=True)",
    "initial_state": "the states follow the sequences: layer(x, h, c)",
    "mask": "a mask belongs to its values: jl.AttachMask()(x, mask)",
    "attention_mask": "it is the fourth input: layer(query, value, key, mask)",
}
_ATTRIBUTES = {
    "add": "jl.Sequential([layer, another])",
    "adapt": "jl.adapt(layer, data)",
    "call": "layer.apply(params, state, x)",
    "compile": "jl.compile(model, optimizer, loss)",
    "evaluate": "jl.evaluate(trainer, state, x, y)",
    "fit": "jl.fit(jl.compile(model, optimizer, loss), x, y)",
    "get_layer": "model.children[name], or jl.graph(model)[name] for its output",
    "get_weights": "params, state = layer.init(key, x): weights are values beside a layer",
    "layers": "model.children",
    "predict": "jl.predict(model, (params, state), x)",
    "reset_states": "jl.reset_state(state)",
    "summary": "jl.summary(model)",
    "trainable": "jl.freeze(model)",
    "weights": "params, state = layer.init(key, x): weights are values beside a layer",
}


def argument_error(type_name: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> TypeError | None:
    """The error of a constructor that was given an argument of Keras's alone, or None."""
    for name, (expected, instead) in _ARGUMENTS.items():
        if name in given and name not in known:
            return TypeError(f"{type_name}: expected {expected}, received {name}={given[name]!r}; {instead}")
    return None


def call_error(type_name: str, given: Mapping[str, Any]) -> TypeError:
    """The error of a layer that was called with keywords."""
    name, value = next(iter(given.items()))
    instead = _CALL.get(name, "what Keras's calls take besides arrays is an argument of the constructor")
    return TypeError(f"{type_name}: expected inputs by position alone, received {name}={value!r}; {instead}")


def missing_attribute(name: str) -> AttributeError:
    """The error of a layer that was asked for an attribute it does not have."""
    instead = f"; write {_ATTRIBUTES[name]}" if name in _ATTRIBUTES else ""
    return AttributeError(f"a layer has no attribute {name!r}{instead}")
