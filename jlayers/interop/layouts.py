"""Arrays of PyTorch and of cuDNN in Keras's layouts, which are ours, by the kind of the layer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jlayers.interop.parts import whole

__all__ = ["Made", "from_cudnn", "from_torch", "is_torch"]

Arrays = Mapping[str, np.ndarray]
Wanted = Mapping[str, Any]
Made = dict[str, tuple[np.ndarray, list[str]]]  # by our name: the array, and the names it was made of

_NAMES = re.compile(
    r"weight|bias|running_mean|running_var|num_batches_tracked|(weight|bias)_(ih|hh)(_l0)?"
    r"|weight(_(ih|hh)(_l0)?)?_(g|v|u|orig)|(depthwise|pointwise)_(weight|bias)"
)


def is_torch(names: Any) -> bool:
    """True if the arrays of a layer have PyTorch's names.

    >>> is_torch(["weight", "bias"]), is_torch(["kernel", "bias"])
    (True, False)
    """
    names = list(names)
    return all(_NAMES.fullmatch(name) for name in names) and any(name != "bias" for name in names)


def from_torch(kinds: tuple[str, ...], arrays: Arrays, wanted: Wanted) -> Made:
    """The arrays that a layer wants, each with the names of those it was made of.

    Args:
        kinds: the names of the layer's constructor and of those it took over.
        arrays: PyTorch's, by name.
        wanted: what the layer has, by name.
    """
    arrays, parts = whole(arrays, int(any("Transpose" in kind for kind in kinds)))
    parts = {name.removesuffix("_l0"): names for name, names in parts.items()}
    plain = {name.removesuffix("_l0"): array for name, array in arrays.items()}
    made = next((rule for kind in kinds if (rule := _RULES.get(kind))), _affine)(plain, wanted)
    return {
        name: (array, [part for source in sources for part in parts.get(source, [source])])
        for name, (array, sources) in made.items()
        if name in wanted
    }


def _taken(arrays: Arrays, names: Mapping[str, str], change: Callable[[np.ndarray], np.ndarray]) -> Made:
    """Our names from PyTorch's, and `change` for `weight`."""
    return {
        ours: (change(arrays[theirs]) if theirs == "weight" else arrays[theirs], [theirs])
        for theirs, ours in names.items()
        if theirs in arrays
    }


_KERNEL = {"weight": "kernel", "bias": "bias"}


def _dense(arrays: Arrays, wanted: Wanted) -> Made:
    """`(out, in)` as `(in, out)`; also from a convolution over one position, and into heads."""

    def change(weight: np.ndarray) -> np.ndarray:
        if weight.ndim > 2 and set(weight.shape[2:]) == {1}:
            weight = weight.reshape(weight.shape[:2])
        return _reshaped(weight.T, wanted.get("kernel"))

    made = _taken(arrays, _KERNEL, change)
    if "bias" in made:
        made["bias"] = _reshaped(made["bias"][0], wanted.get("bias")), ["bias"]
    return made


def _reshaped(array: np.ndarray, spec: Any) -> np.ndarray:
    """In the shape that is wanted, where the axes only have to be cut or joined."""
    if spec is None or array.size != math.prod(spec.shape) or array.ndim >= len(spec.shape):
        return array
    return array.reshape(spec.shape)


def _conv(arrays: Arrays, wanted: Wanted) -> Made:
    """`(out, in, *window)` with its axes turned round: `(*window, in, out)`; the same for transposed ones."""

    def change(weight: np.ndarray) -> np.ndarray:
        spec = wanted.get("kernel")
        if weight.ndim == 2 and spec is not None:  # a dense layer over channels
            weight = weight.reshape(*weight.shape, *(1,) * (len(spec.shape) - 2))
        return _turned(weight)

    return _taken(arrays, _KERNEL, change)


def _turned(weight: np.ndarray) -> np.ndarray:
    """The last two axes are the first two, exchanged; what has fewer stays, to be told as it is."""
    return weight if weight.ndim < 2 else np.transpose(weight, (*range(2, weight.ndim), 1, 0))


def _depthwise(arrays: Arrays, wanted: Wanted) -> Made:
    """`(channels * multiplier, 1, *window)` as `(*window, channels, multiplier)`."""

    def change(weight: np.ndarray) -> np.ndarray:
        spec = wanted.get("kernel")
        moved = _turned(weight)
        if (
            spec is None
            or moved.ndim < 2
            or moved.shape[-2] != 1
            or moved.shape[-1] != math.prod(spec.shape[-2:])
        ):
            return moved
        return moved.reshape(*moved.shape[:-2], *spec.shape[-2:])

    return _taken(arrays, _KERNEL, change)


def _separable(arrays: Arrays, wanted: Wanted) -> Made:
    """A depthwise convolution and one over single positions; the first one's bias goes through the second."""
    made: Made = {}
    for part, rule in (("depthwise", _depthwise), ("pointwise", _conv)):
        names = {f"{part}_{name}": name for name in ("weight", "bias")}
        own = {name: arrays[source] for source, name in names.items() if source in arrays}
        ours = rule(own, {"kernel": wanted[f"{part}_kernel"]} if f"{part}_kernel" in wanted else {})
        for name, (array, _) in ours.items():
            made[f"{part}_{name}"] = array, [f"{part}_{'weight' if name == 'kernel' else 'bias'}"]
    biases = [made.pop(f"{part}_bias", None) for part in ("depthwise", "pointwise")]
    if biases[0] is not None and "pointwise_kernel" in made:
        kernel = made["pointwise_kernel"][0]
        through = biases[0][0] @ kernel.reshape(-1, kernel.shape[-1])
        biases[1] = (
            (through + biases[1][0], biases[0][1] + biases[1][1]) if biases[1] else (through, biases[0][1])
        )
    return {**made, "bias": biases[1]} if biases[1] is not None else made


def _affine(arrays: Arrays, wanted: Wanted) -> Made:
    """Scale and shift of a normalization, an embedding, the slopes of a PReLU: one array as it is."""
    scale = next((name for name in ("gamma", "scale", "embeddings", "alpha") if name in wanted), "weight")
    names = {
        "weight": scale,
        "bias": "beta" if "beta" in wanted else "bias",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    return _taken(arrays, names, lambda weight: _reshaped(weight, wanted.get(scale)))


def _recurrent(order: tuple[int, ...]) -> Callable[[Arrays, Wanted], Made]:
    """Kernels of both products; `order` says which of PyTorch's gates stand where."""

    def gates(array: np.ndarray) -> np.ndarray:
        parts = np.split(array, len(order)) if array.ndim and array.shape[0] % len(order) == 0 else [array]
        return np.concatenate([parts[i] for i in order]) if len(parts) > 1 else array

    def rule(arrays: Arrays, wanted: Wanted) -> Made:
        made: Made = {}
        for theirs, ours in (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel")):
            if theirs in arrays:
                made[ours] = gates(arrays[theirs]).T, [theirs]
        if {"bias_ih", "bias_hh"} <= set(arrays):
            both = np.stack([gates(arrays["bias_ih"]), gates(arrays["bias_hh"])])
            two = "bias" in wanted and len(wanted["bias"].shape) == 2
            made["bias"] = both if two else both.sum(0), ["bias_ih", "bias_hh"]
        return made

    return rule


_SAME, _LSTM, _GRU = _recurrent((0,)), _recurrent((0, 1, 2, 3)), _recurrent((1, 0, 2))

_RULES: dict[str, Callable[[Arrays, Wanted], Made]] = {
    **dict.fromkeys(("Dense", "EinsumDense", "TernaryDense"), _dense),
    "PatchEmbedding": _conv,
    **dict.fromkeys([f"Conv{n}D{kind}" for n in (1, 2, 3) for kind in ("", "Transpose")], _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys([f"SeparableConv{n}D" for n in (1, 2)], _separable),
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), _SAME),
    **dict.fromkeys(("LSTM", "LSTMCell"), _LSTM),
    **dict.fromkeys(("GRU", "GRUCell"), _GRU),
}


def from_cudnn(kinds: tuple[str, ...], arrays: Arrays) -> dict[str, np.ndarray] | None:
    """The arrays of Keras 2's `CuDNNLSTM` and `CuDNNGRU` as those of `LSTM` and `GRU`; None for others.

    Their kernels are transposed gate by gate, and both biases lie in one vector.

    Source: `preprocess_weights_for_loading` of Keras 2.
    """
    gates = next((number for kind, number in (("LSTM", 4), ("GRU", 3)) if kind in kinds), None)
    if gates is None or not {"kernel", "recurrent_kernel", "bias"} <= set(arrays):
        return None
    kernel, recurrent, bias = (arrays[name] for name in ("kernel", "recurrent_kernel", "bias"))
    if bias.ndim != 1 or kernel.ndim != 2 or recurrent.ndim != 2 or bias.size != 2 * recurrent.shape[1]:
        return None
    inputs = [part.T.reshape(part.shape, order="F") for part in np.hsplit(kernel, gates)]
    states = [part.T for part in np.hsplit(recurrent, gates)]
    biases = bias.reshape(2, -1)
    return {
        "kernel": np.hstack(inputs),
        "recurrent_kernel": np.hstack(states),
        "bias": biases if gates == 3 else biases.sum(0),
    }
