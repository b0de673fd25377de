"""Every loss against a form of its own in NumPy: values, gradients by finite differences, extreme values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from jlayers import losses
from jlayers.losses.base import as_loss
from jlayers.train import objective

EPS = 1e-7
QUICK = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here


def clipped(p):
    return np.clip(p, EPS, 1 - EPS)


def shares(p):
    return p / np.maximum(p.sum(-1, keepdims=True), EPS)


def binary(t, log_p, log_q):
    return -(t * log_p + (1 - t) * log_q).mean(-1)


def bce(t, p):
    return binary(t, np.log(clipped(p)), np.log(clipped(1 - p)))


def bce_logits(t, x):
    return binary(t, scipy.special.log_expit(x), scipy.special.log_expit(-x))


def focal(t, p):
    right = np.where(t == 1, p, 1 - p)
    return -((1 - right) ** 2 * np.log(clipped(right))).mean(-1)


def focal_logits(t, x):
    toward = np.where(t == 1, x, -x)
    return -(scipy.special.expit(-toward) ** 2 * scipy.special.log_expit(toward)).mean(-1)


def cce(t, p):
    return -(t * np.log(clipped(shares(p)))).sum(-1)


def cce_logits(t, x):
    return -np.where(t == 0, 0, t * scipy.special.log_softmax(x, -1)).sum(-1)


def cfocal(t, p):
    p = clipped(shares(p))
    return -(0.25 * (1 - p) ** 2 * t * np.log(p)).sum(-1)


def cfocal_logits(t, x):
    log_p = scipy.special.log_softmax(x, -1)
    return -(0.25 * np.expm1(log_p) ** 2 * np.where(t == 0, 0, t * log_p)).sum(-1)


def sparse(form):
    return lambda t, p: form(np.eye(p.shape[-1])[t], p)


def gce(t, p):
    return (1 - np.maximum(np.take_along_axis(p, t[:, None], -1)[:, 0], EPS) ** 0.5) / 0.5


def cosine(t, p):
    t, p = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), EPS) for v in (t, p))
    return -(t * p).sum(-1)


def kld(t, p):
    t, p = np.clip(t, EPS, 1), np.clip(p, EPS, 1)
    return (t * np.log(t / p)).sum(-1)


def signs(t):
    return np.where(t == 0, -1, t)


def categorical_hinge(t, p):
    return np.maximum(0, ((1 - t) * p).max(-1) - (t * p).sum(-1) + 1)


def msle(t, p):
    return (np.log((1 + t) / (1 + p)) ** 2).mean(-1)


def dice(t, p):
    return np.full(len(t), 1 - 2 * (t * p).sum() / (t.sum() + p.sum() + EPS))


def tversky(t, p):
    tp, fp, fn = (t * p).sum(), ((1 - t) * p).sum(), (t * (1 - p)).sum()
    return np.full(len(t), 1 - tp / (tp + 0.3 * fp + 0.7 * fn + EPS))


def circle(t, p):
    s = p @ p.T
    values = []
    for i in range(len(t)):
        near = [j for j in range(len(t)) if t[j] == t[i] and j != i]
        far = [j for j in range(len(t)) if t[j] != t[i]]
        pull = [-2 * max(1.4 - s[i, j], 0) * (s[i, j] - 0.6) for j in near]
        push = [2 * max(s[i, j] + 0.4, 0) * (s[i, j] - 0.4) for j in far]
        both = scipy.special.logsumexp(pull) + scipy.special.logsumexp(push) if near and far else -np.inf
        values.append(np.logaddexp(0, both))
    return np.array(values)


def ctc(t, x):
    """The forward recursion over the labels with blanks between them (Graves et al. 2006)."""
    log_p, values = scipy.special.log_softmax(x, -1), []
    for labels, frames in zip(t, log_p, strict=True):
        path = [0, *(k for label in labels if label for k in (label, 0))]
        alpha = np.full(len(path), -np.inf)
        alpha[:2] = frames[0, path[:2]]
        for frame in frames[1:]:
            ways = [alpha, np.r_[-np.inf, alpha[:-1]], np.r_[-np.inf, -np.inf, alpha[:-2]][: len(path)]]
            ways[2] = [
                w if i > 1 and path[i] not in (0, path[i - 2]) else -np.inf for i, w in enumerate(ways[2])
            ]
            alpha = scipy.special.logsumexp(ways, axis=0) + frame[path]
        values.append(-scipy.special.logsumexp(alpha[-2:]))
    return np.array(values)


RNG = np.random.default_rng(7)
ROWS, CLASSES = 4, 3
T, P = RNG.normal(size=(2, ROWS, CLASSES))
BITS = RNG.integers(0, 2, (ROWS, CLASSES)).astype(float)
UNIT = RNG.uniform(0.1, 0.9, (ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
ONE_HOT = np.eye(CLASSES)[LABELS]
LOGITS = {"from_logits": True}

CASES = [
    ("BinaryCrossentropy", {}, bce, BITS, UNIT),
    ("BinaryCrossentropy", LOGITS, bce_logits, BITS, P),
    ("BinaryFocalCrossentropy", {}, focal, BITS, UNIT),
    ("BinaryFocalCrossentropy", LOGITS, focal_logits, BITS, P),
    ("CategoricalCrossentropy", {}, cce, ONE_HOT, UNIT),
    ("CategoricalCrossentropy", LOGITS, cce_logits, ONE_HOT, P),
    ("CategoricalFocalCrossentropy", {}, cfocal, ONE_HOT, UNIT),
    ("CategoricalFocalCrossentropy", LOGITS, cfocal_logits, ONE_HOT, P),
    ("CategoricalGeneralizedCrossEntropy", {}, gce, LABELS, UNIT),
    (
        "CategoricalHinge",
        {},
        lambda t, p: np.maximum(0, ((1 - t) * p).max(-1) - (t * p).sum(-1) + 1),
        ONE_HOT,
        P,
    ),
    ("Circle", {"gamma": 2.0}, circle, np.array([0, 1, 0, 1]), P / np.linalg.norm(P, axis=1, keepdims=True)),
    ("CosineSimilarity", {}, cosine, T, P),
    ("CTC", {}, ctc, np.array([[1, 2], [1, 1], [2, 0], [0, 0]]), RNG.normal(size=(ROWS, 4, CLASSES))),
    ("Dice", {}, dice, BITS, UNIT),
    ("Hinge", {}, lambda t, p: np.maximum(1 - signs(t) * p, 0).mean(-1), BITS, P),
    ("Huber", {}, lambda t, p: scipy.special.huber(1.0, t - p).mean(-1), T, P),
    ("KLDivergence", {}, kld, shares(UNIT), shares(UNIT[::-1])),
    ("LogCosh", {}, lambda t, p: (np.logaddexp(p - t, t - p) - np.log(2)).mean(-1), T, P),
    ("MeanAbsoluteError", {}, lambda t, p: np.abs(t - p).mean(-1), T, P),
    ("MeanAbsolutePercentageError", {}, lambda t, p: (100 * np.abs(t - p) / np.abs(t)).mean(-1), T, P),
    ("MeanSquaredError", {}, lambda t, p: ((t - p) ** 2).mean(-1), T, P),
    (
        "MeanSquaredLogarithmicError",
        {},
        lambda t, p: (np.log((1 + t) / (1 + p)) ** 2).mean(-1),
        UNIT,
        UNIT[::-1],
    ),
    ("Poisson", {}, lambda t, p: (p - t * np.log(p + EPS)).mean(-1), BITS, UNIT),
    ("SparseCategoricalCrossentropy", {}, sparse(cce), LABELS, UNIT),
    ("SparseCategoricalCrossentropy", LOGITS, sparse(cce_logits), LABELS, P),
    ("SquaredHinge", {}, lambda t, p: (np.maximum(1 - signs(t) * p, 0) ** 2).mean(-1), BITS, P),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, tversky, BITS, UNIT),
]
IDS = [f"{name}{'-logits' if arguments == LOGITS else ''}" for name, arguments, *_ in CASES]
MADE = [getattr(losses, name)(**arguments) for name, arguments, *_ in CASES]


def on_device(target):
    return jnp.asarray(target, jnp.int32 if target.dtype.kind == "i" else jnp.float32)


def judged(cases):
    """Values and gradients of the losses, for predictions each, in one program."""

    def run(predictions):
        found = []
        for (i, target), y_pred in zip(cases, predictions, strict=True):
            values, pull = jax.vjp(lambda p, i=i, t=target: MADE[i](on_device(t), p), y_pred)
            found.append((values, pull(jnp.ones_like(values))[0]))
        return found

    return jax.jit(run, compiler_options=QUICK)


def test_every_loss_has_a_case():
    assert {name for name, *_ in CASES} == set(losses.registry)


@pytest.fixture(scope="module")
def found():
    cases = [(i, case[3]) for i, case in enumerate(CASES)]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return judged(cases)([jnp.asarray(case[4], jnp.float32) for case in CASES])


@pytest.mark.parametrize("case", range(len(CASES)), ids=IDS)
def test_values_are_those_of_numpy_and_gradients_those_of_finite_differences(found, case):
    _, _, form, target, prediction = CASES[case]
    values, gradient = found[case]
    prediction = np.asarray(jnp.asarray(prediction, jnp.float32), np.float64)
    np.testing.assert_allclose(values, form(target, prediction), rtol=2e-5, atol=2e-6)
    slopes = np.empty_like(prediction)
    for place in np.ndindex(prediction.shape):
        step = np.zeros_like(prediction)
        step[place] = 1e-5
        slopes[place] = (form(target, prediction + step) - form(target, prediction - step)).sum() / 2e-5
    np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=2e-5)


EXTREME_LOGITS = [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4]
EXTREME_SHARES = [0.0, 1e-30, 1e-8, 0.5, 1 - 1e-7, 1.0]
LARGE = [-1e18, -1e4, -1e-30, 0.0, 1e-30, 1e4, 1e18]
OF_NUMBERS = {"CosineSimilarity", "Hinge", "Huber", "LogCosh", "MeanAbsoluteError", "MeanSquaredError",
              "CategoricalHinge", "SquaredHinge"}  # fmt: skip


def extremes(i):
    """Predictions for each pair of extreme values, and which target they are judged by."""
    name, arguments, *_ = CASES[i]
    numbers = EXTREME_LOGITS if arguments == LOGITS else LARGE if name in OF_NUMBERS else EXTREME_SHARES
    pairs = np.array([(a, b) for a in numbers for b in numbers], np.float32)
    if name == "MeanAbsolutePercentageError":
        return np.full(pairs.shape, 1e-3), pairs
    if CASES[i][3].ndim == 1:
        return np.zeros(len(pairs), np.int64), pairs
    return np.tile([1.0, 0.0], (len(pairs), 1)), pairs


EXTREME = [i for i, (name, *_) in enumerate(CASES) if name not in ("Circle", "CTC", "Dice", "Tversky")]


@pytest.fixture(scope="module")
def found_extremes():
    cases = [extremes(i) for i in EXTREME]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return judged([(i, case[0]) for i, case in zip(EXTREME, cases, strict=True)])(
            [jnp.asarray(case[1]) for case in cases]
        )


@pytest.mark.parametrize("place", range(len(EXTREME)), ids=[IDS[i] for i in EXTREME])
def test_extreme_predictions(found_extremes, place):
    """Values are right, gradients finite; logits of any size keep the gradient that their value has."""
    i = EXTREME[place]
    target, pairs = extremes(i)
    values, gradient = (np.asarray(part) for part in found_extremes[place])
    whole = pairs.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = CASES[i][2](target, whole)
    known = np.isfinite(expected)
    assert known.mean() > 0.9
    np.testing.assert_allclose(values[known], expected[known], rtol=1e-5, atol=1e-6)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    if CASES[i][1] == LOGITS:
        step = np.array([1e-3, 0.0])
        slope = (CASES[i][2](target, whole + step) - CASES[i][2](target, whole - step)) / 2e-3
        np.testing.assert_allclose(gradient[:, 0], slope, rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    real=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any),
    weight=st.lists(st.integers(0, 3), min_size=ROWS, max_size=ROWS),
)
def test_the_mean_of_training_is_that_of_the_real_rows(real, weight):
    """Whatever fills the batch up; sample weights are factors, not in the denominator."""
    mask = np.array(real, np.float32)
    weights = np.array(weight, np.float32)
    got = means_of_training(mask, weights)
    rows = np.flatnonzero(mask)
    for i, value in zip(EXTREME, got, strict=True):
        _, _, form, target, prediction = CASES[i]
        expected = (form(target, prediction)[rows] * weights[rows]).mean()
        np.testing.assert_allclose(value, expected, rtol=3e-5, atol=3e-6, err_msg=IDS[i])


@jax.jit
def means_of_training(mask, weights):
    def mean(i):
        target, prediction = on_device(CASES[i][3]), jnp.asarray(CASES[i][4], jnp.float32)
        return objective.mean_of(as_loss(MADE[i]), target, prediction, weights, mask, None)[0]

    return [mean(i) for i in EXTREME]
