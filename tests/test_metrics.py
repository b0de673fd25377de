"""Metrics against Keras, over batches, with padding and weights; and their names and errors."""

import os
import pickle

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_values import keras_values

from jlayers import losses, metrics
from jlayers.metrics.base import start

RNG = np.random.default_rng(1)
ROWS, CLASSES = 11, 6
SCORES = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
SOFT = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
LABELS = RNG.integers(0, CLASSES, ROWS).astype(np.int32)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
UNIT = RNG.uniform(size=(ROWS, 3)).astype(np.float32)
BITS = RNG.integers(0, 2, (ROWS, 3)).astype(np.float32)
NUMBERS = RNG.normal(size=(ROWS, 3)).astype(np.float32)
WEIGHT = RNG.uniform(0.5, 2.0, ROWS).astype(np.float32)

CASES = [
    ("BinaryAccuracy", {}, BITS, UNIT),
    ("BinaryAccuracy", {"threshold": 0.2}, BITS, UNIT),
    ("CategoricalAccuracy", {}, ONE_HOT, SOFT),
    ("SparseCategoricalAccuracy", {}, LABELS, SOFT),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, SOFT),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, SOFT),
    ("Precision", {}, BITS, UNIT),
    ("Precision", {"thresholds": 0.3, "class_id": 1}, BITS, UNIT),
    ("Precision", {"top_k": 2}, ONE_HOT, SOFT),
    ("Recall", {}, BITS, UNIT),
    ("Recall", {"thresholds": 0.7}, BITS, UNIT),
    ("Recall", {"top_k": 2, "class_id": 3}, ONE_HOT, SOFT),
    ("Precision", {"top_k": 2}, ONE_HOT, np.ones_like(SOFT)),  # ties: exactly two count
    ("Recall", {"top_k": 1}, BITS, np.round(UNIT)),
    ("MeanSquaredError", {}, BITS, NUMBERS),
    ("MeanAbsoluteError", {}, BITS, NUMBERS),
    ("RootMeanSquaredError", {}, BITS, NUMBERS),
    ("CosineSimilarity", {}, BITS + 0.1, NUMBERS),
    ("LogCoshError", {}, BITS, NUMBERS),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS, SCORES),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BITS, UNIT),
]
IDS = [f"{name}{i}" for i, (name, *_) in enumerate(CASES)]


def run(metric, y_true, y_pred, weight, size):
    """The result over batches of `size`, the last one filled up and masked."""
    update, acc = jax.jit(metric.update), metric.init()
    for begin in range(0, ROWS, size):
        picked = np.arange(begin, begin + size)
        mask = (picked < ROWS).astype(np.float32)
        picked = np.where(picked < ROWS, picked, begin)
        weights = mask if weight is None else mask * weight[picked]
        acc = update(acc, y_true[picked], y_pred[picked], weights)
    return float(metric.result(acc))


@pytest.mark.parametrize(("name", "arguments", "y_true", "y_pred"), CASES, ids=IDS)
def test_results_are_those_of_keras(name, arguments, y_true, y_pred):
    ours = getattr(metrics, name)(**arguments)
    for weight in (None, WEIGHT):

        def run_keras(weight=weight):
            theirs = getattr(keras.metrics, name)(**arguments)
            theirs.update_state(y_true, y_pred, sample_weight=weight)
            return float(theirs.result())

        expected = keras_values(run_keras)
        for size in (4, ROWS):
            assert np.isclose(run(ours, y_true, y_pred, weight, size), expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        (np.array([[1], [0]]), np.array([[0.7], [0.6]]), 0.5),
        (np.array([1, 0]), np.array([0.7, 0.6]), 0.5),
        (np.array([1, 0, 1]), np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]), 2 / 3),
        (np.array([[1], [0]]), np.array([[0.1, 0.9], [0.2, 0.8]]), 0.5),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.1, 0.9], [0.2, 0.8]]), 0.5),
        (np.array([1, 2, 3]), np.array([1, 2, 4]), 2 / 3),
    ],
)
def test_accuracy_follows_the_shapes(y_true, y_pred, expected):
    dtype = np.float32 if y_pred.dtype.kind == "f" else np.int32
    assert np.isclose(float(metrics.get("accuracy")(y_true, y_pred.astype(dtype))), expected)


def test_nothing_counted_is_zero_and_not_nan():
    assert float(metrics.Precision()(np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32))) == 0.0
    mae = metrics.get("mae")
    assert float(mae.result(mae.init())) == 0.0


def test_the_mean_is_over_all_samples_and_not_over_batches():
    mae = metrics.get("mae")
    zero = np.zeros((2, 1), np.float32)
    acc = mae.update(mae.init(), zero, zero + 1)
    acc = mae.update(acc, zero[:1], zero[:1] + 4)
    assert float(mae.result(acc)) == 2.0


def test_a_weight_per_time_step():
    mae = metrics.get("mae")
    y_pred = np.array([[[1.0], [5.0]]], np.float32)
    assert float(mae(np.zeros_like(y_pred), y_pred, np.array([[1.0, 0.0]], np.float32))) == 1.0
    with pytest.raises(ValueError, match="weight per sample"):
        mae(np.zeros_like(y_pred), y_pred, np.ones(3, np.float32))


def test_ignored_class_is_left_out_of_the_metric_too():
    metric = metrics.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    value = metric(np.array([1, 0]), np.zeros((2, 4), np.float32))
    assert np.isclose(float(value), np.log(4))


def test_a_loss_and_a_plain_function_are_metrics():
    assert float(metrics.get(losses.MeanSquaredError())(np.zeros((1, 1)), np.ones((1, 1), np.float32))) == 1.0
    bias = metrics.get(lambda y_true, y_pred: (y_pred - y_true).mean(-1))
    assert float(bias(np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32))) == 1.0


def test_specs():
    metric = metrics.get({"Precision": {"thresholds": 0.3, "name": "p"}})
    assert repr(metric) == "Precision(thresholds=0.3, name='p')"
    assert pickle.loads(pickle.dumps(metric)).spec == metric.spec
    assert metric.spec.to_data() == {"Precision": {"thresholds": 0.3, "name": "p"}}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: metrics.get("acuracy"), "Accuracy"),
        (lambda: metrics.Precision(thresholds=1.5), "thresholds"),
        (lambda: metrics.TopKCategoricalAccuracy(k=0), "k=0"),
        (lambda: metrics.BinaryAccuracy()(np.ones(4), np.ones((4, 1), np.float32)), r"y\[\.\.\., None\]"),
        (lambda: metrics.Accuracy()(np.ones(4), np.ones((4, 1), np.float32)), r"y\[\.\.\., None\]"),
    ],
)
def test_errors(make, text):
    with pytest.raises((ValueError, KeyError), match=text):
        make()


REQUIRED = {
    "IoU": {"num_classes": 3, "target_class_ids": (0, 2)},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": (0, 2)},
    "MeanIoU": {"num_classes": 3},
    "MeanMetricWrapper": {"fn": "mse"},
    "OneHotMeanIoU": {"num_classes": 3},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
}


@pytest.mark.parametrize("name", list(metrics.registry))
def test_keras_has_every_name_and_accumulators_are_float32(name):
    assert hasattr(keras.metrics, name) or name in ("Huber", "Perplexity")
    metric = metrics.get({name: REQUIRED.get(name, {})})
    leaves = jax.tree.leaves(start(metric, jax.ShapeDtypeStruct((4, 3), "float32")))
    assert leaves
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert metric.direction in ("min", "max")
