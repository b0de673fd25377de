"""Each layer against its Keras namesake: same call, same weights, same numbers."""

from __future__ import annotations

import pytest
from keras_parity import data, parity

IMAGE, SEQUENCE, VOLUME, VECTOR = (2, 9, 8, 6), (2, 10, 6), (2, 5, 4, 6, 2), (3, 5)


@pytest.mark.parametrize("shape", [VECTOR, (2, 4, 5)], ids=str)
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(shape, use_bias):
    parity("Dense", data(shape), units=4, use_bias=use_bias, activation="tanh")


@pytest.mark.parametrize("activation", ["relu", "softmax"])
def test_activation(activation):
    parity("Activation", data(VECTOR), activation=activation)


def test_identity():
    parity("Identity", data(VECTOR))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding": "same", "strides": 2, "activation": "relu"},
        {"padding": "causal", "dilation_rate": 2, "use_bias": False},
        {"padding": "causal", "strides": 3},
        {"groups": 2},
    ],
    ids=str,
)
def test_conv1d(arguments):
    parity("Conv1D", data(SEQUENCE), filters=4, kernel_size=3, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "activation": "relu", "use_bias": False},
        {"kernel_size": 3, "padding": "same", "strides": 2},
        {"kernel_size": 2, "padding": "same", "strides": (2, 3)},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 3, "dilation_rate": (2, 1), "padding": "same"},
        {"kernel_size": 3, "strides": (3, 2)},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 1, "groups": 1, "strides": 2, "padding": "same"},
    ],
    ids=str,
)
def test_conv2d(arguments):
    parity("Conv2D", data(IMAGE), filters=4, **arguments)


def test_conv3d():
    parity("Conv3D", data(VOLUME), filters=3, kernel_size=(2, 3, 2), padding="same", strides=(1, 2, 1))
    parity("Conv3D", data((2, 3, 3, 3, 4)), filters=2, kernel_size=2, groups=2, activation="relu")


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("rank", "pool_size", "strides"),
    [
        (1, 3, 2),
        (1, 2, None),
        (2, (2, 2), None),
        (2, (3, 3), None),
        (2, (3, 3), 2),
        (2, (2, 3), (1, 2)),
        (3, 2, None),
    ],
)
def test_pooling(kind, padding, rank, pool_size, strides):
    x = data({1: SEQUENCE, 2: IMAGE, 3: VOLUME}[rank])
    parity(f"{kind}Pooling{rank}D", x, pool_size=pool_size, strides=strides, padding=padding)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(("rank", "keepdims"), [(1, False), (2, False), (2, True), (3, True)])
def test_global_pooling(kind, rank, keepdims):
    x = data({1: SEQUENCE, 2: IMAGE, 3: VOLUME}[rank])
    parity(f"Global{kind}Pooling{rank}D", x, keepdims=keepdims)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MaxPooling2D", {}),
        ("AveragePooling2D", {"pool_size": 2, "padding": "same"}),
        ("GlobalAveragePooling2D", {"keepdims": True}),
        ("GlobalMaxPooling2D", {}),
        ("Flatten", {}),
        ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}),
        ("Cropping2D", {"cropping": (1, 2)}),
        ("UpSampling2D", {}),
        ("SpatialDropout2D", {"rate": 0.5}),
        ("Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", "groups": 3}),
        ("Conv1D", {"filters": 2, "kernel_size": 2, "dilation_rate": 2}),
        ("Conv3D", {"filters": 2, "kernel_size": 2, "dilation_rate": (2, 1, 1), "use_bias": False}),
        ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2}),
        (
            "Conv3DTranspose",
            {"filters": 2, "kernel_size": 2, "dilation_rate": (1, 2, 1), "activation": "tanh"},
        ),
        ("DepthwiseConv1D", {"kernel_size": 2, "depth_multiplier": 2}),
        ("SeparableConv1D", {"filters": 2, "kernel_size": 2}),
        ("MaxPooling1D", {"pool_size": 3, "strides": 2}),
        ("AveragePooling1D", {"pool_size": 2, "padding": "same"}),
        ("MaxPooling3D", {"strides": (1, 2, 1)}),
        ("AveragePooling3D", {"pool_size": 2, "strides": 1, "padding": "same"}),
        ("GlobalAveragePooling1D", {"keepdims": True}),
        ("GlobalMaxPooling1D", {}),
        ("GlobalAveragePooling3D", {}),
        ("GlobalMaxPooling3D", {"keepdims": True}),
        ("ZeroPadding1D", {"padding": (1, 2)}),
        ("Cropping3D", {"cropping": (1, 2, 0)}),
        ("SpatialDropout3D", {"rate": 0.5}),
    ],
    ids=str,
)
def test_channels_first(name, arguments):
    shape = (2, 5, 6) if "1D" in name else (2, 3, 4, 5, 2) if "3D" in name else IMAGE
    parity(name, data(shape), data_format="channels_first", **arguments)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        (VECTOR, {}),
        (IMAGE, {"momentum": 0.9, "epsilon": 1e-2}),
        (IMAGE, {"axis": 1, "scale": False}),
        (SEQUENCE, {"center": False}),
    ],
    ids=str,
)
def test_batch_normalization(shape, arguments, train):
    parity("BatchNormalization", data(shape), train=train, **arguments)


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("LayerNormalization", VECTOR, {}),
        ("LayerNormalization", IMAGE, {"epsilon": 1e-5, "center": False}),
        ("LayerNormalization", IMAGE, {"axis": (1, 2), "scale": False}),
        ("LayerNormalization", IMAGE, {"axis": (1, 3)}),
        ("LayerNormalization", SEQUENCE, {"axis": 1}),
        ("GroupNormalization", IMAGE, {"groups": 2}),
        ("GroupNormalization", IMAGE, {"groups": -1, "epsilon": 1e-5}),
        ("GroupNormalization", IMAGE, {"groups": 1, "center": False}),
        ("GroupNormalization", IMAGE, {"groups": 3, "axis": 1, "scale": False}),
        ("GroupNormalization", VECTOR, {"groups": 5}),
        ("RMSNormalization", VECTOR, {}),
        ("RMSNormalization", IMAGE, {"axis": (2, 3), "epsilon": 1e-3}),
    ],
    ids=str,
)
def test_normalization(name, shape, arguments):
    parity(name, data(shape), tol=2e-5, **arguments)


@pytest.mark.parametrize("shape", [(4,), (2, 7)], ids=str)
def test_embedding(shape):
    parity("Embedding", data(shape, "int32"), input_dim=5, output_dim=3)


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("Flatten", IMAGE, {}),
        ("Flatten", (4,), {}),
        ("Reshape", (2, 12), {"target_shape": (3, -1)}),
        ("Reshape", (2, 12), {"target_shape": (2, 3, 2)}),
        ("Permute", SEQUENCE, {"dims": (2, 1)}),
        ("Permute", IMAGE, {"dims": (3, 1, 2)}),
        ("RepeatVector", VECTOR, {"n": 3}),
        ("ZeroPadding1D", SEQUENCE, {"padding": 2}),
        ("ZeroPadding1D", SEQUENCE, {"padding": (0, 2)}),
        ("ZeroPadding2D", IMAGE, {"padding": 1}),
        ("ZeroPadding2D", IMAGE, {"padding": (1, 2)}),
        ("Cropping1D", SEQUENCE, {"cropping": (1, 2)}),
        ("Cropping2D", IMAGE, {"cropping": ((1, 0), (0, 3))}),
        ("UpSampling1D", SEQUENCE, {"size": 3}),
        ("UpSampling2D", IMAGE, {"size": (2, 3)}),
        ("UpSampling2D", IMAGE, {"size": 2, "interpolation": "bilinear"}),
        ("UpSampling2D", IMAGE, {"size": 2, "interpolation": "bicubic"}),
    ],
    ids=str,
)
def test_reshaping(name, shape, arguments):
    parity(name, data(shape), **arguments)


@pytest.mark.parametrize("name", ["Add", "Multiply", "Average", "Maximum", "Minimum"])
def test_merging(name):
    parity(name, *(data(shape, seed=i) for i, shape in enumerate([(2, 3), (2, 4, 3), (2, 1, 3)])))


def test_subtract():
    parity("Subtract", data((2, 3)), data((2, 4, 3), seed=1))


@pytest.mark.parametrize(("shapes", "axis"), [([VECTOR, (3, 2)], -1), ([(2, 4, 3), (2, 1, 3), (2, 2, 3)], 1)])
def test_concatenate(shapes, axis):
    parity("Concatenate", *(data(shape, seed=i) for i, shape in enumerate(shapes)), axis=axis)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        ([(3, 5), (3, 5)], 1),
        ([(2, 3, 5), (2, 10, 3)], (1, 2)),
        ([(2, 3, 5), (2, 5)], -1),
        ([(2, 4, 3, 5), (2, 5, 3)], (2, 2)),
    ],
    ids=str,
)
def test_dot(shapes, axes, normalize):
    parity("Dot", *(data(shape, seed=i) for i, shape in enumerate(shapes)), axes=axes, normalize=normalize)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ReLU", {}),
        ("ReLU", {"max_value": 0.7, "negative_slope": 0.1, "threshold": 0.3}),
        ("LeakyReLU", {}),
        ("LeakyReLU", {"negative_slope": 0.1}),
        ("ELU", {"alpha": 0.7}),
        ("PReLU", {}),
        ("PReLU", {"shared_axes": (1, 2)}),
        ("Softmax", {}),
        ("Softmax", {"axis": (1, 2)}),
    ],
    ids=str,
)
def test_activation_layers(name, arguments):
    parity(name, data(IMAGE), **arguments)


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("Dropout", VECTOR, {"rate": 0.5}),
        ("SpatialDropout1D", SEQUENCE, {"rate": 0.5}),
        ("GaussianNoise", VECTOR, {"stddev": 0.5}),
    ],
    ids=str,
)
def test_nothing_is_drawn_without_training(name, shape, arguments):
    parity(name, data(shape), **arguments)


def test_no_random_layer_draws_at_rate_zero():
    parity("Dropout", data(VECTOR), rate=0.0, train=True)
    parity("GaussianNoise", data(VECTOR), stddev=0.0, train=True)
