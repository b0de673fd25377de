"""Our layers against numbers that PyTorch gave, which `tests/recorded/make_torch_values.py` recorded.

Our layers run on PyTorch's weights and in its layout, both converted inside of the function that is
differentiated. So all that was recorded, the gradients too, is compared as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jlayers as jl

FILE = Path(__file__).parent / "recorded" / "torch_values.safetensors"


def recorded() -> dict[str, dict[str, dict[str, Any]]]:
    """Arrays by case, kind and name."""
    found: dict[str, Any] = {}
    for path, array in load_file(FILE).items():
        case, kind, name = path.split("/")
        found.setdefault(case, {}).setdefault(kind, {})[name] = array
    return found


VALUES = recorded()

# --------------------------------------------------------------- PyTorch's weights in the layout of ours


def channels_last(x: Any) -> Any:
    return jnp.moveaxis(x, 1, -1)


def channels_first(x: Any) -> Any:
    return jnp.moveaxis(x, -1, 1)


def convolution(weights: Any) -> dict[str, Any]:
    """`(out, in, *window)` to `(*window, in, out)`; transposed ones have in and out exchanged in both."""
    kernel = jnp.moveaxis(weights["weight"], (0, 1), (-1, -2))
    return {"kernel": kernel, **({"bias": weights["bias"]} if "bias" in weights else {})}


def nothing(weights: Any) -> dict[str, Any]:
    return {}


def beside_padding(weights: Any) -> dict[str, Any]:
    """PyTorch pads and crops within the convolution; here a layer before or after it does."""
    return {"conv": convolution(weights)}


def depthwise(weights: Any) -> dict[str, Any]:
    """`(channels * multiplier, 1, *window)` to `(*window, channels, multiplier)`."""
    split = weights["weight"].reshape(4, 2, 3, 3)
    return {"kernel": jnp.transpose(split, (2, 3, 0, 1)), "bias": weights["bias"]}


def affine(weights: Any) -> dict[str, Any]:
    return {"gamma": weights["weight"], "beta": weights["bias"]}


def scale(weights: Any) -> dict[str, Any]:
    return {"scale": weights["weight"]}


def one_bias(weights: Any, suffix: str = "") -> dict[str, Any]:
    """PyTorch has the gates i, f, g, o one below the other, as we have them side by side, and two biases."""
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    kernel, recurrent, bias, second = (weights[name + suffix] for name in names)
    return {"kernel": kernel.T, "recurrent_kernel": recurrent.T, "bias": bias + second}


def both_ways(weights: Any) -> dict[str, Any]:
    return {"forward_layer": one_bias(weights), "backward_layer": one_bias(weights, "_reverse")}


def gru(weights: Any) -> dict[str, Any]:
    """PyTorch's gates are r, z, n, ours z, r, h; both biases stay, because n takes the second one times r."""

    def gates(rows: Any) -> Any:
        r, z, n = jnp.split(rows, 3)
        return jnp.concatenate([z, r, n]).T

    biases = jnp.stack([gates(weights["bias_ih_l0"]), gates(weights["bias_hh_l0"])])
    kernels = {"kernel": gates(weights["weight_ih_l0"]), "recurrent_kernel": gates(weights["weight_hh_l0"])}
    return {**kernels, "bias": biases}


def attention(weights: Any) -> dict[str, Any]:
    """`(heads * size, features)` to `(features, heads, size)`; the output's to `(heads, size, features)`."""
    names = ("query", "key", "value")
    if "in_proj_weight" in weights:
        kernels = jnp.split(weights["in_proj_weight"], 3)
    else:
        kernels = [weights[f"{name[0]}_proj_weight"] for name in names]
    biases = jnp.split(weights["in_proj_bias"], 3)
    params = {
        name: {"kernel": kernel.T.reshape(-1, 2, 3), "bias": bias.reshape(2, 3)}
        for name, kernel, bias in zip(names, kernels, biases, strict=True)
    }
    output = {"kernel": weights["out_proj.weight"].T.reshape(2, 3, 6), "bias": weights["out_proj.bias"]}
    return {**params, "attention_output": output}


def grouped_attention(weights: Any) -> dict[str, Any]:
    """As `attention`, with heads of size 3 and without biases."""
    names = ("query", "key", "value")
    params = {name: {"kernel": weights[f"{name}.weight"].T.reshape(6, -1, 3)} for name in names}
    return {**params, "attention_output": {"kernel": weights["output.weight"].T.reshape(4, 3, 6)}}


def statistics(buffers: Any) -> dict[str, Any]:
    return {"moving_mean": buffers["running_mean"], "moving_variance": buffers["running_var"]}


def layered(states: Any) -> list[Any]:
    """PyTorch's states have an axis of layers and directions in front."""
    return [state[None] for state in states]


def both_states(parts: Any) -> list[Any]:
    output, *states = parts
    forward, backward = states[:2], states[2:]
    return [output, *(jnp.stack(pair) for pair in zip(forward, backward, strict=True))]


def padded(padding: Any, *arguments: Any, **options: Any) -> Any:
    return jl.Sequential(jl.ZeroPadding2D(padding), jl.Conv2D(*arguments, **options, name="conv"))


# PyTorch's `padding` takes positions off both ends and `output_padding` gives the last one back; "same", as
# in Keras, takes off the last one alone.
without_first = jl.Sequential(
    jl.Conv2DTranspose(3, 3, strides=2, name="conv"), jl.Cropping2D(((1, 0), (1, 0)))
)
STEPS: dict[str, Any] = {"return_sequences": True, "return_state": True}
HEADS: dict[str, Any] = {"num_heads": 2, "key_dim": 3, "return_attention_scores": True}
SOURCES = jnp.array([[[True] * 5], [[True] * 3 + [False] * 2]])

# Each row: our layer, and how it takes PyTorch's weights.
CASES = {
    "conv1d": (jl.Conv1D(3, 3), convolution),
    "conv1d_dilated": (jl.Conv1D(3, 3, dilation_rate=2), convolution),
    "conv1d_same_even": (jl.Conv1D(3, 4, padding="same"), convolution),
    "conv2d": (jl.Conv2D(3, (3, 2)), convolution),
    "conv2d_strided": (padded(1, 3, 3, strides=(2, 3)), beside_padding),
    "conv2d_padded": (padded((2, 1), 3, 3, use_bias=False), beside_padding),
    "conv2d_same_dilated": (jl.Conv2D(3, 3, padding="same", dilation_rate=(2, 1)), convolution),
    "conv2d_groups": (jl.Conv2D(6, 3, groups=2), convolution),
    "conv2d_depthwise": (jl.DepthwiseConv2D(3, depth_multiplier=2, strides=2), depthwise),
    "conv3d": (jl.Conv3D(3, (2, 3, 2), strides=(1, 2, 1)), convolution),
    "conv1d_transpose": (jl.Conv1DTranspose(3, 3, strides=2), convolution),
    "conv2d_transpose": (jl.Conv2DTranspose(3, (3, 2), strides=(2, 1)), convolution),
    "conv2d_transpose_same": (without_first, beside_padding),
    "conv2d_transpose_longer": (jl.Conv2DTranspose(3, 3, strides=2, output_padding=1), convolution),
    "conv2d_transpose_dilated": (jl.Conv2DTranspose(3, 3, dilation_rate=2), convolution),
    "conv3d_transpose": (jl.Conv3DTranspose(3, 2, strides=2), convolution),
    # PyTorch's momentum is the weight of the new statistics, ours, as Keras's, of the old ones.
    "batch_norm": (jl.BatchNormalization(momentum=0.9), affine),
    "batch_norm_images": (jl.BatchNormalization(momentum=0.7, epsilon=1e-5), affine),
    "batch_norm_inference": (jl.BatchNormalization(epsilon=1e-5), affine),
    "layer_norm": (jl.LayerNormalization(epsilon=1e-5), affine),
    "layer_norm_two_axes": (jl.LayerNormalization(axis=(1, 2)), affine),
    "group_norm": (jl.GroupNormalization(2, epsilon=1e-5), affine),
    "instance_norm": (jl.GroupNormalization(-1, epsilon=1e-5), affine),
    "rms_norm": (jl.RMSNormalization(), scale),
    "rnn": (jl.SimpleRNN(4, **STEPS), one_bias),
    "lstm": (jl.LSTM(4, **STEPS), one_bias),
    "lstm_from_state": (jl.LSTM(4, **STEPS), one_bias),
    "lstm_bidirectional": (jl.Bidirectional(jl.LSTM(4, **STEPS)), both_ways),
    "gru": (jl.GRU(4, **STEPS), gru),
    "gru_from_state": (jl.GRU(4, **STEPS), gru),
    "attention": (jl.MultiHeadAttention(**HEADS), attention),
    "attention_masked": (jl.MultiHeadAttention(**HEADS, use_causal_mask=True), attention),
    "attention_cross": (jl.MultiHeadAttention(**HEADS), attention),
    "attention_grouped": (
        jl.GroupQueryAttention(3, 4, 2, use_bias=False, use_causal_mask=True),
        grouped_attention,
    ),
    "conv1d_transpose_padded": (jl.Conv1DTranspose(3, 3, padding=1, dilation_rate=2), convolution),
    "conv2d_transpose_padded": (
        jl.Conv2DTranspose(3, (4, 2), (2, 3), padding=(1, 0), output_padding=(0, 2)),
        convolution,
    ),
    "conv3d_transpose_padded": (jl.Conv3DTranspose(3, 3, 2, padding=1, output_padding=1), convolution),
    "pool_max_padded": (jl.MaxPooling2D(3, 2, padding=1), nothing),
    "pool_average_padded": (jl.AveragePooling2D(3, 2, padding=(1, 0)), nothing),
}
CHANNELS_FIRST = ("conv", "pool", "batch_norm_i", "group_norm", "instance_norm")


def outputs_of(case: str, layer: Any, convert: Any, weights: Any, inputs: Any) -> tuple[list[Any], Any]:
    """What our layer gives, as a list in PyTorch's layout, and its state after the call."""
    edge = case.startswith(CHANNELS_FIRST)
    inputs = [channels_last(x) for x in inputs] if edge else list(inputs)
    if case in ("attention_masked", "attention_grouped"):
        inputs += [None, None, SOURCES]
    state = statistics(VALUES[case]["buffers"]) if "buffers" in VALUES[case] else {}
    output, moved = layer.apply(convert(weights), state, *inputs, train=case != "batch_norm_inference")
    parts = list(output) if isinstance(output, (tuple, list)) else [output]
    if case == "lstm_bidirectional":
        parts = both_states(parts)
    elif case.startswith(("rnn", "lstm", "gru")):
        parts = [parts[0], *layered(parts[1:])]
    return [channels_first(y) for y in parts] if edge else parts, moved


def close(actual: Any, expected: Any, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: {actual.shape} {expected.shape}"
    tolerance = 5e-6 * max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=what)


@pytest.mark.parametrize("case", CASES)
def test_outputs_gradients_and_statistics(case):
    layer, convert = CASES[case]
    values = {kind: {name: jnp.asarray(a) for name, a in some.items()} for kind, some in VALUES[case].items()}
    in_order = {kind: [some[n] for n in sorted(some)] for kind, some in values.items()}

    @jax.jit
    def run(weights, inputs):
        def loss(weights, inputs):
            outputs, moved = outputs_of(case, layer, convert, weights, inputs)
            pairs = zip(outputs, in_order["cotangents"], strict=True)
            return sum(jnp.sum(y * cotangent) for y, cotangent in pairs), (outputs, moved)

        return jax.grad(loss, (0, 1), has_aux=True)(weights, inputs)

    (by_weights, by_inputs), (outputs, moved) = run(values.get("weights", {}), in_order["inputs"])
    for i, output in enumerate(outputs):
        close(output, in_order["outputs"][i], f"output {i}")
    for i, gradient in enumerate(by_inputs):
        close(gradient, in_order["inputs_gradients"][i], f"gradient of input {i}")
    for name, gradient in by_weights.items():
        close(gradient, values["gradients"][name], f"gradient of {name}")
    if "moved" in values:
        check_statistics(case, layer, values, moved)


def check_statistics(case: str, layer: Any, values: Any, moved: Any) -> None:
    """PyTorch's running variance takes in the batch's unbiased variance; ours, as Keras's, the biased."""
    before, after = statistics(values["buffers"]), statistics(values["moved"])
    close(moved["moving_mean"], after["moving_mean"], "moving mean")
    x = values["inputs"]["0"]
    count = x.size // x.shape[1]
    kept = before["moving_variance"] * layer.spec.arguments["momentum"]
    if case == "batch_norm_inference":
        kept = before["moving_variance"]
    unbiased = kept + (moved["moving_variance"] - kept) * (count / (count - 1))
    close(unbiased, after["moving_variance"], "moving variance")


@pytest.mark.parametrize("case", ["attention", "attention_masked", "attention_cross"])
def test_attention_without_its_weights(case):
    """The fused path."""
    layer = CASES[case][0].replace(return_attention_scores=False)
    values = VALUES[case]
    inputs = [values["inputs"][name] for name in sorted(values["inputs"])]
    (output,), _ = outputs_of(case, layer, attention, values["weights"], inputs)
    close(output, values["outputs"]["0"], "output")


def test_what_was_recorded_is_compared():
    assert sorted(VALUES) == sorted(CASES)
