"""Equinox, as its documentation advises: modules of one sample under `vmap`, `filter_jit` with donation.

The model passes the border of the compiled step as a flat list, the trick that its documentation gives for
loops with little overhead. Images have the channels first, as its layers want them.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from equinox import nn

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import adam, count, cross_entropy, jax_program
from benchmarks.workloads import CLASSES, EPSILON, MOMENTUM


class Keys:
    """A new key at each call."""

    def __init__(self, key: jax.Array):
        self.key = key

    def __call__(self) -> jax.Array:
        self.key, key = jax.random.split(self.key)
        return key


class MLP(eqx.Module):
    layers: list[nn.Linear]

    def __init__(self, sizes: w.MLP, key: Keys):
        widths = (*sizes.shape, *sizes.widths, CLASSES)
        self.layers = [nn.Linear(n, m, key=key()) for n, m in itertools.pairwise(widths)]

    def __call__(self, x: Any, state: nn.State) -> Any:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x), state


class CNN(eqx.Module):
    conv: nn.Conv2d
    pool: nn.MaxPool2d
    hidden: nn.Linear
    out: nn.Linear

    def __init__(self, sizes: w.CNN, key: Keys):
        height, width, channels = sizes.shape
        flat = (height - 2) // 2 * ((width - 2) // 2) * sizes.filters
        self.conv = nn.Conv2d(channels, sizes.filters, 3, key=key())
        self.pool = nn.MaxPool2d(2, 2)
        self.hidden = nn.Linear(flat, sizes.units, key=key())
        self.out = nn.Linear(sizes.units, CLASSES, key=key())

    def __call__(self, x: Any, state: nn.State) -> Any:
        x = self.pool(jax.nn.relu(self.conv(x)))
        return self.out(jax.nn.relu(self.hidden(x.ravel()))), state


class ConvNorm(eqx.Module):
    conv: nn.Conv2d
    norm: nn.BatchNorm

    def __init__(self, key: Keys, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, "SAME", groups=groups, use_bias=False, key=key()
        )
        self.norm = nn.BatchNorm(outputs, "batch", eps=EPSILON, momentum=MOMENTUM, mode="batch")

    def __call__(self, x: Any, state: nn.State) -> Any:
        return self.norm(self.conv(x), state)


class BasicBlock(eqx.Module):
    first: ConvNorm
    second: ConvNorm
    skip: ConvNorm | None

    def __init__(self, inputs: int, channels: int, stride: int, key: Keys):
        self.first = ConvNorm(key, inputs, channels, 3, stride)
        self.second = ConvNorm(key, channels, channels, 3)
        self.skip = ConvNorm(key, inputs, channels, 1, stride) if stride > 1 else None

    def __call__(self, x: Any, state: nn.State) -> Any:
        y, state = self.first(x, state)
        y, state = self.second(jax.nn.relu(y), state)
        if self.skip is not None:
            x, state = self.skip(x, state)
        return jax.nn.relu(y + x), state


class ResNet(eqx.Module):
    stem: ConvNorm
    blocks: list[BasicBlock]
    out: nn.Linear

    def __init__(self, sizes: w.ResNet, key: Keys):
        self.stem = ConvNorm(key, sizes.shape[-1], sizes.width, 3)
        before, self.blocks = sizes.width, []
        for channels, stride in sizes.plan():
            self.blocks.append(BasicBlock(before, channels, stride, key))
            before = channels
        self.out = nn.Linear(before, CLASSES, key=key())

    def __call__(self, x: Any, state: nn.State) -> Any:
        x, state = self.stem(x, state)
        x = jax.nn.relu(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.out(x.mean((1, 2))), state


class InvertedResidual(eqx.Module):
    expand: ConvNorm | None
    depthwise: ConvNorm
    project: ConvNorm

    def __init__(self, inputs: int, expansion: int, channels: int, stride: int, key: Keys):
        inside = inputs * expansion
        self.expand = ConvNorm(key, inputs, inside, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(key, inside, inside, 3, stride, groups=inside)
        self.project = ConvNorm(key, inside, channels, 1)

    def __call__(self, x: Any, state: nn.State) -> Any:
        y = x
        if self.expand is not None:
            y, state = self.expand(y, state)
            y = jax.nn.relu6(y)
        y, state = self.depthwise(y, state)
        y, state = self.project(jax.nn.relu6(y), state)
        return (x + y if y.shape == x.shape else y), state


class MobileNet(eqx.Module):
    stem: ConvNorm
    blocks: list[InvertedResidual]
    head: ConvNorm
    out: nn.Linear

    def __init__(self, sizes: w.MobileNet, key: Keys):
        self.stem = ConvNorm(key, sizes.shape[-1], sizes.stem, 3)
        before, self.blocks = sizes.stem, []
        for expansion, channels, stride in sizes.plan():
            self.blocks.append(InvertedResidual(before, expansion, channels, stride, key))
            before = channels
        self.head = ConvNorm(key, before, sizes.head, 1)
        self.out = nn.Linear(sizes.head, CLASSES, key=key())

    def __call__(self, x: Any, state: nn.State) -> Any:
        x, state = self.stem(x, state)
        x = jax.nn.relu6(x)
        for block in self.blocks:
            x, state = block(x, state)
        x, state = self.head(x, state)
        return self.out(jax.nn.relu6(x).mean((1, 2))), state


class Recurrent(eqx.Module):
    embedding: nn.Embedding
    cell: Any
    out: nn.Linear

    def __init__(self, cell: Any, sizes: w.LSTM, key: Keys):
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.features, key=key())
        self.cell = cell(sizes.features, sizes.units, key=key())
        self.out = nn.Linear(sizes.units, CLASSES, key=key())

    def __call__(self, x: Any, state: nn.State) -> Any:
        zeros = jnp.zeros(self.cell.hidden_size)
        start = (zeros, zeros) if isinstance(self.cell, nn.LSTMCell) else zeros
        last, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), start, jax.vmap(self.embedding)(x))
        return self.out(last[0] if isinstance(last, tuple) else last), state


class Block(eqx.Module):
    norm1: nn.LayerNorm
    attention: nn.MultiheadAttention
    norm2: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear

    def __init__(self, sizes: w.Transformer, key: Keys):
        n = sizes.features
        self.norm1, self.norm2 = nn.LayerNorm(n, eps=EPSILON), nn.LayerNorm(n, eps=EPSILON)
        self.attention = nn.MultiheadAttention(
            sizes.heads,
            n,
            use_query_bias=True,
            use_key_bias=True,
            use_value_bias=True,
            use_output_bias=True,
            key=key(),
        )
        self.up = nn.Linear(n, sizes.hidden, key=key())
        self.down = nn.Linear(sizes.hidden, n, key=key())

    def __call__(self, x: Any) -> Any:
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y)
        y = jax.vmap(self.up)(jax.vmap(self.norm2)(x))
        return x + jax.vmap(self.down)(jax.nn.relu(y))


class Transformer(eqx.Module):
    tokens: nn.Embedding
    positions: jax.Array
    blocks: list[Block]
    norm: nn.LayerNorm
    out: nn.Linear

    def __init__(self, sizes: w.Transformer, key: Keys):
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.features, key=key())
        self.positions = 0.02 * jax.random.normal(key(), (*sizes.shape, sizes.features))
        self.blocks = [Block(sizes, key) for _ in range(sizes.layers)]
        self.norm = nn.LayerNorm(sizes.features, eps=EPSILON)
        self.out = nn.Linear(sizes.features, CLASSES, key=key())

    def __call__(self, x: Any, state: nn.State) -> Any:
        x = jax.vmap(self.tokens)(x) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(jax.vmap(self.norm)(x).mean(0)), state


MODELS: dict[str, Any] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "mobilenet": MobileNet,
    "lstm": functools.partial(Recurrent, nn.LSTMCell),
    "gru": functools.partial(Recurrent, nn.GRUCell),
    "transformer": Transformer,
}


def batched(model: Any, x: jax.Array, state: nn.State) -> tuple[jax.Array, nn.State]:
    return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)


def program(workload: w.Workload) -> Program:
    model, state = nn.make_with_state(MODELS[workload.kind])(workload, key=Keys(jax.random.key(0)))
    optimizer = adam()
    opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    flat, structure = jax.tree.flatten((model, state, opt_state))

    @eqx.filter_jit(donate="all-except-first")
    def compiled_step(batch: Any, flat: list[Any]) -> tuple[list[Any], jax.Array]:
        model, state, opt_state = jax.tree.unflatten(structure, flat)
        x, y = batch

        def loss_of(model: Any) -> tuple[jax.Array, nn.State]:
            logits, moved = batched(model, x, state)
            return cross_entropy(logits, y), moved

        (loss, state), gradients = eqx.filter_value_and_grad(loss_of, has_aux=True)(model)
        updates, opt_state = optimizer.update(gradients, opt_state, eqx.filter(model, eqx.is_inexact_array))
        return jax.tree.leaves((eqx.apply_updates(model, updates), state, opt_state)), loss

    @eqx.filter_jit
    def predict(flat: list[Any], x: jax.Array) -> jax.Array:
        model, state, _ = jax.tree.unflatten(structure, flat)
        return batched(nn.inference_mode(model), x, state)[0]

    def step(flat: list[Any], x: jax.Array, y: jax.Array) -> tuple[list[Any], jax.Array]:
        return compiled_step((x, y), flat)

    def lower(flat: list[Any], x: jax.Array, y: jax.Array) -> Any:
        return compiled_step.lower((x, y), flat).lowered

    x, y = workload.data()
    if x.ndim == 4:
        x = np.moveaxis(x, -1, 1).copy()
    parameters = count(eqx.filter(model, eqx.is_inexact_array))
    return jax_program(step, predict, flat, x, y, parameters, lower)
