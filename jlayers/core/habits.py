"""Errors for habits of Keras, Flax and PyTorch: each says what to write here instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "apply_error",
    "argument_error",
    "assignment_error",
    "call_error",
    "missing_attribute",
    "missing_in",
]

# Arguments that constructors have elsewhere and none has here: what was expected, and what to do.
_ARGUMENTS = {
    "dtype": (
        "Keras's dtype under the name precision",
        "write precision='mixed_bfloat16' or the name of another policy",
    ),
    "seed": ("no seed, for randomness is explicit", "give the key to the call: apply(..., key=key)"),
    "rngs": ("no generators, for randomness is explicit", "give the key to the call: apply(..., key=key)"),
    "weights": (
        "no weights",
        "they are values beside a layer: params, state = layer.init(key, x), or jl.load_weights(...)",
    ),
    "input_tensor": ("no tensor", "call the layer on a node: layer(x)"),
    "deterministic": ("no mode", "write it in the call: layer.apply(..., train=True)"),
    "use_running_average": ("no mode", "write it in the call: layer.apply(..., train=True)"),
    "inplace": ("nothing that changes its input", "leave it out: arrays are values"),
    "input_length": ("no length, which each batch has itself", "leave it out"),
    "batch_first": ("no order of axes", "leave it out: the batch comes first, then time"),
    "device": ("no device", "leave it out: a layer runs where its arrays are"),
    **dict.fromkeys(
        ("input_shape", "input_dim", "batch_input_shape", "in_features", "in_channels", "input_size"),
        ("no shape of the input, which init sees", "put jl.Input(shape) at the head of the model"),
    ),
}
# Arguments of other names elsewhere: the first that the constructor has is meant.
_RENAMED = {
    "features": ("units", "filters"),
    "out_features": ("units",),
    "out_channels": ("filters",),
    "num_features": ("axis",),
    "hidden_size": ("units",),
    "num_embeddings": ("input_dim",),
    "embedding_dim": ("output_dim",),
    "normalized_shape": ("axis",),
    "p": ("rate",),
    "bias": ("use_bias",),
    "kernel_init": ("kernel_initializer",),
    "bias_init": ("bias_initializer",),
    "embedding_init": ("embeddings_initializer",),
    "eps": ("epsilon",),
    "dilation": ("dilation_rate",),
    "act": ("activation",),
}
_CALL = {
    "training": "write layer.apply(..., train=True); for a part that stays in inference mode "
    "while it is trained, write jl.Inference(layer)(x), and to hold it still, jl.freeze(layer)(x)",
    "initial_state": "the states follow the sequences: layer(x, h, c)",
    "mask": "a mask belongs to its values: jl.AttachMask()(x, mask)",
    "attention_mask": "it is the fourth input: layer(query, value, key, mask)",
}
_APPLY = {
    "training": "train=True",
    "deterministic": "train=False",
    "use_running_average": "train=False",
    "rngs": "key=key",
    "rng": "key=key",
    "seed": "key=jax.random.key(seed)",
    "mutable": "output, state = layer.apply(params, state, x): what moved is always returned",
    "mask": "jl.Masked(x, mask) as the input",
    "initial_state": "the states after the sequences: layer.apply(params, state, x, h, c)",
}
_VALUES = "params, state = layer.init(key, x): weights are values beside a layer"
_SHAPES = "jl.summary(model, shape), or jl.graph(model).outputs of a model with an Input"
_DEVICES = "jax.device_put(params, device): a layer runs where its arrays are"
_ATTRIBUTES = {
    "add": "jl.Sequential([layer, another])",
    "adapt": "jl.adapt(layer, data)",
    "bind": "a function of params: layer.apply(params, state, x)",
    "build": "params, state = layer.init(key, shape)",
    "call": "layer.apply(params, state, x)",
    "compile": "jl.compile(model, optimizer, loss)",
    "count_params": "jl.summary(model).params",
    "eval": "layer.apply(params, state, x), which is in inference mode without train=True",
    "evaluate": "jl.evaluate(trainer, state, x, y)",
    "fit": "jl.fit(jl.compile(model, optimizer, loss), x, y)",
    "forward": "layer.apply(params, state, x)",
    "from_config": "jlayers.core.layer.layers.get(data)",
    "get_config": "layer.to_data()",
    "get_layer": "model.children[name], or jl.graph(model)[name] for its output",
    "layers": "model.children",
    "losses": "layer.penalty(params), and the leaves called aux_loss in the state",
    "predict": "jl.predict(model, (params, state), x)",
    "load_weights": "jl.load_weights(model, path)",
    "register_buffer": "a layer of your own whose init returns (params, state)",
    "reset_states": "jl.reset_state(state)",
    "save": "jl.save(path, model, params, state)",
    "save_weights": "jl.save_weights(path, params, state)",
    "summary": "jl.summary(model)",
    "tabulate": "jl.summary(model, shape)",
    "train": "layer.apply(params, state, x, key=key, train=True)",
    "train_on_batch": "state, logs = trainer.step(state, batch)",
    "trainable": "jl.freeze(model)",
    "zero_grad": "jax.grad of a function of params: gradients are values",
    **dict.fromkeys(("input", "inputs", "output", "outputs"), "jl.graph(model).inputs and .outputs"),
    **dict.fromkeys(("input_shape", "output_shape", "compute_output_shape"), _SHAPES),
    **dict.fromkeys(("to", "cuda", "cpu"), _DEVICES),
    **dict.fromkeys(
        (
            "get_weights", "set_weights", "weights", "variables", "trainable_weights", "trainable_variables",
            "non_trainable_weights", "parameters", "named_parameters", "state_dict", "load_state_dict",
        ),
        _VALUES,
    ),
}  # fmt: skip
# Attributes of what compile and fit return, and what stands for them.
_KEPT = {
    "evaluate": "jl.evaluate(trainer, state, x, y) with the state that jl.fit returns",
    "fit": "jl.fit(trainer, x, y)",
    "predict": "jl.predict(trainer, state, x) with the state that jl.fit returns",
    "save": "jl.save(path, model, state.params, state.state)",
    "save_weights": "jl.save_weights(path, state.params, state.state)",
    "summary": "jl.summary(model)",
    **dict.fromkeys(("weights", "variables", "trainable_variables", "get_weights"), "state.params"),
    **dict.fromkeys(("history", "epoch_logs"), "state, history = jl.fit(trainer, x, y)"),
    "train_on_batch": "state, logs = trainer.train_step(state, jl.Batch(x, y))",
    "apply_gradients": "state, logs = trainer.train_step(state, jl.Batch(x, y))",
    "apply_fn": "model.apply(params, state, x)",
}


def argument_error(type_name: str, keywords: Mapping[str, Any], known: Mapping[str, Any]) -> TypeError | None:
    """The error for an argument that has this name only in another library; None if there is none."""
    for name, (expected, instead) in _ARGUMENTS.items():
        if name in keywords and name not in known:
            return TypeError(
                f"{type_name}: expected {expected}, received {name}={keywords[name]!r}; {instead}"
            )
    for name, others in _RENAMED.items():
        if name in keywords and name not in known and (own := next((o for o in others if o in known), None)):
            return TypeError(
                f"{type_name}: expected {own}, as in Keras, received {name}={keywords[name]!r}; "
                f"write {own}=..."
            )
    return None


def call_error(type_name: str, keywords: Mapping[str, Any]) -> TypeError:
    """The error of a layer that was called with keywords."""
    name, value = next(iter(keywords.items()))
    instead = _CALL.get(name, "other inputs of a Keras call are arguments of the constructor here")
    return TypeError(f"{type_name}: expected inputs by position only, received {name}={value!r}; {instead}")


def apply_error(type_name: str, keywords: Mapping[str, Any]) -> TypeError:
    """The error of an `apply` that was given a keyword that it does not have."""
    name, value = next(iter(keywords.items()))
    instead = f"write {_APPLY[name]}" if name in _APPLY else "inputs are given by position"
    return TypeError(
        f"{type_name}.apply: expected no keywords but key and train, received {name}={value!r}; {instead}"
    )


def missing_attribute(name: str) -> AttributeError:
    """The error of a layer that was asked for an attribute it does not have."""
    instead = f"; write {_ATTRIBUTES[name]}" if name in _ATTRIBUTES else ""
    return AttributeError(f"a layer has no attribute {name!r}{instead}")


def missing_in(kind: str, name: str) -> AttributeError:
    """The error of a trainer or a state that was asked for an attribute it does not have."""
    instead = f"; write {_KEPT[name]}" if name in _KEPT else ""
    return AttributeError(f"a {kind} has no attribute {name!r}{instead}", name=name)


def assignment_error(name: str, value: Any) -> AttributeError:
    """The error of a layer whose attribute is set."""
    instead = (
        "jl.freeze(model, pattern) or jl.unfreeze" if name == "trainable" else f"layer.replace({name}=...)"
    )
    return AttributeError(
        f"layers do not change, received {name} = {value!r}; write {instead}, which gives a new one"
    )
