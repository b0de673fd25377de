"""Flax Linen, as its guides advise: compact modules, `TrainState`, `jax.jit` with a donated state."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.training import train_state

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import adam, count, cross_entropy, jax_program
from benchmarks.workloads import CLASSES, EPSILON, MOMENTUM

Norm = functools.partial(nn.BatchNorm, momentum=MOMENTUM, epsilon=EPSILON)


class MLP(nn.Module):
    sizes: w.MLP

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        for width in self.sizes.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(CLASSES)(x)


class CNN(nn.Module):
    sizes: w.CNN

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.relu(nn.Conv(self.sizes.filters, (3, 3), padding="VALID")(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.sizes.units)(x.reshape(x.shape[0], -1)))
        return nn.Dense(CLASSES)(x)


class ConvNorm(nn.Module):
    features: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        size, strides = (self.kernel,) * 2, (self.stride,) * 2
        x = nn.Conv(self.features, size, strides, use_bias=False, feature_group_count=self.groups)(x)
        return Norm(use_running_average=not train)(x)


class ResNet(nn.Module):
    sizes: w.ResNet

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.relu(ConvNorm(self.sizes.width, 3)(x, train))
        for channels, stride in self.sizes.plan():
            y = nn.relu(ConvNorm(channels, 3, stride)(x, train))
            y = ConvNorm(channels, 3)(y, train)
            x = nn.relu(y + (x if stride == 1 else ConvNorm(channels, 1, stride)(x, train)))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class MobileNet(nn.Module):
    sizes: w.MobileNet

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.relu6(ConvNorm(self.sizes.stem, 3)(x, train))
        for expansion, channels, stride in self.sizes.plan():
            inside = x.shape[-1] * expansion
            y = nn.relu6(ConvNorm(inside, 1)(x, train)) if expansion > 1 else x
            y = nn.relu6(ConvNorm(inside, 3, stride, groups=inside)(y, train))
            y = ConvNorm(channels, 1)(y, train)
            x = x + y if y.shape == x.shape else y
        x = nn.relu6(ConvNorm(self.sizes.head, 1)(x, train))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Recurrent(nn.Module):
    cell: Any
    sizes: w.LSTM

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.Embed(self.sizes.vocabulary, self.sizes.features)(x)
        x = nn.RNN(self.cell(self.sizes.units))(x)
        return nn.Dense(CLASSES)(x[:, -1])


class Block(nn.Module):
    sizes: w.Transformer

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = x + nn.MultiHeadDotProductAttention(self.sizes.heads)(nn.LayerNorm(epsilon=EPSILON)(x))
        y = nn.relu(nn.Dense(self.sizes.hidden)(nn.LayerNorm(epsilon=EPSILON)(x)))
        return x + nn.Dense(self.sizes.features)(y)


class Transformer(nn.Module):
    sizes: w.Transformer

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        shape = (*self.sizes.shape, self.sizes.features)
        x = nn.Embed(self.sizes.vocabulary, self.sizes.features)(x)
        x = x + self.param("positions", nn.initializers.normal(0.02), shape)
        for _ in range(self.sizes.layers):
            x = Block(self.sizes)(x)
        return nn.Dense(CLASSES)(nn.LayerNorm(epsilon=EPSILON)(x).mean(1))


MODELS: dict[str, Any] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "mobilenet": MobileNet,
    "lstm": functools.partial(Recurrent, nn.OptimizedLSTMCell),
    "gru": functools.partial(Recurrent, nn.GRUCell),
    "transformer": Transformer,
}


class TrainState(train_state.TrainState):
    batch_stats: Any


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, x: jax.Array, y: jax.Array) -> tuple[TrainState, jax.Array]:
    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, moved = state.apply_fn(variables, x, train=True, mutable=["batch_stats"])
        return cross_entropy(logits, y), moved.get("batch_stats", {})

    (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradients, batch_stats=moved), loss


@jax.jit
def predict(state: TrainState, x: jax.Array) -> jax.Array:
    return state.apply_fn({"params": state.params, "batch_stats": state.batch_stats}, x, train=False)


def program(workload: w.Workload) -> Program:
    model = MODELS[workload.kind](workload)
    x, y = workload.data()
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), jnp.asarray(x))
    state = TrainState.create(
        apply_fn=model.apply,
        params=variables["params"],
        tx=adam(),
        batch_stats=variables.get("batch_stats", {}),
    )
    return jax_program(train_step, predict, state, x, y, count(state.params))
