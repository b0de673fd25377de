"""Laws of every metric: results do not depend on batches and masks, and counters do not stop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jlayers import metrics
from jlayers.losses import Loss
from jlayers.metrics import totals
from jlayers.metrics.base import start

RNG = np.random.default_rng(11)
ROWS, SIZE = 12, 4
BITS = RNG.integers(0, 2, (ROWS, 3)).astype(np.float32)
UNIT = RNG.uniform(0.01, 0.99, (ROWS, 3)).astype(np.float32)
SOFT = (UNIT / UNIT.sum(-1, keepdims=True)).astype(np.float32)
LABELS = RNG.integers(0, 3, ROWS).astype(np.int32)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
NUMBERS = RNG.normal(size=(2, ROWS, 3)).astype(np.float32)
MAPS = RNG.integers(0, 3, (2, ROWS, 2)).astype(np.int32)
QUICK = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here

SHARES, CLASSES, KINDS, REAL = (BITS, UNIT), (ONE_HOT, SOFT), (LABELS, SOFT), tuple(NUMBERS)
BINARY = [
    "AUC", "BinaryAccuracy", "BinaryCrossentropy", "BinaryIoU", "FalseNegatives", "FalsePositives", "Hinge",
    "Poisson", "Precision", "Recall", "SquaredHinge", "TrueNegatives", "TruePositives",
]  # fmt: skip
CATEGORICAL = [
    "CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge", "F1Score", "FBetaScore",
    "KLDivergence",
]  # fmt: skip
REGRESSION = [
    "ConcordanceCorrelation", "CosineSimilarity", "Huber", "LogCoshError", "Mean", "MeanAbsoluteError",
    "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError", "PearsonCorrelation",
    "R2Score", "RootMeanSquaredError", "Sum",
]  # fmt: skip
CASES = {
    **dict.fromkeys(BINARY, ({}, *SHARES)),
    **dict.fromkeys(CATEGORICAL, ({}, *CLASSES)),
    **dict.fromkeys(REGRESSION, ({}, *REAL)),
    **dict.fromkeys(["Accuracy", "SparseCategoricalAccuracy"], ({}, *KINDS)),
    "Perplexity": ({"ignore_class": 1}, *KINDS),
    "SparseCategoricalCrossentropy": ({"ignore_class": 1}, *KINDS),
    "SparseTopKCategoricalAccuracy": ({"k": 2}, *KINDS),
    "TopKCategoricalAccuracy": ({"k": 2}, *CLASSES),
    "MeanMetricWrapper": ({"fn": lambda t, p: jnp.abs(t - p)}, *REAL),
    "IoU": ({"num_classes": 3, "target_class_ids": (0, 2)}, *MAPS),
    "MeanIoU": ({"num_classes": 3}, *MAPS),
    "OneHotIoU": ({"num_classes": 3, "target_class_ids": (0, 2)}, *CLASSES),
    "OneHotMeanIoU": ({"num_classes": 3}, *CLASSES),
    "PrecisionAtRecall": ({"recall": 0.5}, *SHARES),
    "RecallAtPrecision": ({"precision": 0.5}, *SHARES),
    "SensitivityAtSpecificity": ({"specificity": 0.5}, *SHARES),
    "SpecificityAtSensitivity": ({"sensitivity": 0.5}, *SHARES),
}
METRICS = {name: getattr(metrics, name)(**arguments) for name, (arguments, *_) in CASES.items()}


def together(function):
    """`function(metric, *arguments)` for all metrics in one program."""
    return jax.jit(
        lambda *arguments: {
            name: function(METRICS[name], *(part[name] for part in arguments)) for name in METRICS
        },
        compiler_options=QUICK,
    )


UPDATE = together(lambda metric, acc, y, p, w: metric.update(acc, y, p, w))
RESULT = together(lambda metric, acc: metric.result(acc))
ZERO = {name: start(METRICS[name], p) for name, (_, _, p) in CASES.items()}


def updated(accs, rows, weights):
    def parts(k):
        return {name: case[k][rows] for name, case in CASES.items()}

    return UPDATE(accs, parts(1), parts(2), dict.fromkeys(CASES, weights))


def test_every_metric_has_a_case():
    assert set(CASES) == set(metrics.registry)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(ROWS)),
    real=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any),
    cuts=st.sets(st.integers(1, ROWS - 1)),
)
def test_results_do_not_depend_on_batches_and_masks(order, real, cuts):
    """Batches of any size up to 4, filled up with rows of weight 0, against all rows at once."""
    real = np.array(real)
    weights = np.where(real, np.arange(1, ROWS + 1), 0).astype(np.float32)
    whole = RESULT(updated(ZERO, np.arange(ROWS), weights))
    accs = ZERO
    for part in np.split(np.array(order), sorted(cuts)):
        for begin in range(0, len(part), SIZE):
            rows = np.resize(part[begin : begin + SIZE], SIZE)
            filled = np.arange(SIZE) < len(part) - begin
            accs = updated(accs, rows, np.where(filled, weights[rows], 0).astype(np.float32))
    parts = RESULT(accs)
    for name in CASES:
        np.testing.assert_allclose(parts[name], whole[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_counters_do_not_stop():
    """One sample that counts 2**24 times, then 900 others that count once: float32 forgets these."""
    times, weight = 300, 2.0**24
    heavy, light = np.array([[weight, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]], np.float32)
    accs = updated(ZERO, np.arange(SIZE), heavy)
    first = RESULT(accs)
    for _ in range(times):
        accs = updated(accs, np.arange(SIZE), light)
    got = RESULT(accs)
    expected = RESULT(updated(ZERO, np.arange(SIZE), np.array([weight, *[times] * 3], np.float32)))
    for name in CASES:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    for name in ("MeanIoU", "RootMeanSquaredError"):  # a difference is seen
        assert abs(float(first[name]) - float(expected[name])) > 1e-5, name


@pytest.mark.parametrize("weight", [16.0, 0.1])
def test_a_batch_may_have_more_than_2_to_the_24(weight):
    """In one cell of a table, and in a plain sum."""
    count = 2**20 + 5
    amount = np.full(count, weight, np.float32)
    exact = amount.astype(np.float64).sum()
    cells = totals.add_at(totals.zero((3,)), jnp.ones(count, jnp.int32), amount)
    for total in (cells[:, 1], totals.add_sum(totals.zero(), amount)):
        got = np.asarray(total, np.float64).sum()
        if weight == 0.1:
            np.testing.assert_allclose(got, exact, rtol=1e-5)
        else:
            assert got == exact
    assert not np.asarray(cells)[:, [0, 2]].any()


def test_infinite_values_are_seen():
    mean = metrics.get("mae")
    assert np.isposinf(mean(jnp.zeros((2, 1)), jnp.array([[jnp.inf], [1.0]])))
    assert np.isnan(mean(jnp.zeros((2, 1)), jnp.array([[jnp.nan], [1.0]])))
    assert float(mean(jnp.zeros((2, 1)), jnp.array([[jnp.nan], [1.0]]), jnp.array([0.0, 1.0]))) == 1.0


def test_plain_values():
    values = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    for weight, mean, total in ((None, 2.75, 11.0), (jnp.array([0.0, 2.0]), 4.0, 16.0)):
        assert float(metrics.Mean()(values, weight=weight)) == mean
        assert float(metrics.Sum()(values, weight=weight)) == total
    assert float(metrics.get("mean")(jnp.zeros(2), jnp.array([4.0, 6.0]))) == 5.0  # as a metric of an output
    assert metrics.get({"MeanMetricWrapper": {"fn": "mse", "direction": "max"}}).direction == "max"


def test_own_functions_are_given_the_axis_of_one_unit():
    own = metrics.get(lambda t, p: jnp.square(t - p))
    for y in (jnp.arange(3.0), jnp.arange(3.0)[:, None]):
        assert float(own(y, jnp.zeros((3, 1)))) == pytest.approx(5 / 3)
    with pytest.raises(ValueError, match="value per sample"):
        metrics.get(lambda t, p: jnp.square(t[None] - p))(jnp.arange(3.0), jnp.zeros((3, 3)))


def test_a_loss_that_counts_some_values_only():
    known = Loss(lambda t, p: jnp.abs(t - p), counts=lambda t, p: t > 0)
    got = metrics.mean_of(known)(jnp.array([1.0, 0.0]), jnp.array([3.0, 9.0]))
    assert float(got) == 2.0
