"""Errors that teach: each names the layer, what it expected, what it received, and what to do instead.

The tables hold the texts word for word, so that a change of one is seen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import MissingKeyError


def init(layer, *inputs):
    """Shapes alone: `init` without any computation."""
    return jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs))


def run(layer, *inputs, **options):
    params, state = layer.init(jax.random.key(0), *inputs)
    return layer.apply(params, state, *inputs, **options)[0]


def ints(*shape):
    return jax.ShapeDtypeStruct(shape, "int32")


# A layer's own errors: the call, its exception, the text.
LAYERS = [
    (
        lambda: jl.Dense(-3),
        ValueError,
        "Dense: expected units to be a positive whole number, received units=-3",
    ),
    (
        lambda: jl.Dense(2.0),
        ValueError,
        "Dense: expected units to be a positive whole number, received units=2.0",
    ),
    (
        lambda: jl.Dense(True),
        ValueError,
        "Dense: expected units to be a positive whole number, received units=True",
    ),
    (
        lambda: jl.Dense(2, activation="rleu"),
        KeyError,
        "Dense: unknown activation 'rleu': did you mean 'relu'?",
    ),
    (
        lambda: jl.Dense(2, kernel_initializer="glorot"),
        KeyError,
        "Dense: unknown initializer 'glorot': did you mean 'glorot_normal' or 'glorot_uniform'?",
    ),
    (
        lambda: jl.Dense(2, kernel_regularizer="l3"),
        KeyError,
        "Dense: unknown regularizer 'l3': valid: l1, l1_l2, l2, orthogonal_regularizer",
    ),
    (
        lambda: init(jl.Dense(2), (8,)),
        ValueError,
        "Dense: expected an input (batch, ..., features), received float32(8,); one number per example "
        "needs a features axis: x[:, None]",
    ),
    (
        lambda: init(jl.Dense(2), jax.ShapeDtypeStruct((8, 4), "complex64")),
        TypeError,
        "Dense: expected a floating input, received complex64(8, 4); convert it with x.astype('float32'), or "
        "put an Embedding before if these are indices",
    ),
    (
        lambda: jl.Dense(2).apply({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, {}, jnp.ones((8, 4))),
        ValueError,
        "Dense: expected 3 features (axis -1), for which the parameters were made, received float32(8, 4)",
    ),
    (
        lambda: jl.Dense(2, kernel_constraint="nonneg"),
        KeyError,
        "Dense: unknown constraint 'nonneg': did you mean 'non_neg'?",
    ),
    (
        lambda: jl.Activation(None),
        ValueError,
        "Activation: expected the name of an activation or a function, received activation=None",
    ),
    (
        lambda: jl.Lambda(None),
        TypeError,
        "Lambda: expected a function, received function=None",
    ),
    (
        lambda: jl.Conv2D(0, 3),
        ValueError,
        "Conv2D: expected filters to be a positive whole number, received filters=0",
    ),
    (
        lambda: jl.Conv2D(4, 0),
        ValueError,
        "Conv2D: expected kernel_size to be a whole number of at least 1, or 2 of them, received "
        "kernel_size=0",
    ),
    (
        lambda: jl.Conv2D(4, (3, 3, 3)),
        ValueError,
        "Conv2D: expected kernel_size to be a whole number of at least 1, or 2 of them, received "
        "kernel_size=(3, 3, 3)",
    ),
    (
        lambda: jl.Conv2D(4, 3, padding="full"),
        ValueError,
        "Conv2D: expected padding out of 'valid', 'same', received padding='full'",
    ),
    (
        lambda: jl.Conv2D(4, 3, padding="causal"),
        ValueError,
        "Conv2D: expected padding out of 'valid', 'same', received padding='causal'",
    ),
    (
        lambda: jl.Conv2D(4, 3, data_format="NHWC"),
        ValueError,
        "Conv2D: expected data_format out of 'channels_last', 'channels_first', received data_format='NHWC'",
    ),
    (
        lambda: jl.Conv2D(4, 3, strides=2, dilation_rate=2),
        ValueError,
        "Conv2D: expected strides or dilation_rate to be 1, received strides=2, dilation_rate=2",
    ),
    (
        lambda: jl.Conv2D(4, 3, groups=3),
        ValueError,
        "Conv2D: expected filters to be a multiple of groups, received filters=4, groups=3",
    ),
    (
        lambda: init(jl.Conv2D(4, 3, groups=2), (1, 8, 8, 3)),
        ValueError,
        "Conv2D: expected the channels of the input to be a multiple of groups, received groups=2, "
        "float32(1, 8, 8, 3)",
    ),
    (
        lambda: init(jl.Conv2D(4, 3), (28, 28, 1)),
        ValueError,
        "Conv2D: expected an input of 4 dimensions (batch, height, width, channels), received float32(28, "
        "28, 1); the batch dimension may be missing: add one with x[None]",
    ),
    (
        lambda: init(jl.Conv2D(4, 5, dilation_rate=2), (1, 8, 8, 3)),
        ValueError,
        "Conv2D: the window (9, 9) is larger than the input float32(1, 8, 8, 3): expected a larger input, a"
        " smaller window, or padding='same', received padding='valid'",
    ),
    (
        lambda: jl.Conv2D(4, 1).apply(
            {"kernel": jnp.ones((1, 1, 3, 4)), "bias": jnp.ones(4)}, {}, jnp.ones((1, 8, 8, 1))
        ),
        ValueError,
        "Conv2D: expected 3 channels (axis -1), for which the parameters were made, received float32(1, 8, "
        "8, 1)",
    ),
    (
        lambda: jl.Conv2D(4, 3, strides=-1),
        ValueError,
        "Conv2D: expected strides to be a whole number of at least 1, or 2 of them, received strides=-1",
    ),
    (
        lambda: jl.Conv2D(4, 3, groups=0),
        ValueError,
        "Conv2D: expected groups to be a positive whole number, received groups=0",
    ),
    (
        lambda: jl.Conv2D(4, 3, padding="smae"),
        ValueError,
        "Conv2D: expected padding out of 'valid', 'same', received padding='smae': did you mean 'same'?",
    ),
    (
        lambda: jl.Conv1D(4, 3, strides=0),
        ValueError,
        "Conv1D: expected strides to be a whole number of at least 1, received strides=0",
    ),
    (
        lambda: init(jl.MaxPooling2D(3), (1, 2, 8, 3)),
        ValueError,
        "MaxPooling2D: the window (3, 3) is larger than the input float32(1, 2, 8, 3): expected a larger "
        "input, a smaller window, or padding='same', received padding='valid'",
    ),
    (
        lambda: jl.MaxPooling2D(0),
        ValueError,
        "MaxPooling2D: expected pool_size to be a whole number of at least 1, or 2 of them, received "
        "pool_size=0",
    ),
    (
        lambda: init(jl.AveragePooling1D(3), (1, 8)),
        ValueError,
        "AveragePooling1D: expected an input of 3 dimensions (batch, steps, channels), received float32(1, "
        "8); the batch dimension may be missing: add one with x[None]",
    ),
    (
        lambda: init(jl.GlobalMaxPooling2D(data_format="channels_first"), (1, 8)),
        ValueError,
        "GlobalMaxPooling2D: expected an input of 4 dimensions (batch, channels, height, width), received "
        "float32(1, 8)",
    ),
    (
        lambda: jl.Dropout(1.5),
        ValueError,
        "Dropout: expected rate between 0 and 1, received rate=1.5; it is the fraction to drop, not per cent",
    ),
    (
        lambda: jl.Dropout(-0.1),
        ValueError,
        "Dropout: expected rate between 0 and 1, received rate=-0.1; it is the fraction to drop, not per "
        "cent",
    ),
    (
        lambda: init(jl.Dropout(0.5, noise_shape=(None, 3)), (2, 4)),
        ValueError,
        "Dropout: expected noise_shape to have 1, None or the input's size for each dimension, received "
        "noise_shape=(None, 3), float32(2, 4)",
    ),
    (
        lambda: jl.Dropout("0.5"),
        ValueError,
        "Dropout: expected rate between 0 and 1, received rate='0.5'; it is the fraction to drop, not per "
        "cent",
    ),
    (
        lambda: jl.GaussianNoise(-1.0),
        ValueError,
        "GaussianNoise: expected stddev >= 0, received stddev=-1.0",
    ),
    (
        lambda: jl.ActivityRegularization(l1=-1.0),
        ValueError,
        "ActivityRegularization: expected l1 >= 0, received l1=-1.0",
    ),
    (
        lambda: jl.BatchNormalization(momentum=2.0),
        ValueError,
        "BatchNormalization: expected momentum between 0 and 1, received momentum=2.0",
    ),
    (
        lambda: init(jl.BatchNormalization(axis=2), (3, 4)),
        ValueError,
        "BatchNormalization: expected an axis from -2 to 1, which the input has, received axis=2, "
        "float32(3, 4)",
    ),
    (
        lambda: init(jl.BatchNormalization(axis=0), (3, 4)),
        ValueError,
        "BatchNormalization: expected distinct axes after the batch, received axis=0, float32(3, 4)",
    ),
    (
        lambda: jl.LayerNormalization(epsilon=0.0),
        ValueError,
        "LayerNormalization: expected epsilon > 0, received epsilon=0.0",
    ),
    (
        lambda: init(jl.LayerNormalization(axis=(1, -1)), (3, 4)),
        ValueError,
        "LayerNormalization: expected distinct axes after the batch, received axis=(1, -1), float32(3, 4)",
    ),
    (
        lambda: jl.LayerNormalization()(jl.Input((None,))),
        ValueError,
        "LayerNormalization: expected a fixed size along axis (1,), for which parameters are made, received"
        " float32(None, None)",
    ),
    (
        lambda: init(jl.GroupNormalization(3), (2, 4)),
        ValueError,
        "GroupNormalization: expected the channels (axis 1) to be a multiple of groups, received groups=3, "
        "float32(2, 4)",
    ),
    (
        lambda: jl.GroupNormalization(0),
        ValueError,
        "GroupNormalization: expected groups to be a positive whole number, received groups=0",
    ),
    (
        lambda: init(jl.Embedding(10, 4), (2, 3)),
        TypeError,
        "Embedding: expected whole numbers, received float32(2, 3); convert with x.astype('int32'), and in "
        "a graph write jl.Input(shape, dtype='int32')",
    ),
    (
        lambda: jl.Embedding(0, 4),
        ValueError,
        "Embedding: expected input_dim to be a positive whole number, received input_dim=0",
    ),
    (
        lambda: jl.Embedding(5, -1),
        ValueError,
        "Embedding: expected output_dim to be a positive whole number, received output_dim=-1",
    ),
    (
        lambda: jl.Reshape((-1, -1)),
        ValueError,
        "Reshape: expected sizes of 0 or more without the batch, at most one of them -1, received "
        "target_shape=(-1, -1)",
    ),
    (
        lambda: init(jl.Reshape((5, -1)), (2, 12)),
        ValueError,
        "Reshape: expected target_shape to hold the 12 elements of an example, received target_shape=(5, "
        "-1), float32(2, 12); one size may be -1, to be worked out",
    ),
    (
        lambda: init(jl.Reshape((3, 5)), (2, 12)),
        ValueError,
        "Reshape: expected target_shape to hold the 12 elements of an example, received target_shape=(3, "
        "5), float32(2, 12); one size may be -1, to be worked out",
    ),
    (
        lambda: jl.Permute((0, 1)),
        ValueError,
        "Permute: expected each of 1 to 2 once (the batch is 0), received dims=(0, 1)",
    ),
    (
        lambda: init(jl.RepeatVector(2), (2, 3, 4)),
        ValueError,
        "RepeatVector: expected an input of 2 dimensions (batch, features), received float32(2, 3, 4)",
    ),
    (
        lambda: jl.ZeroPadding2D((1, 2, 3)),
        ValueError,
        "ZeroPadding2D: expected padding as one whole number or 2 entries, received padding=(1, 2, 3)",
    ),
    (
        lambda: init(jl.Cropping1D(3), (2, 6, 1)),
        ValueError,
        "Cropping1D: expected to leave at least one position, received cropping=3, float32(2, 6, 1)",
    ),
    (
        lambda: jl.UpSampling2D(interpolation="cubic"),
        ValueError,
        "UpSampling2D: expected interpolation out of 'nearest', 'bilinear', 'bicubic', 'lanczos3', "
        "'lanczos5', received interpolation='cubic': did you mean 'bicubic'?",
    ),
    (
        lambda: init(jl.Add(), (2, 3), (2, 4)),
        ValueError,
        "Add: expected inputs whose sizes are equal or 1, received float32(2, 3), float32(2, 4)",
    ),
    (
        lambda: init(jl.Multiply(), (2, 3), (4, 3)),
        ValueError,
        "Multiply: expected inputs whose sizes are equal or 1, received float32(2, 3), float32(4, 3)",
    ),
    (
        lambda: init(jl.Subtract(), (2, 3)),
        ValueError,
        "Subtract: expected 2 inputs, received 1: float32(2, 3)",
    ),
    (
        lambda: init(jl.Average()),
        ValueError,
        "Average: expected at least one input, received none",
    ),
    (
        lambda: init(jl.Concatenate(), (2, 3, 4), (2, 5, 4)),
        ValueError,
        "Concatenate: expected inputs that differ only along the given axis, received axis=-1, "
        "float32(2, 3, 4), float32(2, 5, 4)",
    ),
    (
        lambda: init(jl.Concatenate(axis=4), (2, 3), (2, 3)),
        ValueError,
        "Concatenate: expected an axis from -2 to 1, which the input has, received axis=4, float32(2, 3)",
    ),
    (
        lambda: jl.Dot(0),
        ValueError,
        "Dot: expected one axis or two, not 0 (the batch), received axes=0",
    ),
    (
        lambda: init(jl.Dot(1), (2, 3), (2, 4)),
        ValueError,
        "Dot: expected one batch size and equal sizes along axes, neither of which is the batch, received "
        "axes=(1, 1), float32(2, 3), float32(2, 4)",
    ),
    (
        lambda: jl.ReLU(threshold=-1.0),
        ValueError,
        "ReLU: expected threshold >= 0, received threshold=-1.0",
    ),
    (
        lambda: init(jl.PReLU(shared_axes=(0,)), (2, 3)),
        ValueError,
        "PReLU: expected shared_axes to hold every axis of no fixed size, and not the batch, received "
        "shared_axes=(0,), float32(2, 3)",
    ),
    (
        lambda: init(jl.Softmax(axis=3), (2, 3)),
        ValueError,
        "Softmax: expected an axis from -2 to 1, which the input has, received axis=3, float32(2, 3)",
    ),
    (
        lambda: jl.MultiHeadAttention(0, 3),
        ValueError,
        "MultiHeadAttention: expected num_heads to be a positive whole number, received num_heads=0",
    ),
    (
        lambda: jl.MultiHeadAttention(2, -3),
        ValueError,
        "MultiHeadAttention: expected key_dim to be a positive whole number, received key_dim=-3",
    ),
    (
        lambda: jl.MultiHeadAttention(2, 3, value_dim=0),
        ValueError,
        "MultiHeadAttention: expected value_dim to be a positive whole number, received value_dim=0",
    ),
    (
        lambda: jl.MultiHeadAttention(2, 3, dropout=2.0),
        ValueError,
        "MultiHeadAttention: expected dropout between 0 and 1, received dropout=2.0",
    ),
    (
        lambda: jl.MultiHeadAttention(2, 3, sliding_window=0),
        ValueError,
        "MultiHeadAttention: expected sliding_window to be a positive whole number, received "
        "sliding_window=0",
    ),
    (
        lambda: jl.MultiHeadAttention(2, 3, output_shape=0),
        ValueError,
        "MultiHeadAttention: expected output_shape to be a positive whole number, received output_shape=0",
    ),
    (
        lambda: jl.MultiHeadAttention(2, 3, kernel_initializer="glorot"),
        KeyError,
        "MultiHeadAttention: unknown initializer 'glorot': did you mean 'glorot_normal' or 'glorot_uniform'?",
    ),
    (
        lambda: jl.GroupQueryAttention(3, 4, 3),
        ValueError,
        "GroupQueryAttention: expected num_query_heads to be a multiple of num_key_value_heads, received "
        "num_query_heads=4, num_key_value_heads=3",
    ),
    (
        lambda: jl.TransformerEncoder(4, 8, 3),
        ValueError,
        "TransformerEncoder: expected hidden_dim to be a multiple of num_heads, received hidden_dim=4, "
        "num_heads=3",
    ),
    (
        lambda: jl.Attention(score_mode="dto"),
        ValueError,
        "Attention: expected score_mode out of 'dot', 'concat', received score_mode='dto': did you mean "
        "'dot'?",
    ),
    (
        lambda: jl.AdditiveAttention(dropout=-1.0),
        ValueError,
        "AdditiveAttention: expected dropout between 0 and 1, received dropout=-1.0",
    ),
    (
        lambda: init(jl.RotaryEmbedding(), (2, 3, 5)),
        ValueError,
        "RotaryEmbedding: expected an even number of features along axis -1 and positions along another "
        "after the batch, received sequence_axis=1, float32(2, 3, 5)",
    ),
    (
        lambda: jl.LSTM(-1),
        ValueError,
        "LSTM: expected units to be a positive whole number, received units=-1",
    ),
    (
        lambda: init(jl.LSTM(3), (2, 4)),
        ValueError,
        "LSTM: expected an input of 3 dimensions (batch, time, features), received float32(2, 4); the batch"
        " dimension may be missing: add one with x[None]",
    ),
    (
        lambda: init(jl.LSTM(3), (2, 4, 3), (2, 3)),
        ValueError,
        "LSTM: expected the initial state h, c, each of shape (batch, units) = (2, 3), received float32(2, "
        "3)",
    ),
    (
        lambda: jl.GRU(3, recurrent_dropout=1.5),
        ValueError,
        "GRU: expected recurrent_dropout between 0 and 1, received recurrent_dropout=1.5",
    ),
    (
        lambda: jl.Bidirectional(jl.Dense(3)),
        TypeError,
        "Bidirectional: expected a recurrent layer such as LSTM, with the argument go_backwards, received "
        "layer=Dense(3); use TimeDistributed for a layer of single steps",
    ),
    (
        lambda: init(jl.TimeDistributed(jl.Dense(3)), (2, 4)),
        ValueError,
        "TimeDistributed: expected inputs of at least three dimensions (batch, time, ...), received "
        "float32(2, 4); the batch dimension may be missing: add one with x[None]",
    ),
    (
        lambda: jl.Conv2DTranspose(3, 2, strides=2, output_padding=2),
        ValueError,
        "Conv2DTranspose: expected output_padding below strides, received output_padding=2, strides=2",
    ),
    (
        lambda: jl.DepthwiseConv2D(3, depth_multiplier=0),
        ValueError,
        "DepthwiseConv2D: expected depth_multiplier to be a positive whole number, received "
        "depth_multiplier=0",
    ),
    (
        lambda: init(jl.SeparableConv2D(3, 9), (1, 4, 4, 2)),
        ValueError,
        "SeparableConv2D: the window (9, 9) is larger than the input float32(1, 4, 4, 2): expected a larger"
        " input, a smaller window, or padding='same', received padding='valid'",
    ),
    (
        lambda: jl.AdaptiveMaxPooling2D(0),
        ValueError,
        "AdaptiveMaxPooling2D: expected output_size to be a whole number of at least 1, or 2 of them, "
        "received output_size=0",
    ),
    (
        lambda: jl.EinsumDense("ab,bc", 3),
        ValueError,
        "EinsumDense: expected an equation such as 'abc,cd->abd', '...c,cd->...d' or 'ab...,bc->ac...', "
        "received equation='ab,bc'",
    ),
    (
        lambda: jl.GaussianDropout(1.0),
        ValueError,
        "GaussianDropout: expected a rate below 1, where the noise is infinite, received rate=1.0",
    ),
]

# Errors of what all layers share: of their calls, of names, of containers.
SHARED = [
    (
        lambda: run(jl.Dropout(0.5), jnp.ones((2, 3)), train=True),
        MissingKeyError,
        "this layer draws random numbers here and was given none to draw from: expected a PRNG key, "
        "received key=None; pass key=jax.random.key(seed) to apply",
    ),
    (
        lambda: jl.Dense(2, kernel_regularizer=jl.initializers.zeros()),
        TypeError,
        "expected a regularizer, received the initializer zeros()",
    ),
    (
        lambda: jl.Dense(2, dtype="float16"),
        TypeError,
        "Dense: expected Keras's dtype under the name precision, received dtype='float16'; write "
        "precision='mixed_bfloat16' or the name of another policy",
    ),
    (
        lambda: jl.Dropout(0.5, seed=1),
        TypeError,
        "Dropout: expected no seed, for randomness is explicit, received seed=1; give the key to the call: "
        "apply(..., key=key)",
    ),
    (
        lambda: jl.Dropout(0.5)(jl.Input((3,)), training=True),
        TypeError,
        "Dropout: expected inputs by position only, received training=True; write "
        "layer.apply(..., train=True); for a part that stays in inference mode while it is trained, write "
        "jl.Inference(layer)(x), and to hold it still, jl.freeze(layer)(x)",
    ),
    (
        lambda: jl.Softmax()(jl.Input((3,)), axis=1),
        TypeError,
        "Softmax: expected inputs by position only, received axis=1; other inputs of a Keras call are "
        "arguments of the constructor here",
    ),
    (
        lambda: jl.Dense(2).fit,
        AttributeError,
        "a layer has no attribute 'fit'; write jl.fit(jl.compile(model, optimizer, loss), x, y)",
    ),
    (
        lambda: jl.Dense(2).unit,
        AttributeError,
        "a layer has no attribute 'unit'",
    ),
    (
        lambda: type("Mine", (jl.Layer,), {}),
        TypeError,
        "Mine: expected a function under @jl.layer that returns a pair (init, apply), received a subclass of "
        "jl.Layer, which is what such functions make",
    ),
    (
        lambda: jl.Input((3,), name="a") > 1,
        TypeError,
        "a node stands for values that are not there yet, received > 1 of <Node float32(None, 3) of a>; + - "
        "* / ** and a[:, 0] work on nodes, and any other function in a layer: jl.Lambda(function)(node), or "
        "jl.Activation('tanh')(node)",
    ),
    (
        lambda: jl.Dense(2, unit=3),
        TypeError,
        "Dense has no argument 'unit' (received unit=3): did you mean 'units'?",
    ),
    (
        lambda: jl.Dense(),
        TypeError,
        "Dense: missing a required argument: 'units'; expected Dense(units, activation=None, use_bias=True,"
        " kernel_initializer='glorot_uniform', bias_initializer='zeros', kernel_regularizer=None, "
        "bias_regularizer=None, activity_regularizer=None, kernel_constraint=None, bias_constraint=None)",
    ),
    (
        lambda: jl.AveragePooling2D(),
        TypeError,
        "AveragePooling2D: missing a required argument: 'pool_size'; expected AveragePooling2D(pool_size, "
        "strides=None, padding='valid', data_format=None)",
    ),
    (
        lambda: jl.Sequential("Desne"),
        KeyError,
        "unknown layer 'Desne': did you mean 'Dense'?",
    ),
    (
        lambda: jl.Sequential(3),
        TypeError,
        "Sequential, position 0: expected a layer, received 3; wrap a function in "
        "jl.Activation(function), or in jl.Lambda(function)",
    ),
    (
        lambda: jl.Sequential(jl.Dense),
        TypeError,
        "Sequential, position 0: received the constructor Dense; call it: Dense(...)",
    ),
]


def text_of(call, kind):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(("call", "kind", "text"), LAYERS, ids=[text[:60] for _, _, text in LAYERS])
def test_layer(call, kind, text):
    assert text_of(call, kind) == text
    name, _, said = text.partition(": ")
    assert name in jl.core.layer.layers
    if kind is KeyError:
        assert said.startswith("unknown ")
        assert "did you mean" in said or "valid: " in said
    else:
        assert "expected " in said
        assert "received " in said


@pytest.mark.parametrize(("call", "kind", "text"), SHARED, ids=[text[:60] for _, _, text in SHARED])
def test_what_all_layers_share(call, kind, text):
    assert text_of(call, kind) == text


def test_a_container_adds_the_path_and_the_inputs():
    model = jl.Sequential(jl.Dense(3), jl.Sequential(jl.Conv2D(2, 3), name="inner"))
    with pytest.raises(ValueError, match=r"^Conv2D: expected an input of 4 dimensions") as caught:
        init(model, (2, 4))
    assert "in layer 'inner/conv2d': Conv2D(2, 3), inputs float32(2, 3)" in caught.value.__notes__


# --------------------------------------------------------------------------------------- training

X = np.zeros((8, 4), np.float32)


def fit(y, loss="mse", metrics=(), units=1, optimizer="sgd"):
    trainer = jl.compile(jl.Sequential(jl.Dense(units)), optimizer, loss, metrics)
    return jl.fit(trainer, X, y, epochs=1, batch_size=8)


TRAINING = [
    (
        lambda: jl.losses.get("mse")(np.zeros(8, np.float32), np.zeros((8, 1), np.float32)),
        ValueError,
        "expected y_true and y_pred of equal shapes, received y_true=float32(8,) and y_pred=float32(8, 1); "
        "give y the axis that the predictions have: y[..., None]",
    ),
    (
        lambda: fit(np.zeros((8, 3), np.float32)),
        ValueError,
        "expected y_true and y_pred of equal shapes, received y_true=float32(8, 3) and "
        "y_pred=float32(8, 1); change the model's last layer or the targets",
    ),
    (
        lambda: fit(np.full(8, 3), "sparse_categorical_crossentropy", units=3),
        ValueError,
        "expected class numbers from 0 to 2, as the model has 3 outputs, received y[0]=3; number the "
        "classes from 0, or give the last layer more units",
    ),
    (
        lambda: fit(np.ones(8, np.float32), "sparse_categorical_crossentropy", units=3),
        TypeError,
        "expected class numbers of an integer dtype, received y_true=float32(8,); convert them with "
        "y.astype('int32'), or use 'categorical_crossentropy' if they are one-hot",
    ),
    (
        lambda: fit(X[:, :1], metrics=["acuracy"]),
        KeyError,
        "unknown metric 'acuracy': did you mean 'Accuracy'?",
    ),
    (
        lambda: fit(X[:, :1], loss="mean_squared"),
        KeyError,
        "unknown loss 'mean_squared': did you mean 'MeanSquaredError'?",
    ),
    (
        lambda: fit(X[:, :1], optimizer="adm"),
        KeyError,
        "unknown optimizer 'adm': did you mean 'adam'?",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), TRAINING, ids=[text[:60] for _, _, text in TRAINING])
def test_training(call, kind, text):
    assert text_of(call, kind) == text


# ------------------------------------------------------------- numbers outside of an embedding's table

WORDS = np.array([[0, 4, 2], [3, 5, 1]], np.int32)
OUT_OF_RANGE = (
    "Embedding: expected whole numbers from 0 to 4 for input_dim=5 (layer 'embedding'), received "
    "{0}[1, 1]=5; count from 0 and give unknown ones a number of their own, or make input_dim larger"
)


def texts():
    return jl.Sequential(jl.Embedding(5, 2), jl.Flatten(), jl.Dense(1))


def test_a_program_shows_numbers_out_of_range_as_nan():
    """It cannot raise on values; compiled or not, the vector is NaN, also for -1, which Keras wraps."""
    table = jl.Embedding(5, 2)
    params, state = table.init(jax.random.key(0), WORDS)
    for apply in (table.apply, jax.jit(table.apply)):
        vectors, _ = apply(params, state, jnp.array([0, 5, -1]))
        assert jnp.isnan(vectors).any(axis=1).tolist() == [False, True, True]


def test_training_and_prediction_refuse_numbers_out_of_range():
    trainer, y = jl.compile(texts(), loss="mse"), np.zeros((2, 1), np.float32)
    state, _ = jl.fit(trainer, WORDS % 5, y, epochs=0)
    calls = [
        lambda: jl.fit(trainer, WORDS, y),
        lambda: jl.fit(trainer, WORDS % 5, y, validation_data=(WORDS, y)),
        lambda: jl.fit(trainer, [(WORDS, y)], epochs=1),
        lambda: jl.evaluate(trainer, state, WORDS, y),
        lambda: jl.predict(trainer, state, WORDS),
        lambda: jl.predict(trainer.model, state, WORDS),
    ]
    for call in calls:
        assert text_of(call, ValueError) == OUT_OF_RANGE.format("x")
    with pytest.raises(ValueError, match=r"received x\[0, 2\]=-1; count from 0"):
        jl.predict(trainer, state, np.array([[0, 1, -1]]))


def test_the_smallest_table_counts_and_the_input_is_named():
    words, other = jl.Input((3,), dtype="int32", name="words"), jl.Input((3,), dtype="int32", name="other")
    large, small = jl.Embedding(9, 2, name="large")(words), jl.Embedding(5, 2, name="small")(words)
    shifted = jl.Embedding(9, 2)(jl.Lambda(lambda x: x + 1)(other))  # what it sees is not what is fed
    model = jl.Model({"words": words, "other": other}, jl.Add()(large, small, shifted))
    weights = model.init(jax.random.key(0), {"words": ints(2, 3), "other": ints(2, 3)})
    expected = OUT_OF_RANGE.format("x['words']").replace("'embedding'", "'small'")
    call = {"words": WORDS, "other": WORDS}
    assert text_of(lambda: jl.predict(model, weights, call), ValueError) == expected
    call = {"words": WORDS % 5, "other": WORDS - 1}
    assert jl.predict(model, weights, call).shape == (2, 3, 2)
