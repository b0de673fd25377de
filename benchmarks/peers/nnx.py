"""Flax NNX with the functional training loop of its performance guide: split once, `jax.jit` in between.

`nnx.jit` walks the object graph in Python at each call; the guide advises this loop where that is felt.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
from flax import nnx

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import adam, count, cross_entropy, jax_program
from benchmarks.workloads import CLASSES, EPSILON, MOMENTUM


class MLP(nnx.Module):
    def __init__(self, sizes: w.MLP, rngs: nnx.Rngs):
        widths = (*sizes.shape, *sizes.widths)
        pairs = itertools.pairwise(widths)
        self.hidden = nnx.List([nnx.Linear(n, m, rngs=rngs) for n, m in pairs])
        self.out = nnx.Linear(widths[-1], CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.out(x)


class CNN(nnx.Module):
    def __init__(self, sizes: w.CNN, rngs: nnx.Rngs):
        height, width, channels = sizes.shape
        flat = (height - 2) // 2 * ((width - 2) // 2) * sizes.filters
        self.conv = nnx.Conv(channels, sizes.filters, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(flat, sizes.units, rngs=rngs)
        self.out = nnx.Linear(sizes.units, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), strides=(2, 2))
        return self.out(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


class ConvNorm(nnx.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, rngs: nnx.Rngs
    ):
        size, strides = (kernel, kernel), (stride, stride)
        self.conv = nnx.Conv(
            inputs, outputs, size, strides, use_bias=False, feature_group_count=groups, rngs=rngs
        )
        self.norm = nnx.BatchNorm(outputs, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.norm(self.conv(x))


class BasicBlock(nnx.Module):
    def __init__(self, inputs: int, channels: int, stride: int, rngs: nnx.Rngs):
        self.first = ConvNorm(inputs, channels, 3, stride, rngs=rngs)
        self.second = ConvNorm(channels, channels, 3, rngs=rngs)
        self.skip = ConvNorm(inputs, channels, 1, stride, rngs=rngs) if stride > 1 else None

    def __call__(self, x: Any) -> Any:
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(y + (x if self.skip is None else self.skip(x)))


class ResNet(nnx.Module):
    def __init__(self, sizes: w.ResNet, rngs: nnx.Rngs):
        self.stem = ConvNorm(sizes.shape[-1], sizes.width, 3, rngs=rngs)
        before, blocks = sizes.width, []
        for channels, stride in sizes.plan():
            blocks.append(BasicBlock(before, channels, stride, rngs))
            before = channels
        self.blocks = nnx.List(blocks)
        self.out = nnx.Linear(before, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((1, 2)))


class InvertedResidual(nnx.Module):
    def __init__(self, inputs: int, expansion: int, channels: int, stride: int, rngs: nnx.Rngs):
        inside = inputs * expansion
        self.expand = ConvNorm(inputs, inside, 1, rngs=rngs) if expansion > 1 else None
        self.depthwise = ConvNorm(inside, inside, 3, stride, groups=inside, rngs=rngs)
        self.project = ConvNorm(inside, channels, 1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = x if self.expand is None else nnx.relu6(self.expand(x))
        y = self.project(nnx.relu6(self.depthwise(y)))
        return x + y if y.shape == x.shape else y


class MobileNet(nnx.Module):
    def __init__(self, sizes: w.MobileNet, rngs: nnx.Rngs):
        self.stem = ConvNorm(sizes.shape[-1], sizes.stem, 3, rngs=rngs)
        before, blocks = sizes.stem, []
        for expansion, channels, stride in sizes.plan():
            blocks.append(InvertedResidual(before, expansion, channels, stride, rngs))
            before = channels
        self.blocks = nnx.List(blocks)
        self.head = ConvNorm(before, sizes.head, 1, rngs=rngs)
        self.out = nnx.Linear(sizes.head, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.out(nnx.relu6(self.head(x)).mean((1, 2)))


class Recurrent(nnx.Module):
    def __init__(self, cell: Any, sizes: w.LSTM, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(sizes.vocabulary, sizes.features, rngs=rngs)
        self.rnn = nnx.RNN(cell(sizes.features, sizes.units, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(sizes.units, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(self.rnn(self.embedding(x))[:, -1])


class Block(nnx.Module):
    def __init__(self, sizes: w.Transformer, rngs: nnx.Rngs):
        n = sizes.features
        self.norm1, self.norm2 = (nnx.LayerNorm(n, epsilon=EPSILON, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(sizes.heads, n, decode=False, rngs=rngs)
        self.up = nnx.Linear(n, sizes.hidden, rngs=rngs)
        self.down = nnx.Linear(sizes.hidden, n, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.relu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    def __init__(self, sizes: w.Transformer, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(sizes.vocabulary, sizes.features, rngs=rngs)
        shape = (*sizes.shape, sizes.features)
        self.positions = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), shape))
        self.blocks = nnx.List([Block(sizes, rngs) for _ in range(sizes.layers)])
        self.norm = nnx.LayerNorm(sizes.features, epsilon=EPSILON, rngs=rngs)
        self.out = nnx.Linear(sizes.features, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.tokens(x) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(1))


MODELS: dict[str, Any] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "mobilenet": MobileNet,
    "lstm": functools.partial(Recurrent, nnx.OptimizedLSTMCell),
    "gru": functools.partial(Recurrent, nnx.GRUCell),
    "transformer": Transformer,
}


def program(workload: w.Workload) -> Program:
    model = MODELS[workload.kind](workload, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    graph, state = nnx.split((model, optimizer))
    still = nnx.view(model, use_running_average=True, raise_if_not_found=False)
    still_graph, _ = nnx.split(still)
    parameters = count(nnx.state(model, nnx.Param))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        model, optimizer = nnx.merge(graph, state)

        def loss_of(model: nnx.Module) -> jax.Array:
            return cross_entropy(model(x), y)  # type: ignore[operator]

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer)), loss

    @jax.jit
    def predict(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(still_graph, state[0])(x)  # type: ignore[operator]

    return jax_program(step, predict, state, *workload.data(), parameters)
