"""No layers library: what a good user of JAX writes with `lax`, `jax.nn` and Optax.

Each model is a pair of functions, `init(key) -> (params, state)` and `apply(params, state, x, train) ->
(logits, state)`, `state` being running statistics. `init` is compiled as a whole, which is faster than array
by array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import adam, count, cross_entropy, jax_program
from benchmarks.workloads import CLASSES, EPSILON, MOMENTUM

Tree = dict[str, Any]
Model = tuple[Callable[[jax.Array], tuple[Tree, Tree]], Callable[..., tuple[jax.Array, Tree]]]

glorot = jax.nn.initializers.glorot_uniform()
orthogonal = jax.nn.initializers.orthogonal()
uniform = jax.nn.initializers.uniform(0.05)


# ------------------------------------------------------------------------------------------- pieces


def dense_init(key: jax.Array, n: int, m: int) -> Tree:
    return {"w": glorot(key, (n, m)), "b": jnp.zeros(m)}


def dense(p: Tree, x: jax.Array) -> jax.Array:
    return x @ p["w"] + p["b"]


def conv(
    kernel: jax.Array, x: jax.Array, stride: int = 1, padding: str = "SAME", groups: int = 1
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def norm_init(n: int) -> Tree:
    return {"scale": jnp.ones(n), "shift": jnp.zeros(n)}


def statistics(n: int) -> Tree:
    return {"mean": jnp.zeros(n), "var": jnp.ones(n)}


def batch_norm(p: Tree, s: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
    if train:
        mean = x.mean((0, 1, 2))
        var = jnp.square(x).mean((0, 1, 2)) - jnp.square(mean)
        batch = {"mean": mean, "var": var}
        moved = jax.tree.map(lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, s, batch)
    else:
        mean, var, moved = s["mean"], s["var"], s
    factor = lax.rsqrt(var + EPSILON) * p["scale"]
    return x * factor + (p["shift"] - mean * factor), moved


def layer_norm(p: Tree, x: jax.Array) -> jax.Array:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + EPSILON) * p["scale"] + p["shift"]


# ------------------------------------------------------------------------------------------- models


def mlp(sizes: w.MLP) -> Model:
    widths = (*sizes.shape, *sizes.widths, CLASSES)

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, len(widths) - 1)
        return {f"{i}": dense_init(keys[i], widths[i], widths[i + 1]) for i in range(len(keys))}, {}

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        *hidden, last = params.values()
        for p in hidden:
            x = jax.nn.relu(dense(p, x))
        return dense(last, x), state

    return init, apply


def cnn(sizes: w.CNN) -> Model:
    height, width, channels = sizes.shape
    flat = (height - 2) // 2 * ((width - 2) // 2) * sizes.filters

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        return {
            "conv": {"w": glorot(keys[0], (3, 3, channels, sizes.filters)), "b": jnp.zeros(sizes.filters)},
            "hidden": dense_init(keys[1], flat, sizes.units),
            "out": dense_init(keys[2], sizes.units, CLASSES),
        }, {}

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        x = jax.nn.relu(conv(params["conv"]["w"], x, padding="VALID") + params["conv"]["b"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(dense(params["hidden"], x.reshape(x.shape[0], -1)))
        return dense(params["out"], x), state

    return init, apply


class Convolutions:
    """Convolutions and normalizations by name: their kernels' shapes, for networks that have many."""

    def __init__(self) -> None:
        self.kernels: dict[str, tuple[int, int, int, int]] = {}

    def add(self, name: str, size: int, inputs: int, outputs: int) -> None:
        self.kernels[name] = (size, size, inputs, outputs)

    def init(self, key: jax.Array, features: int) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, len(self.kernels) + 1)
        params: Tree = {
            name: {"w": glorot(k, shape), **norm_init(shape[-1])}
            for k, (name, shape) in zip(keys[1:], self.kernels.items(), strict=True)
        }
        state = {name: statistics(shape[-1]) for name, shape in self.kernels.items()}
        return {**params, "out": dense_init(keys[0], features, CLASSES)}, state


def conv_norm(
    params: Tree,
    state: Tree,
    moved: Tree,
    name: str,
    x: jax.Array,
    train: bool,
    stride: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution and normalization by name; the new statistics go into `moved`."""
    x = conv(params[name]["w"], x, stride, groups=groups)
    x, moved[name] = batch_norm(params[name], state[name], x, train)
    return x


def resnet(sizes: w.ResNet) -> Model:
    layers, before = Convolutions(), sizes.width
    layers.add("stem", 3, sizes.shape[-1], sizes.width)
    for i, (channels, stride) in enumerate(sizes.plan()):
        layers.add(f"{i}a", 3, before, channels)
        layers.add(f"{i}b", 3, channels, channels)
        if stride > 1:
            layers.add(f"{i}skip", 1, before, channels)
        before = channels

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return layers.init(key, before)

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        moved: Tree = {}
        call = functools.partial(conv_norm, params, state, moved, train=train)
        x = jax.nn.relu(call("stem", x))
        for i, (_, stride) in enumerate(sizes.plan()):
            skip = x if stride == 1 else call(f"{i}skip", x, stride=stride)
            x = jax.nn.relu(call(f"{i}b", jax.nn.relu(call(f"{i}a", x, stride=stride))) + skip)
        return dense(params["out"], x.mean((1, 2))), moved

    return init, apply


def mobilenet(sizes: w.MobileNet) -> Model:
    layers, before = Convolutions(), sizes.stem
    layers.add("stem", 3, sizes.shape[-1], sizes.stem)
    blocks = []
    for i, (expansion, channels, stride) in enumerate(sizes.plan()):
        inside = before * expansion
        if expansion > 1:
            layers.add(f"{i}expand", 1, before, inside)
        layers.add(f"{i}depthwise", 3, 1, inside)
        layers.add(f"{i}project", 1, inside, channels)
        blocks.append((expansion, inside, stride, stride == 1 and before == channels))
        before = channels
    layers.add("head", 1, before, sizes.head)

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        return layers.init(key, sizes.head)

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        moved: Tree = {}
        call = functools.partial(conv_norm, params, state, moved, train=train)
        x = jax.nn.relu6(call("stem", x))
        for i, (expansion, inside, stride, skips) in enumerate(blocks):
            y = jax.nn.relu6(call(f"{i}expand", x)) if expansion > 1 else x
            y = jax.nn.relu6(call(f"{i}depthwise", y, stride=stride, groups=inside))
            y = call(f"{i}project", y)
            x = x + y if skips else y
        x = jax.nn.relu6(call("head", x))
        return dense(params["out"], x.mean((1, 2))), moved

    return init, apply


def recurrent(gates: int, cell: Callable[..., Any], sizes: w.LSTM) -> Model:
    features, units = sizes.features, sizes.units

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 4)
        return {
            "embedding": uniform(keys[0], (sizes.vocabulary, features)),
            "cell": {
                "w": glorot(keys[1], (features, gates * units)),
                "u": orthogonal(keys[2], (units, gates * units)),
                # PyTorch's and Keras's GRU has a second bias, of the recurrent product
                "b": jnp.zeros(gates * units) if gates == 4 else jnp.zeros((2, gates * units)),
            },
            "out": dense_init(keys[3], units, CLASSES),
        }, {}

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        x = params["embedding"][x]
        zeros = jnp.zeros((x.shape[0], units))
        start = (zeros, zeros) if gates == 4 else (zeros,)
        (h, *_), _ = lax.scan(functools.partial(cell, params["cell"]), start, x.swapaxes(0, 1))
        return dense(params["out"], h), state

    return init, apply


def lstm_cell(p: Tree, carry: Any, x: jax.Array) -> Any:
    h, c = carry
    i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None


def gru_cell(p: Tree, carry: Any, x: jax.Array) -> Any:
    (h,) = carry
    xz, xr, xg = jnp.split(x @ p["w"] + p["b"][0], 3, axis=1)
    hz, hr, hg = jnp.split(h @ p["u"] + p["b"][1], 3, axis=1)
    z = jax.nn.sigmoid(xz + hz)
    g = jnp.tanh(xg + jax.nn.sigmoid(xr + hr) * hg)
    return (z * h + (1 - z) * g,), None


def transformer(sizes: w.Transformer) -> Model:
    features, heads, size = sizes.features, sizes.heads, sizes.features // sizes.heads

    def block_init(key: jax.Array) -> Tree:
        keys = jax.random.split(key, 4)
        return {
            "norm1": norm_init(features),
            "qkv": dense_init(keys[0], features, 3 * features),
            "merge": dense_init(keys[1], features, features),
            "norm2": norm_init(features),
            "up": dense_init(keys[2], features, sizes.hidden),
            "down": dense_init(keys[3], sizes.hidden, features),
        }

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, sizes.layers + 3)
        return {
            "tokens": uniform(keys[0], (sizes.vocabulary, features)),
            "positions": glorot(keys[1], (*sizes.shape, features)),
            "blocks": [block_init(k) for k in keys[3:]],
            "norm": norm_init(features),
            "out": dense_init(keys[2], features, CLASSES),
        }, {}

    def attend(p: Tree, x: jax.Array) -> jax.Array:
        qkv = dense(p["qkv"], x).reshape(*x.shape[:2], 3, heads, size)
        y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return dense(p["merge"], y.reshape(x.shape))

    def apply(params: Tree, state: Tree, x: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        x = params["tokens"][x] + params["positions"]
        for p in params["blocks"]:
            x = x + attend(p, layer_norm(p["norm1"], x))
            x = x + dense(p["down"], jax.nn.relu(dense(p["up"], layer_norm(p["norm2"], x))))
        return dense(params["out"], layer_norm(params["norm"], x).mean(1)), state

    return init, apply


MODELS: dict[str, Any] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": functools.partial(recurrent, 4, lstm_cell),
    "gru": functools.partial(recurrent, 3, gru_cell),
    "transformer": transformer,
}


def train_step(apply: Callable[..., Any], optimizer: optax.GradientTransformation) -> Any:
    """The compiled step that one writes by hand; also the bare loop's of `benchmarks/loops.py`."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        params, state, opt_state = carry

        def loss_of(params: Tree) -> tuple[jax.Array, Tree]:
            logits, moved = apply(params, state, x, True)
            return cross_entropy(logits, y), moved

        (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return (optax.apply_updates(params, updates), state, opt_state), loss

    return step


def program(workload: w.Workload) -> Program:
    init, apply = MODELS[workload.kind](workload)
    optimizer = adam()

    @jax.jit
    def start(key: jax.Array) -> Any:
        params, state = init(key)
        return params, state, optimizer.init(params)

    @jax.jit
    def predict(carry: Any, x: jax.Array) -> jax.Array:
        return apply(carry[0], carry[1], x, False)[0]

    carry = start(jax.random.key(0))
    return jax_program(train_step(apply, optimizer), predict, carry, *workload.data(), count(carry[0]))
