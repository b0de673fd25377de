"""jlayers, as its README advises: a model, `make_train_step`, `make_predict_step`."""

from __future__ import annotations

import functools
from typing import Any

import jax

import jlayers as jl
from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import count, jax_program
from benchmarks.workloads import ADAM, CLASSES, EPSILON, MOMENTUM

Norm = functools.partial(jl.BatchNormalization, momentum=MOMENTUM, epsilon=EPSILON)


def mlp(sizes: w.MLP) -> jl.Layer:
    return jl.Sequential(*(jl.Dense(width, activation="relu") for width in sizes.widths), jl.Dense(CLASSES))


def cnn(sizes: w.CNN) -> jl.Layer:
    return jl.Sequential(
        jl.Conv2D(sizes.filters, 3, activation="relu"),
        jl.MaxPooling2D(2),
        jl.Flatten(),
        jl.Dense(sizes.units, activation="relu"),
        jl.Dense(CLASSES),
    )


def conv_norm(filters: int, kernel: int, stride: int = 1) -> list[jl.Layer]:
    return [jl.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False), Norm()]


def resnet(sizes: w.ResNet) -> jl.Layer:
    image = x = jl.Input(sizes.shape)
    x = jl.ReLU()(jl.Sequential(*conv_norm(sizes.width, 3))(x))
    for channels, stride in sizes.plan():
        skip = x if stride == 1 else jl.Sequential(*conv_norm(channels, 1, stride))(x)
        body = jl.Sequential(*conv_norm(channels, 3, stride), jl.ReLU(), *conv_norm(channels, 3))
        x = jl.ReLU()(jl.Add()([body(x), skip]))
    return jl.Model(image, jl.Dense(CLASSES)(jl.GlobalAveragePooling2D()(x)))


def mobilenet(sizes: w.MobileNet) -> jl.Layer:
    layers = [*conv_norm(sizes.stem, 3), jl.ReLU(max_value=6.0)]
    before = sizes.stem
    for expansion, channels, stride in sizes.plan():
        inside = before * expansion
        expand = [*conv_norm(inside, 1), jl.ReLU(max_value=6.0)] if expansion > 1 else []
        block = jl.Sequential(
            *expand,
            jl.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False),
            Norm(),
            jl.ReLU(max_value=6.0),
            *conv_norm(channels, 1),
        )
        layers.append(jl.Residual(block) if stride == 1 and before == channels else block)
        before = channels
    layers += [*conv_norm(sizes.head, 1), jl.ReLU(max_value=6.0)]
    return jl.Sequential(*layers, jl.GlobalAveragePooling2D(), jl.Dense(CLASSES))


def recurrent(layer: Any, sizes: w.LSTM) -> jl.Layer:
    return jl.Sequential(
        jl.Embedding(sizes.vocabulary, sizes.features), layer(sizes.units), jl.Dense(CLASSES)
    )


def transformer(sizes: w.Transformer) -> jl.Layer:
    block = functools.partial(
        jl.TransformerEncoder, sizes.features, sizes.hidden, sizes.heads, normalize_first=True
    )
    return jl.Sequential(
        jl.Embedding(sizes.vocabulary, sizes.features),
        jl.Residual(jl.PositionEmbedding(*sizes.shape)),
        *(block(layer_norm_epsilon=EPSILON) for _ in range(sizes.layers)),
        jl.LayerNormalization(epsilon=EPSILON),
        jl.GlobalAveragePooling1D(),
        jl.Dense(CLASSES),
    )


MODELS: dict[str, Any] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": functools.partial(recurrent, jl.LSTM),
    "gru": functools.partial(recurrent, jl.GRU),
    "transformer": transformer,
}


def program(workload: w.Workload) -> Program:
    model = MODELS[workload.kind](workload)
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = jl.optimizers.adam(**ADAM)
    train_step = jl.make_train_step(model, loss, optimizer)
    predict_step = jl.make_predict_step(model)
    x, y = workload.data()
    state = jl.TrainState.create(model, optimizer, jax.random.key(0), x)

    def step(state: jl.TrainState, x: jax.Array, y: jax.Array) -> tuple[jl.TrainState, jax.Array]:
        state, logs = train_step(state, jl.Batch(x, y))
        return state, logs["loss"]  # the mean over all steps so far

    def predict(state: jl.TrainState, x: jax.Array) -> jax.Array:
        return predict_step(state.params, state.state, x)

    def lower(state: jl.TrainState, x: jax.Array, y: jax.Array) -> Any:
        return train_step.lower(state, jl.Batch(x, y))

    return jax_program(step, predict, state, x, y, count(state.params), lower)
