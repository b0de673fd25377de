"""A model that Keras describes, as layers of ours: its names, its graph, its arguments."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jlayers.core.compose import Sequential
from jlayers.core.errors import at_layer
from jlayers.core.graph import Input, Model
from jlayers.core.layer import Layer, layers
from jlayers.core.registry import Registry
from jlayers.core.spelling import nearest, snake_case
from jlayers.core.tree import join
from jlayers.layers import Activation, Concatenate, Reshape

__all__ = ["UnsupportedError", "layer_of"]

Arrays = Mapping[str, Any]


class UnsupportedError(ValueError):
    """A part of a Keras model that has nothing like it here."""


def _unsupported(path: str, text: str) -> UnsupportedError:
    return at_layer(UnsupportedError(f"{path}: {text}"), path)


def layer_of(data: Mapping[str, Any], arrays: Arrays, path: str = "") -> Layer:
    """The layer that `keras.saving.serialize_keras_object` describes.

    Args:
        data: with `class_name` and `config`.
        arrays: the weights by name, for layers whose weights are arguments here.
        path: path of the layer, for errors.

    Raises:
        UnsupportedError: a layer, an argument or a call that has nothing like it here; the text says where.
    """
    name, config = data["class_name"], data["config"]
    if name in ("Functional", "Model") and "input_layers" in config:
        return _functional(config, arrays, path)
    if name == "Sequential":
        return _sequential(config, arrays, path)
    if data.get("module", "keras.layers").startswith("keras.src.ops"):
        raise _unsupported(
            path,
            f"expected the operation {name} between the layers of a graph, received it as a layer; "
            f"build the Keras model with its functional form",
        )
    known = {"LayerScale": _layer_scale, "Normalization": _normalization}
    config = known.get(name, lambda config, arrays, path: config)(config, arrays, path)
    if name not in layers:
        raise _unsupported(
            path,
            f"there is no layer {name} here ({nearest(name, layers)}); register one of this name "
            f"with @jl.layer and Keras's arguments",
        )
    constructor = layers[name]
    arguments = _arguments(name, constructor, config, arrays, path)
    try:
        return constructor(**arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise _unsupported(path, f"{name} refuses Keras's arguments here: {error}") from error


# Arguments that say nothing of what a layer computes once it has its weights.
_SILENT = {
    "seed", "sparse", "ragged", "optional", "autocast", "quantization_config", "build_config",
    "implementation", "time_major", "lora_rank", "lora_alpha", "flash_attention", "batch_input_shape",
    "batch_shape", "synchronized", "weights", "input_length", "projection_dim", "supports_masking",
}  # fmt: skip


def _arguments(
    name: str, constructor: Callable[..., Layer], config: Mapping[str, Any], arrays: Arrays, path: str
) -> dict[str, Any]:
    parameters = inspect.signature(constructor).parameters
    found: dict[str, Any] = {}
    for argument, value in config.items():
        if argument == "name":
            found["name"] = value
        elif argument == "trainable":
            found.update({} if value else {"trainable": False})
        elif argument == "dtype":
            policy = _policy(value)
            found.update({} if policy in (None, "float32") else {"precision": policy})
        elif argument == "activation" and value == "linear" and parameters[argument].default is None:
            continue
        elif argument in parameters:
            found[argument] = _value(argument, value, arrays, join(path, argument))
        elif argument not in _SILENT and value not in (None, False, "channels_last"):
            raise _unsupported(
                path,
                f"{name} has no argument {argument!r} here, received {argument}={value!r}; "
                f"{nearest(argument, parameters)}",
            )
    return found


def _policy(value: Any) -> str | None:
    while isinstance(value, Mapping):
        value = value.get("config", {}).get("name")
    return value


def _value(argument: str, value: Any, arrays: Arrays, path: str) -> Any:
    """An argument as our constructors take it: layers inside, and functions by name."""
    role = argument.rpartition("_")[2]
    if isinstance(value, (list, tuple)):
        return [_value(argument, each, arrays, f"{path}[{n}]") for n, each in enumerate(value)]
    if not isinstance(value, Mapping) or "class_name" not in value:
        return value
    kind, config = value["class_name"], value.get("config", {})
    if kind in ("function", "builtin"):
        return config
    if role in ("initializer", "regularizer", "constraint"):
        registry = Registry.of(role)
        if kind not in registry:
            raise _unsupported(path, f"there is no {role} {kind} here: {nearest(kind, registry)}")
        allowed = registry.parameters(kind)
        said = {n: v for n, v in config.items() if n in allowed and v is not None and v != allowed[n].default}
        return {kind: said} if said else snake_case(kind)
    if kind == "__numpy__":
        return np.asarray(config["value"])
    if kind == "__tensor__":
        return np.asarray(config["value"]).tolist()
    if argument == "activation":
        made = layer_of(value, arrays, path)
        return made.spec.to_data()
    return layer_of(value, arrays, path)


def _layer_scale(config: Mapping[str, Any], arrays: Arrays, path: str) -> dict[str, Any]:
    """That of `keras.applications.convnext`."""
    kept = {name: value for name, value in config.items() if name != "init_values"}
    return {**kept, "initial": config["init_values"]}


def _normalization(config: Mapping[str, Any], arrays: Arrays, path: str) -> dict[str, Any]:
    """With what it has learned, which are arguments here."""
    if config.get("mean") is not None:
        return dict(config)
    names = ("mean", "variance")
    if any(f"{path}/{name}" not in arrays for name in names):
        raise _unsupported(
            path,
            "expected a Normalization with a learned mean and variance, received one without; call "
            "its adapt first",
        )
    return {**config, **{name: np.squeeze(arrays[f"{path}/{name}"]).tolist() for name in names}}


def _sequential(config: Mapping[str, Any], arrays: Arrays, path: str) -> Layer:
    members = []
    for data in config["layers"]:
        if data["class_name"] == "InputLayer":
            members.append(_input(data["config"]))
        else:
            members.append(layer_of(data, arrays, join(path, data["config"].get("name", "layer"))))
    return Sequential(members, **_common(config))


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": config.get("name"), **({} if config.get("trainable", True) else {"trainable": False})}


def _input(config: Mapping[str, Any]) -> Any:
    shape = config.get("batch_shape") or config["batch_input_shape"]
    return Input(shape[1:], config.get("dtype") or "float32", config["name"])


# ---------------------------------------------------------------------------------------------- graphs


def _functional(config: Mapping[str, Any], arrays: Arrays, path: str) -> Layer:
    """The graph: nodes are made as soon as all that they read is there."""
    values: dict[tuple[str, int], Any] = {}
    made: dict[str, Callable[..., Any]] = {}
    left: list[tuple[str, int, Mapping[str, Any], Mapping[str, Any]]] = []
    for data in config["layers"]:
        name = data["name"]
        if data["class_name"] == "InputLayer":
            values[name, 0] = [_input(data["config"])]
            continue
        where = join(path, name)
        if data.get("module", "").startswith("keras.src.ops"):
            made[name] = _operation(data, where)
        else:
            made[name] = functools.partial(
                _call, layer_of(_with_options_of_calls(data, where), arrays, where), where
            )
        left += [(name, number, data, node) for number, node in enumerate(data["inbound_nodes"])]
    while left:
        waiting = []
        for name, number, data, node in left:
            if all((ref[0], ref[1]) in values for ref in _references(node)):
                inputs = _resolved((list(node["args"]), dict(node["kwargs"])), values)
                output = made[name](*inputs[0], **inputs[1])
                values[name, number] = list(output) if isinstance(output, (list, tuple)) else [output]
            else:
                waiting.append((name, number, data, node))
        if len(waiting) == len(left):
            raise _unsupported(
                join(path, waiting[0][0]), "expected inputs from inside the graph, received others"
            )
        left = waiting

    def nodes(tree: Any) -> Any:
        if isinstance(tree, Mapping):
            return {key: nodes(value) for key, value in tree.items()}
        if len(tree) >= 3 and isinstance(tree[0], str) and isinstance(tree[1], int):
            return values[tree[0], tree[1]][tree[2]]
        return [nodes(value) for value in tree]

    inputs, outputs = nodes(config["input_layers"]), nodes(config["output_layers"])
    return Model(_single(inputs), _single(outputs), **_common(config))


def _single(tree: Any) -> Any:
    return tree[0] if isinstance(tree, list) and len(tree) == 1 else tree


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def _references(value: Any) -> list[Any]:
    if _is_tensor(value):
        return [value["config"]["keras_history"]]
    inside = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    )
    return [ref for each in inside for ref in _references(each)]


def _resolved(value: Any, values: Mapping[tuple[str, int], Any]) -> Any:
    if _is_tensor(value):
        name, number, index = value["config"]["keras_history"]
        return values[name, number][index]
    if isinstance(value, Mapping):
        if value.get("class_name") == "__slice__":
            config = value["config"]
            return slice(config["start"], config["stop"], config["step"])
        if value.get("class_name") in ("__ellipsis__", "__numpy__", "__tensor__"):
            return ... if value["class_name"] == "__ellipsis__" else np.asarray(value["config"]["value"])
        return {key: _resolved(each, values) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolved(each, values) for each in value)
    return value


# Options of a call in Keras that belong to the constructor here.
_OF_THE_CALL = ("use_causal_mask", "return_attention_scores")


def _with_options_of_calls(data: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The description of a layer with what all its calls say."""
    calls = [{n: node["kwargs"].get(n, False) for n in _OF_THE_CALL} for node in data["inbound_nodes"]]
    if any(call != calls[0] for call in calls):
        raise _unsupported(path, f"expected all calls of one layer with the same options, received {calls}")
    said = {name: value for name, value in (calls[0] if calls else {}).items() if value}
    return {**data, "config": {**data["config"], **said}}


def _call(layer: Layer, path: str, *args: Any, **kwargs: Any) -> Any:
    """Keras's call of a layer as ours, which takes arrays only."""
    options = {name: value for name, value in kwargs.items() if name not in _OF_THE_CALL}
    if options.get("training") is False:  # what Keras notes whether or not it was said
        del options["training"]
    inputs = [*args]
    for name in ("value", "key", "initial_state"):
        value = options.pop(name, None)
        inputs += value if isinstance(value, (list, tuple)) else [value]
    inputs = [each for each in inputs if each is not None]
    if said := {name: value for name, value in options.items() if value is not None}:
        raise _unsupported(
            path,
            "expected a call on arrays only, received "
            + ", ".join(f"{name}={value!r}" for name, value in said.items()),
        )
    return layer(*inputs)


def _activation(name: str) -> Callable[..., Any]:
    return lambda made: lambda x: Activation(name, name=made)(x)


# Keras's functions on nodes; each takes the name of the node.
_OPERATIONS: dict[str, Callable[[str], Callable[..., Any]]] = {
    **{
        name: lambda made, apply=apply: apply
        for name, apply in {
            "Add": operator.add,
            "Subtract": operator.sub,
            "Multiply": operator.mul,
            "Divide": operator.truediv,
            "TrueDivide": operator.truediv,
            "FloorDivide": operator.floordiv,
            "Mod": operator.mod,
            "Power": operator.pow,
            "Matmul": operator.matmul,
            "Negative": operator.neg,
            "GetItem": lambda x, key: x[tuple(key) if isinstance(key, list) else key],
        }.items()
    },
    **{
        name: _activation(activation)
        for name, activation in {
            "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu",
            "Softplus": "softplus", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid",
            "Exp": "exponential", "HardSilu": "hard_silu", "Selu": "selu",
        }.items()
    },
    "Reshape": lambda made: lambda x, newshape: Reshape(tuple(newshape)[1:], name=made)(x),
    "Concatenate": lambda made: lambda xs, axis=-1: Concatenate(axis=axis, name=made)(xs),
}  # fmt: skip


def _operation(data: Mapping[str, Any], path: str) -> Callable[..., Any]:
    name, config = data["class_name"], data["config"]
    if name not in _OPERATIONS:
        raise _unsupported(
            path,
            f"there is no operation {name} on nodes here ({nearest(name, _OPERATIONS)}); make it a "
            f"layer in the Keras model",
        )
    options = {key: value for key, value in config.items() if key not in ("name", "dtype")}

    def run(*args: Any, **kwargs: Any) -> Any:
        given = {key: value for key, value in {**options, **kwargs}.items() if value is not None}
        return _OPERATIONS[name](data["name"])(*args, **given)

    return run
