"""Keras 3 on JAX, in the training loop that its guide writes for JAX: `stateless_call`, `stateless_apply`.

That is what `fit` does inside, without what `fit` does around it. As `fit` does, the step donates its state.
`benchmarks/loops.py` measures `fit` itself.
"""

from __future__ import annotations

import functools
import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
from keras import layers

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.peers._jax import count, jax_program
from benchmarks.workloads import ADAM, CLASSES, EPSILON, MOMENTUM

Norm = functools.partial(layers.BatchNormalization, momentum=MOMENTUM, epsilon=EPSILON)


def mlp(sizes: w.MLP) -> keras.Model:
    hidden = [layers.Dense(width, activation="relu") for width in sizes.widths]
    return keras.Sequential([keras.Input(sizes.shape), *hidden, layers.Dense(CLASSES)])


def cnn(sizes: w.CNN) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(sizes.shape),
            layers.Conv2D(sizes.filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(sizes.units, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )


def conv_norm(x: Any, filters: int, kernel: int, stride: int = 1) -> Any:
    return Norm()(layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(x))


def resnet(sizes: w.ResNet) -> keras.Model:
    image = keras.Input(sizes.shape)
    x = layers.ReLU()(conv_norm(image, sizes.width, 3))
    for channels, stride in sizes.plan():
        y = layers.ReLU()(conv_norm(x, channels, 3, stride))
        y = conv_norm(y, channels, 3)
        x = layers.ReLU()(layers.Add()([y, x if stride == 1 else conv_norm(x, channels, 1, stride)]))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def mobilenet(sizes: w.MobileNet) -> keras.Model:
    image = keras.Input(sizes.shape)
    x = layers.ReLU(6.0)(conv_norm(image, sizes.stem, 3))
    for expansion, channels, stride in sizes.plan():
        y = layers.ReLU(6.0)(conv_norm(x, x.shape[-1] * expansion, 1)) if expansion > 1 else x
        y = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(y)
        y = conv_norm(layers.ReLU(6.0)(Norm()(y)), channels, 1)
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    x = layers.ReLU(6.0)(conv_norm(x, sizes.head, 1))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def recurrent(layer: Any, sizes: w.LSTM) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(sizes.shape, dtype="int32"),
            layers.Embedding(sizes.vocabulary, sizes.features),
            layer(sizes.units),
            layers.Dense(CLASSES),
        ]
    )


class AddPositions(layers.Layer):
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="uniform")

    def call(self, x: Any) -> Any:
        return x + self.table


def transformer(sizes: w.Transformer) -> keras.Model:
    tokens = keras.Input(sizes.shape, dtype="int32")
    x = AddPositions()(layers.Embedding(sizes.vocabulary, sizes.features)(tokens))
    for _ in range(sizes.layers):
        y = layers.LayerNormalization(epsilon=EPSILON)(x)
        x = x + layers.MultiHeadAttention(sizes.heads, sizes.features // sizes.heads)(y, y)
        y = layers.Dense(sizes.hidden, activation="relu")(layers.LayerNormalization(epsilon=EPSILON)(x))
        x = x + layers.Dense(sizes.features)(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=EPSILON)(x))
    return keras.Model(tokens, layers.Dense(CLASSES)(x))


MODELS: dict[str, Any] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": functools.partial(recurrent, layers.LSTM),
    "gru": functools.partial(recurrent, layers.GRU),
    "transformer": transformer,
}


def adam() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(ADAM["learning_rate"], ADAM["b1"], ADAM["b2"], ADAM["eps"])


def program(workload: w.Workload) -> Program:
    model = MODELS[workload.kind](workload)
    optimizer = adam()
    optimizer.build(model.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        params, state, opt_state = carry

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            logits, moved = model.stateless_call(params, state, x, training=True)
            return loss_fn(y, logits), moved

        (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        params, opt_state = optimizer.stateless_apply(opt_state, gradients, params)
        return (params, state, opt_state), loss

    @jax.jit
    def predict(carry: Any, x: jax.Array) -> jax.Array:
        return model.stateless_call(carry[0], carry[1], x, training=False)[0]

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    carry = tuple([variable.value for variable in group] for group in groups)
    return jax_program(step, predict, carry, *workload.data(), count(carry[0]))
