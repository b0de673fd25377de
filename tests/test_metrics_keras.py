"""Metrics of counts, curves, regions and relations, against Keras over batches, and against scikit-learn."""

from __future__ import annotations

import os
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest
import sklearn.metrics
from keras_values import keras_values

import jlayers as jl
from jlayers import metrics
from jlayers.metrics.base import start

RNG = np.random.default_rng(5)
ROWS, CLASSES = 37, 4
BITS = RNG.integers(0, 2, (ROWS, 3)).astype(np.float32)
# Scores that say something about the bits, some of them on the edges of buckets.
UNIT = np.clip(RNG.uniform(size=(ROWS, 3)) * 0.7 + 0.3 * BITS, 0, 1).astype(np.float32)
UNIT[:5, 0] = [0.0, 1.0, 0.5, 0.25, 0.75]
LOGITS = RNG.normal(size=(ROWS, 3)).astype(np.float32)
SCORES = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
SOFT = (np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES - 1, ROWS).astype(np.int32)  # the last class never occurs
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
MAPS = RNG.integers(0, CLASSES, (2, ROWS, 2, 3)).astype(np.int32)
NUMBERS = RNG.normal(size=(2, ROWS, 3)).astype(np.float32)
NUMBERS[1] += 0.5 * NUMBERS[0]
WEIGHT = RNG.integers(1, 4, ROWS).astype(np.float32)

LIST = {"thresholds": (0.2, 0.5, 0.9)}
CASES = [
    ("Precision", LIST, BITS, UNIT),
    ("Recall", {"thresholds": (0.1, 0.6), "class_id": 2}, BITS, UNIT),
    ("TruePositives", {}, BITS, UNIT),
    ("FalsePositives", LIST, BITS, UNIT),
    ("TrueNegatives", LIST, BITS, UNIT),
    ("FalseNegatives", {"thresholds": 0.3}, BITS, UNIT),
    ("AUC", {}, BITS, UNIT),
    ("AUC", {"curve": "PR"}, BITS, UNIT),
    ("AUC", {"curve": "PRGAIN"}, BITS, UNIT),
    ("AUC", {"num_thresholds": 11, "summation_method": "minoring"}, BITS, UNIT),
    ("AUC", {"num_thresholds": 11, "summation_method": "majoring", "curve": "PR"}, BITS, UNIT),
    ("AUC", {"thresholds": (0.7, 0.1, 0.4), "from_logits": True}, BITS, LOGITS),
    ("AUC", {"label_weights": (0.2, 1.0, 2.0)}, BITS, UNIT),
    ("AUC", {"multi_label": True, "num_thresholds": 20}, BITS, UNIT),
    ("AUC", {"multi_label": True, "curve": "PR", "label_weights": (0.2, 1.0, 2.0)}, BITS, UNIT),
    ("SensitivityAtSpecificity", {"specificity": 0.4}, BITS, UNIT),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 20}, BITS, UNIT),
    ("PrecisionAtRecall", {"recall": 0.5, "class_id": 1}, BITS, UNIT),
    ("RecallAtPrecision", {"precision": 0.6, "num_thresholds": 1}, BITS, UNIT),
    ("F1Score", {}, ONE_HOT, SOFT),
    ("F1Score", {"average": "macro", "threshold": 0.4}, BITS, UNIT),
    ("FBetaScore", {"average": "micro", "beta": 2.0}, ONE_HOT, SOFT),
    ("FBetaScore", {"average": "weighted", "beta": 0.5}, ONE_HOT, SOFT),
    ("IoU", {"num_classes": CLASSES, "target_class_ids": (0, 2)}, *MAPS),
    ("MeanIoU", {"num_classes": CLASSES, "ignore_class": 1}, *MAPS),
    ("MeanIoU", {"num_classes": 3}, *MAPS),
    ("MeanIoU", {"num_classes": CLASSES, "sparse_y_pred": False}, LABELS, SOFT),
    ("OneHotIoU", {"num_classes": CLASSES, "target_class_ids": (1, 3)}, ONE_HOT, SOFT),
    ("OneHotMeanIoU", {"num_classes": CLASSES}, ONE_HOT, SOFT),
    ("BinaryIoU", {"threshold": 0.4}, BITS, UNIT),
    ("BinaryIoU", {"target_class_ids": (1,)}, BITS, UNIT),
    ("R2Score", {}, *NUMBERS),
    ("R2Score", {"class_aggregation": None}, *NUMBERS),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, *NUMBERS),
    ("R2Score", {"num_regressors": 4}, *NUMBERS[..., :1]),
    ("PearsonCorrelation", {}, *NUMBERS),
    ("ConcordanceCorrelation", {}, *NUMBERS),
    ("CosineSimilarity", {}, *NUMBERS),
]
IDS = [f"{name}{i}" for i, (name, *_) in enumerate(CASES)]


def batches(y_true, y_pred, weight, size=16):
    """Batches of `size` rows, the last one filled up and masked."""
    for begin in range(0, ROWS, size):
        picked = np.arange(begin, begin + size)
        mask = (picked < ROWS).astype(np.float32)
        picked = np.where(picked < ROWS, picked, begin)
        yield y_true[picked], y_pred[picked], mask if weight is None else mask * weight[picked]


def run(metric, y_true, y_pred, weight):
    acc = start(metric, y_pred)
    for batch in batches(y_true, y_pred, weight):
        acc = metric.update(acc, *batch)
    return np.asarray(metric.result(acc))


QUICK = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here


def run_ours(weight):
    """The results of all cases, their updates and their results compiled together."""
    ours = [getattr(metrics, name)(**arguments) for name, arguments, *_ in CASES]
    fed = zip(*(batches(y_true, y_pred, weight) for *_, y_true, y_pred in CASES), strict=True)
    together = jax.jit(
        lambda accs, batch: [m.update(a, *b) for m, a, b in zip(ours, accs, batch, strict=True)],
        compiler_options=QUICK,
    )
    accs = [start(m, y_pred) for m, (*_, y_pred) in zip(ours, CASES, strict=True)]
    for batch in fed:
        accs = together(accs, list(batch))
    return jax.jit(
        lambda accs: [m.result(a) for m, a in zip(ours, accs, strict=True)], compiler_options=QUICK
    )(accs)


def run_keras(weight):
    def result(case, y_true, y_pred):
        name, arguments = CASES[case][:2]
        theirs = getattr(keras.metrics, name)(
            **{k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
        )
        each = weight
        if weight is not None and "IoU" in name:
            each = weight.astype("int32")
            if y_true.ndim > 1 and not name.startswith("OneHot"):  # one for each place
                each = np.broadcast_to(each.reshape(-1, *(1,) * (y_true.ndim - 1)), y_true.shape)
        theirs.update_state(y_true, y_pred, sample_weight=each)
        return theirs.result()

    eager = {i for i, (_, arguments, *_) in enumerate(CASES) if "num_regressors" in arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for int64, which it does not get
        results = jax.jit(
            lambda data: [None if i in eager else result(i, *pair) for i, pair in enumerate(data)],
            compiler_options=QUICK,
        )([case[2:] for case in CASES])
        return [result(i, *CASES[i][2:]) if i in eager else value for i, value in enumerate(results)]


@pytest.fixture(scope="module", params=["plain", "weighted"])
def results(request):
    weight = {"plain": None, "weighted": WEIGHT}[request.param]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return run_ours(weight), keras_values(lambda: run_keras(weight), name=request.param)


@pytest.mark.parametrize("case", range(len(CASES)), ids=IDS)
def test_results_are_those_of_keras(results, case):
    got, expected = (np.asarray(side[case]) for side in results)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=3e-5, atol=1e-6)


@pytest.mark.slow
def test_against_scikit_learn():
    """Counts and regions exactly; areas as finely as the buckets are."""
    close = np.testing.assert_allclose
    y, p = BITS.reshape(-1), UNIT.reshape(-1)
    fine = metrics.AUC(num_thresholds=20001)
    close(fine(y, p), sklearn.metrics.roc_auc_score(y, p), atol=1e-3)
    weights = np.repeat(WEIGHT, 3)
    close(fine(y, p, weights), sklearn.metrics.roc_auc_score(y, p, sample_weight=weights), atol=1e-3)
    low, high = (metrics.AUC(20001, "PR", method)(y, p) for method in ("minoring", "majoring"))
    assert low <= sklearn.metrics.average_precision_score(y, p) <= high
    labels, chosen = LABELS, SOFT.argmax(-1)
    for average in (None, "micro", "macro", "weighted"):
        ours = metrics.FBetaScore(average=average, beta=2.0)(ONE_HOT, SOFT, WEIGHT)
        options = {"average": average, "beta": 2.0, "zero_division": 0, "sample_weight": WEIGHT}
        close(ours, sklearn.metrics.fbeta_score(labels, chosen, labels=range(CLASSES), **options), atol=1e-6)
    a, b = (m.reshape(-1) for m in MAPS)
    close(metrics.MeanIoU(CLASSES)(a, b), sklearn.metrics.jaccard_score(a, b, average="macro"), rtol=1e-6)
    t, q = NUMBERS
    for aggregation, multioutput in (
        (None, "raw_values"),
        ("uniform_average", "uniform_average"),
        ("variance_weighted_average", "variance_weighted"),
    ):
        expected = sklearn.metrics.r2_score(t, q, multioutput=multioutput, sample_weight=WEIGHT)
        close(metrics.R2Score(aggregation)(t, q, WEIGHT), expected, rtol=1e-5)
    p, r = metrics.Precision(), metrics.Recall()
    flat = BITS.reshape(-1), UNIT.reshape(-1) > 0.5
    close(p(BITS, UNIT), sklearn.metrics.precision_score(*flat), rtol=1e-6)
    close(r(BITS, UNIT), sklearn.metrics.recall_score(*flat), rtol=1e-6)
    rows = [np.corrcoef(*pair)[0, 1] for pair in zip(*NUMBERS, strict=True)]
    close(metrics.PearsonCorrelation()(t, q), np.mean(rows), rtol=1e-5)


def test_explained_variance_far_from_0():
    """Years: the sum of squares alone has no digits left for the variance in float32."""
    y = (np.float32(2000) + np.arange(64, dtype=np.float32) % 8)[:, None] * np.float32(64)
    p = y + RNG.normal(size=y.shape).astype(np.float32) * 16
    metric = metrics.R2Score()
    acc = metric.init(p)
    for i in range(0, 64, 7):
        acc = metric.update(acc, y[i : i + 7], p[i : i + 7])
    np.testing.assert_allclose(metric.result(acc), sklearn.metrics.r2_score(y, p), rtol=1e-5)


def test_explained_variance_without_variance():
    ones = np.ones((4, 1), np.float32)
    assert float(metrics.R2Score()(ones, ones)) == 1.0
    assert float(metrics.R2Score()(ones, 2 * ones)) == 0.0
    assert float(metrics.R2Score(num_regressors=9)(ones, ones)) == 1.0
    assert float(metrics.PearsonCorrelation()(ones.T, ones.T)) == 0.0


def test_a_score_of_0_is_negative_at_every_threshold():
    y, p = np.array([0, 1]), np.array([0.0, 0.9], np.float32)
    assert float(metrics.SpecificityAtSensitivity(1.0)(y, p)) == 1.0


def test_perplexity():
    logits, labels = SCORES.reshape(ROWS, 1, CLASSES), LABELS[:, None]
    log_p = SCORES - np.log(np.exp(SCORES).sum(-1, keepdims=True))
    own = -log_p[np.arange(ROWS), LABELS]
    got = run(metrics.Perplexity(from_logits=True), labels, logits, None)
    np.testing.assert_allclose(got, np.exp(own.mean()), rtol=1e-5)
    got = run(metrics.Perplexity(ignore_class=0), labels, np.exp(log_p)[:, None], WEIGHT)
    kept = LABELS != 0
    np.testing.assert_allclose(got, np.exp(np.average(own[kept], weights=WEIGHT[kept])), rtol=1e-5)


def test_nothing_counted_is_a_number():
    y = np.zeros((2, 3), np.float32)
    for name, arguments in [
        ("AUC", {}),
        ("AUC", {"curve": "PR"}),
        ("F1Score", {"average": "macro"}),
        ("MeanIoU", {"num_classes": 2}),
        ("R2Score", {"num_regressors": 1}),
        ("PrecisionAtRecall", {"recall": 0.5}),
        ("ConcordanceCorrelation", {}),
    ]:
        assert np.isfinite(metrics.get({name: arguments})(y, y, np.zeros(2, np.float32))), name


@pytest.mark.slow
def test_in_training():
    """Accumulators of the shape of the outputs, by names and data, and a last batch that is filled up."""
    x = RNG.normal(size=(10, 5)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 10)]
    given = [
        {"F1Score": {"average": "macro"}},
        "auc",
        {"OneHotMeanIoU": {"num_classes": 3}},
        "false_negatives",
    ]
    trainer = jl.compile(jl.Dense(3, activation="softmax"), "sgd", "categorical_crossentropy", metrics=given)
    state, history = jl.fit(trainer, x, y, batch_size=4, epochs=1, validation_data=(x, y))
    p = jl.predict(trainer, state, x, batch_size=4)
    for metric, key in zip(given, ["f1_score", "auc", "one_hot_mean_io_u", "false_negatives"], strict=True):
        np.testing.assert_allclose(history["val_" + key][-1], metrics.get(metric)(y, p), rtol=1e-5)
    wrong = jl.compile(jl.Dense(3), "sgd", "mse", metrics=["f1_score"])
    with pytest.raises(ValueError, match=r"received float32\(3,\) from 'f1_score'.*average='macro'"):
        jl.fit(wrong, x, y, batch_size=5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: metrics.AUC(curve="RCO"), "curve='RCO'"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds=1"),
        (lambda: metrics.AUC(thresholds=(0.5, 2.0)), "thresholds=(0.5, 2.0)"),
        (lambda: metrics.AUC(num_labels=3), "multi_label=True"),
        (lambda: metrics.AUC(multi_label=True, num_labels=2)(BITS, UNIT), "float32(37, 3)"),
        (lambda: metrics.Precision(thresholds=(0.5, -1.0)), "thresholds=(0.5, -1.0)"),
        (lambda: metrics.PrecisionAtRecall(1.5), "1.5"),
        (lambda: metrics.RecallAtPrecision(0.5, class_id=1)(BITS[:, 0], UNIT[:, 0]), "class_id=1"),
        (lambda: metrics.F1Score(average="mean"), "average='mean'"),
        (lambda: metrics.F1Score(threshold=0.0), "threshold=0.0"),
        (lambda: metrics.F1Score()(BITS[:, 0], UNIT[:, 0]), "y[..., None]"),
        (lambda: metrics.FBetaScore(beta=0.0), "beta=0.0"),
        (lambda: metrics.IoU(2, (2,)), "target_class_ids=(2,)"),
        (lambda: metrics.MeanIoU(4)(LABELS, SOFT), "sparse_y_pred=True"),
        (lambda: metrics.R2Score("mean"), "class_aggregation='mean'"),
        (lambda: metrics.R2Score(num_regressors=-1), "num_regressors=-1"),
        (lambda: metrics.R2Score()(BITS[:, 0], UNIT[:, 0]), "(batch, outputs)"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match="expected") as caught:
        make()
    assert text in str(caught.value)
