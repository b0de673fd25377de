"""Each op of `jlayers.ops` in its fast form against its plain twin: forward, and forward with all gradients.

    python -m benchmarks.ops [--only pool] [--rounds 15] [--output benchmarks/results/ops]

The two forms take turns in one process; a ratio is the median over the rounds, below 1 where the fast form
is faster. Each pair is first shown to compute the same values and gradients, dropout to keep the same share;
the exit code is 1 if one does not. A new case is a new line of `CASES`.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jlayers as jl
from benchmarks.goals import median, ratio
from benchmarks.peers import hand
from benchmarks.report import number, seconds, table
from jlayers.ops import (
    attention,
    conv,
    conv_transpose,
    cross_entropy,
    depthwise,
    dropout,
    normalization,
    pool,
    product,
)
from jlayers.ops.linear_recurrence import linear_recurrence, linear_recurrence_in_parallel

ROOT = pathlib.Path(__file__).parent
SLICE = 0.03  # seconds of one turn
CLOSE = 1e-4  # of the largest value
SCALE = 0.08  # of the inputs: small enough that recurrent weights do not blow up what is rounded


def difference(a: Any, b: Any) -> float:
    """The largest difference of two trees, as a share of the largest value in its array."""

    def share(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-30))

    return max(jax.tree.leaves(jax.tree.map(share, a, b)))


def difference_of_shares(a: Any, b: Any) -> float:
    """The largest difference of two trees in the share of numbers that are not 0."""

    def share(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.abs((a != 0).mean() - (b != 0).mean()))

    return max(jax.tree.leaves(jax.tree.map(share, a, b)))


class Case(NamedTuple):
    """Two forms of one function of float32 arrays of the given shapes, and how far apart they may be."""

    name: str
    fast: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]
    difference: Callable[[Any, Any], float] = difference
    close: float = CLOSE


def case(name: str, fast: Any, plain: Any, *shapes: tuple[int, ...], **options: Any) -> Case:
    """A case; `options` go to both forms."""
    return Case(name, functools.partial(fast, **options), functools.partial(plain, **options), shapes)


def square(window: int, stride: int, padding: str = "same") -> dict[str, Any]:
    return {"window": (window,) * 2, "strides": (stride,) * 2, "padding": padding}


def strided(stride: int, dilation: int = 1) -> dict[str, Any]:
    return {"strides": (stride,) * 2, "padding": "same", "dilation": (dilation,) * 2}


def layer(constructor: Any) -> Callable[..., jax.Array]:
    """A recurrent layer as a function of its input and of its parameters, in the order of the layer's own."""

    def run(x: jax.Array, kernel: jax.Array, recurrent_kernel: jax.Array, bias: jax.Array) -> jax.Array:
        params = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
        return constructor(recurrent_kernel.shape[0]).apply(params, {}, x)[0]

    return run


def scanned(cell: Any, states: int) -> Callable[..., jax.Array]:
    """The scan that one writes by hand; see `benchmarks/peers/hand.py`."""

    def run(x: jax.Array, kernel: jax.Array, recurrent_kernel: jax.Array, bias: jax.Array) -> jax.Array:
        params = {"w": kernel, "u": recurrent_kernel, "b": bias}
        start = (jnp.zeros((x.shape[0], recurrent_kernel.shape[0])),) * states
        return jax.lax.scan(functools.partial(cell, params), start, x.swapaxes(0, 1))[0][0]

    return run


def rnn_cell(p: Any, carry: Any, x: jax.Array) -> Any:
    (h,) = carry
    return (jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"]),), None


def reset_before_cell(p: Any, carry: Any, x: jax.Array) -> Any:
    (h,) = carry
    z = x @ p["w"] + p["b"]
    gates, own = jnp.split(p["u"], [2 * h.shape[1]], axis=1)
    keep, reset = jnp.split(jax.nn.sigmoid(z[:, : gates.shape[1]] + h @ gates), 2, axis=1)
    candidate = jnp.tanh(z[:, gates.shape[1] :] + (reset * h) @ own)
    return (keep * h + (1 - keep) * candidate,), None


def of_classes(form: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A log-probability as a function of the logits alone; the classes are fixed."""
    return lambda logits: form(logits, jnp.arange(len(logits)) * 7 % logits.shape[-1])


def dropped(mask: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Inverted dropout; the key comes from the data, for the bits of a constant one would be constants."""

    def run(x: jax.Array, keep: float) -> jax.Array:
        key = jax.random.key(jax.lax.stop_gradient(x).ravel()[0].astype(jnp.int32))
        return jnp.where(mask(key, keep, x.shape), x / keep, jnp.zeros_like(x))

    return run


RNN = (layer(jl.SimpleRNN), scanned(rnn_cell, 1))
LSTM = (layer(jl.LSTM), scanned(hand.lstm_cell, 2))
GRU = (layer(jl.GRU), scanned(hand.gru_cell, 1))
GRU_RESET_BEFORE = (layer(functools.partial(jl.GRU, reset_after=False)), scanned(reset_before_cell, 1))
MAX = (pool.max_pool, pool.max_pool_lax)
AVG = (pool.avg_pool, pool.avg_pool_lax)
DEPTHWISE = (depthwise.depthwise_conv, depthwise.depthwise_conv_lax)
CONV = conv.conv, conv.conv_lax
TRANSPOSE = conv_transpose.conv_transpose, conv_transpose.conv_transpose_lax
CROSS_ENTROPY = tuple(map(of_classes, (cross_entropy.log_softmax_at, cross_entropy.log_softmax_at_plain)))
PRODUCT = (product.product, product.product_plain)
NORMALIZED = (normalization.normalized, normalization.normalized_plain)
LINEAR_RECURRENCE = (linear_recurrence, linear_recurrence_in_parallel)
DROPOUT = (dropped(dropout.keep_mask), dropped(dropout.keep_mask_plain))
ATTENTION = (attention.dot_product_attention, attention.dot_product_attention_plain)

CASES = (
    case("max_pool 2x2", *MAX, (128, 26, 26, 32), **square(2, 2, "valid")),
    case("max_pool 2x2", *MAX, (32, 112, 112, 16), **square(2, 2)),
    case("max_pool 3x3, stride 2", *MAX, (32, 56, 56, 64), **square(3, 2)),
    case("max_pool 3x3, stride 1", *MAX, (32, 28, 28, 64), **square(3, 1)),
    case(
        "max_pool 3x3, stride 2, 3D",
        *MAX,
        (4, 16, 16, 16, 32),
        window=(3,) * 3,
        strides=(2,) * 3,
        padding="same",
    ),
    case("max_pool 3, stride 2, 1D", *MAX, (32, 400, 64), window=(3,), strides=(2,), padding="same"),
    case("avg_pool 2x2", *AVG, (128, 26, 26, 32), **square(2, 2, "valid")),
    case("avg_pool 8x8", *AVG, (32, 32, 32, 64), **square(8, 8)),
    case("avg_pool 3x3, stride 2", *AVG, (32, 56, 56, 64), **square(3, 2)),
    case("avg_pool 3x3, stride 1", *AVG, (32, 28, 28, 64), **square(3, 1)),
    case("avg_pool 3, stride 2, 1D", *AVG, (32, 400, 64), window=(3,), strides=(2,), padding="same"),
    case("depthwise 3x3", *DEPTHWISE, (32, 28, 28, 96), (3, 3, 96, 1), **strided(1)),
    case("depthwise 3x3", *DEPTHWISE, (32, 14, 14, 384), (3, 3, 384, 1), **strided(1)),
    case("depthwise 3x3, stride 2", *DEPTHWISE, (32, 28, 28, 144), (3, 3, 144, 1), **strided(2)),
    case("depthwise 5x5, stride 2", *DEPTHWISE, (8, 56, 56, 144), (5, 5, 144, 1), **strided(2)),
    case("depthwise 3x3, dilation 2", *DEPTHWISE, (8, 28, 28, 96), (3, 3, 96, 1), **strided(1, 2)),
    case("conv 1x1", *CONV, (32, 14, 14, 256), (1, 1, 256, 256), **strided(1)),
    case("conv 1x1, stride 2", *CONV, (64, 32, 32, 16), (1, 1, 16, 32), **strided(2)),
    case("conv 3x3", *CONV, (64, 32, 32, 16), (3, 3, 16, 16), **strided(1)),
    case("conv 3x3", *CONV, (64, 16, 16, 64), (3, 3, 64, 64), **strided(1)),
    case("conv 3x3, stride 2", *CONV, (64, 32, 32, 16), (3, 3, 16, 32), **strided(2)),
    case("conv 3x3, stride 2", *CONV, (32, 28, 28, 64), (3, 3, 64, 128), **strided(2)),
    case("conv 3x3, 3 channels", *CONV, (64, 32, 32, 3), (3, 3, 3, 16), **strided(1)),
    case("conv 3x3, 1 channel", *CONV, (128, 28, 28, 1), (3, 3, 1, 32), **strided(1)),
    case("conv 3x3", *CONV, (64, 8, 8, 64), (3, 3, 64, 64), **strided(1)),
    case("conv 3x3", *CONV, (8, 56, 56, 64), (3, 3, 64, 64), **strided(1)),
    case("conv 7x7, stride 2", *CONV, (16, 64, 64, 3), (7, 7, 3, 64), **strided(2)),
    case(
        "transposed conv 3x3, stride 2",
        *TRANSPOSE,
        (32, 14, 14, 128),
        (3, 3, 64, 128),
        strides=(2, 2),
        pads=((1, 2), (1, 2)),
        dilation=(1, 1),
    ),
    case("conv 3x3, 2 groups", *CONV, (16, 14, 14, 128), (3, 3, 64, 128), groups=2, **strided(1)),
    case("conv 3x3, 32 groups", *CONV, (16, 14, 14, 128), (3, 3, 4, 128), groups=32, **strided(1)),
    case("LSTM", *LSTM, (32, 100, 64), (64, 512), (128, 512), (512,)),
    case("LSTM", *LSTM, (128, 50, 32), (32, 256), (64, 256), (256,)),
    case("LSTM", *LSTM, (32, 20, 128), (128, 2048), (512, 2048), (2048,)),
    case("GRU", *GRU, (32, 100, 64), (64, 384), (128, 384), (2, 384)),
    case("GRU", *GRU, (8, 50, 64), (64, 384), (128, 384), (2, 384)),
    case("GRU, reset before", *GRU_RESET_BEFORE, (32, 100, 64), (64, 384), (128, 384), (384,)),
    case("GRU, reset before", *GRU_RESET_BEFORE, (8, 50, 64), (64, 384), (128, 384), (384,)),
    case("SimpleRNN", *RNN, (32, 100, 64), (64, 128), (128, 128), (128,)),
    case("SimpleRNN", *RNN, (8, 50, 64), (64, 256), (256, 256), (256,)),
    case("linear recurrence", *LINEAR_RECURRENCE, *[(8, 512, 64)] * 2),
    case("product, 3 axes", *PRODUCT, (16, 128, 128), (128, 512)),
    case("product, 3 axes", *PRODUCT, (16, 128, 512), (512, 128)),
    case("layer normalization", *NORMALIZED, (16, 128, 128), axes=(2,), epsilon=1e-3),
    case("cross-entropy", *CROSS_ENTROPY, (128, 10)),
    case("cross-entropy", *CROSS_ENTROPY, (2048, 1000)),
    *(
        # Of a million draws: their shares differ by four standard deviations at most.
        case(f"dropout, {keep:.0%} kept", *DROPOUT, (16, 128, 512), keep=keep)._replace(
            difference=difference_of_shares, close=4 * math.sqrt(2 * keep * (1 - keep) / 2**20)
        )
        for keep in (0.5, 0.75, 0.9)
    ),
    case("attention", *ATTENTION, *[(16, 128, 4, 32)] * 3),
    case("attention", *ATTENTION, *[(2, 1024, 8, 64)] * 3),
    case("attention, causal", *ATTENTION, *[(4, 512, 8, 64)] * 3, causal=True),
)


def programs(form: Callable[..., jax.Array], inputs: list[jax.Array]) -> tuple[Any, Any]:
    """The form compiled, and the form with the gradients of all its inputs."""
    result = jax.eval_shape(form, *inputs)
    weights = jnp.cos(jnp.arange(math.prod(result.shape), dtype=result.dtype)).reshape(result.shape)

    def both(weights: jax.Array, *inputs: jax.Array) -> Any:
        value, pullback = jax.vjp(form, *inputs)
        return value, pullback(weights)

    # The weights are an argument: the gradient of a linear form would be computed when it is compiled.
    return jax.jit(form), functools.partial(jax.jit(both), weights)


def take_turns(functions: dict[str, Any], inputs: list[jax.Array], rounds: int) -> dict[str, list[float]]:
    """Seconds per call in each round."""

    def timed(function: Any, calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            result = function(*inputs)
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / calls

    calls = {name: math.ceil(SLICE / timed(function, 1)) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(timed(function, calls[name]))
    return times


def measure(each: Case, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs = [jnp.asarray(SCALE * rng.normal(size=shape), jnp.float32) for shape in each.shapes]
    fast, plain = programs(each.fast, inputs), programs(each.plain, inputs)
    found: dict[str, Any] = {"name": each.name, "shapes": each.shapes}
    found["difference"] = each.difference(fast[1](*inputs), plain[1](*inputs))  # compiles both
    found["equal"] = found["difference"] < each.close
    for part, pair in zip(("forward", "gradient"), zip(fast, plain, strict=True), strict=True):
        functions = dict(zip(("fast", "plain"), pair, strict=True))
        jax.block_until_ready([function(*inputs) for function in functions.values()])
        found[part] = take_turns(functions, inputs, rounds)
    return found


def markdown(results: list[dict[str, Any]]) -> str:
    rows = []
    for found in results:
        row = [found["name"], " ".join("×".join(map(str, shape)) for shape in found["shapes"])]
        for part in ("forward", "gradient"):
            times = found[part]
            row += [seconds(median(times[form])) for form in ("fast", "plain")]
            row.append(number(ratio(times["fast"], times["plain"])))
        rows.append([*row, f"{found['difference']:.0e}"])
    parts = ("forward", "with gradient")
    columns = [f"{part}{what}" for part in parts for what in (", fast", ", plain", ": ratio")]
    return table(["op", "shapes", *columns, "difference"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "results" / "ops")
    options = parser.parse_args()
    results = []
    for each in CASES:
        if options.only in each.name:
            print(each.name, *each.shapes, flush=True)
            results.append(measure(each, options.rounds))
    text = (
        f"# Fast forms of jlayers.ops against their plain twins\n\nJAX {jax.__version__}, "
        f"{jax.devices()[0].device_kind}, float32, medians of {options.rounds} rounds.\n\n"
        f"{markdown(results)}\n"
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0 if all(found["equal"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
