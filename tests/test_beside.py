"""Metrics beside a loss: what it leaves out counts in no metric, and accuracy is what it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jlayers as jl

X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
IGNORING = jl.losses.SparseCategoricalCrossentropy
METRICS = [
    "accuracy",
    "sparse_categorical_accuracy",
    {"SparseTopKCategoricalAccuracy": {"k": 2}},
    {"MeanIoU": {"num_classes": 3, "sparse_y_pred": False}},
    "sparse_categorical_crossentropy",
]
MODEL = jl.Dense(3, activation="softmax")
WEIGHTS = MODEL.init(jax.random.key(0), X)
TRAINERS = {
    ignored: jl.compile(MODEL, "sgd", IGNORING(ignore_class=ignored), METRICS, weighted_metrics=["accuracy"])
    for ignored in (-1, 1, 255)
}


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=24, max_size=24),
    ignored=st.sampled_from(list(TRAINERS)),
    batch_size=st.sampled_from([2, 6]),
    weighted=st.booleans(),
)
def test_what_a_loss_leaves_out_counts_in_no_metric(labels, ignored, batch_size, weighted):
    y = np.array(labels).reshape(6, 4)
    y = np.where(y == 3, ignored, y)
    weight = np.arange(1.0, 7.0) if weighted else None
    logs = jl.evaluate(TRAINERS[ignored], WEIGHTS, X, y, batch_size=batch_size, sample_weight=weight)
    p, kept = np.asarray(MODEL.apply(*WEIGHTS, X)[0]), y != ignored
    t, p = y[kept], p[kept]
    right, own = p.argmax(-1) == t, np.take_along_axis(p, t[:, None] % 3, -1)
    factor = np.broadcast_to(np.ones(6) if weight is None else weight, (4, 6)).T[kept]
    both = [((p.argmax(-1) == c) & (t == c)).sum() for c in range(3)]
    either = [((p.argmax(-1) == c) | (t == c)).sum() for c in range(3)]
    count = max(1, kept.sum())
    expected = {
        "loss": -(np.log(own[:, 0]) * factor).sum() / count,
        "accuracy": right.sum() / count,
        "sparse_categorical_accuracy": right.sum() / count,
        "sparse_top_k_categorical_accuracy": ((p > own).sum(-1) < 2).sum() / count,
        "mean_io_u": sum(b / e for b, e in zip(both, either, strict=True) if e)
        / max(1, np.count_nonzero(either)),
        "sparse_categorical_crossentropy": -np.log(own).sum() / count,
        "weighted_accuracy": (right * factor).sum() / max(1, factor.sum()),
    }
    assert logs == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_own_functions_with_a_value_per_row_take_the_rows_that_count():
    y = np.full((6, 4), -1)
    y[0], y[3, 1] = 2, 0

    def rows(y_true, y_pred):
        return (y_true == 2).any(-1).astype(jnp.float32)

    trainer = jl.compile(MODEL, "sgd", IGNORING(ignore_class=-1), [rows])
    assert jl.evaluate(trainer, WEIGHTS, X, y)["rows"] == 0.5


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("binary_crossentropy", "sigmoid"),
        ({"BinaryCrossentropy": {"from_logits": True}}, None),
        ("binary_focal_crossentropy", "sigmoid"),
        ({"BinaryFocalCrossentropy": {"from_logits": True}}, None),
    ],
)
def test_accuracy_of_several_labels_is_binary(loss, activation):
    """Each column is a question of its own: the highest column says nothing."""
    x = np.array([[0.3, -0.2, 2.0], [1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], np.float32)
    y = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]])
    trainer = jl.compile(
        jl.Activation(activation or "linear"), "sgd", loss, ["accuracy", jl.metrics.Accuracy()]
    )
    logs = jl.evaluate(trainer, ({}, {}), x, y)
    assert logs["accuracy"] == logs["accuracy_1"] == pytest.approx(7 / 9)
    one_hot = jl.compile(jl.Activation("softmax"), "sgd", "categorical_crossentropy", ["accuracy"])
    assert jl.evaluate(one_hot, ({}, {}), x, np.eye(3)[[2, 2, 1]])["accuracy"] == pytest.approx(2 / 3)
