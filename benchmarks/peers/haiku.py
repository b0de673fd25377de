"""Haiku, as its documentation advises: functions of modules under `hk.transform_with_state`, `jax.jit`."""

from __future__ import annotations

import functools
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import adam, count, cross_entropy, jax_program
from benchmarks.workloads import CLASSES, EPSILON, MOMENTUM


def mlp(sizes: w.MLP, x: Any, train: bool) -> Any:
    return hk.nets.MLP([*sizes.widths, CLASSES])(x)


def cnn(sizes: w.CNN, x: Any, train: bool) -> Any:
    x = jax.nn.relu(hk.Conv2D(sizes.filters, 3, padding="VALID")(x))
    x = hk.max_pool(x, (2, 2, 1), (2, 2, 1), "VALID")
    x = jax.nn.relu(hk.Linear(sizes.units)(hk.Flatten()(x)))
    return hk.Linear(CLASSES)(x)


def norm(x: Any, train: bool) -> Any:
    return hk.BatchNorm(True, True, decay_rate=MOMENTUM, eps=EPSILON)(x, is_training=train)


def conv_norm(x: Any, train: bool, filters: int, kernel: int, stride: int = 1) -> Any:
    return norm(hk.Conv2D(filters, kernel, stride, with_bias=False)(x), train)


def resnet(sizes: w.ResNet, x: Any, train: bool) -> Any:
    x = jax.nn.relu(conv_norm(x, train, sizes.width, 3))
    for channels, stride in sizes.plan():
        y = jax.nn.relu(conv_norm(x, train, channels, 3, stride))
        y = conv_norm(y, train, channels, 3)
        x = jax.nn.relu(y + (x if stride == 1 else conv_norm(x, train, channels, 1, stride)))
    return hk.Linear(CLASSES)(x.mean((1, 2)))


def mobilenet(sizes: w.MobileNet, x: Any, train: bool) -> Any:
    x = jax.nn.relu6(conv_norm(x, train, sizes.stem, 3))
    for expansion, channels, stride in sizes.plan():
        y = jax.nn.relu6(conv_norm(x, train, x.shape[-1] * expansion, 1)) if expansion > 1 else x
        y = hk.DepthwiseConv2D(1, 3, stride, with_bias=False)(y)
        y = conv_norm(jax.nn.relu6(norm(y, train)), train, channels, 1)
        x = x + y if y.shape == x.shape else y
    x = jax.nn.relu6(conv_norm(x, train, sizes.head, 1))
    return hk.Linear(CLASSES)(x.mean((1, 2)))


def recurrent(cell: Any, sizes: w.LSTM, x: Any, train: bool) -> Any:
    x = hk.Embed(sizes.vocabulary, sizes.features)(x)
    core = cell(sizes.units)
    y, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[0]), time_major=False)
    return hk.Linear(CLASSES)(y[:, -1])


def layer_norm(x: Any) -> Any:
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, eps=EPSILON)(x)


def transformer(sizes: w.Transformer, x: Any, train: bool) -> Any:
    first = hk.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
    size = sizes.features // sizes.heads
    positions = hk.get_parameter(
        "positions", (*sizes.shape, sizes.features), init=hk.initializers.TruncatedNormal(0.02)
    )
    x = hk.Embed(sizes.vocabulary, sizes.features)(x) + positions
    for _ in range(sizes.layers):
        y = layer_norm(x)
        x = x + hk.MultiHeadAttention(sizes.heads, size, w_init=first)(y, y, y)
        x = x + hk.nets.MLP([sizes.hidden, sizes.features], w_init=first)(layer_norm(x))
    return hk.Linear(CLASSES)(layer_norm(x).mean(1))


MODELS: dict[str, Any] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": functools.partial(recurrent, hk.LSTM),
    "gru": functools.partial(recurrent, hk.GRU),
    "transformer": transformer,
}


def program(workload: w.Workload) -> Program:
    model = hk.without_apply_rng(hk.transform_with_state(functools.partial(MODELS[workload.kind], workload)))
    optimizer = adam()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        params, state, opt_state = carry

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            logits, moved = model.apply(params, state, x, train=True)
            return cross_entropy(logits, y), moved

        (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return (optax.apply_updates(params, updates), state, opt_state), loss

    @jax.jit
    def predict(carry: Any, x: jax.Array) -> jax.Array:
        return model.apply(carry[0], carry[1], x, train=False)[0]

    x, y = workload.data()
    init = jax.jit(functools.partial(model.init, train=True))
    params, state = init(jax.random.key(0), jnp.asarray(x))
    return jax_program(step, predict, (params, state, optimizer.init(params)), x, y, count(params))
