"""Losses against Keras (values and gradients), against NumPy and SciPy, and their errors."""

import functools
import itertools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from keras_values import keras_values

from jlayers import losses, metrics
from jlayers.losses.base import as_loss
from jlayers.train import objective

RNG = np.random.default_rng(0)
CLASSES = 5
QUICK = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here


def numbers(shape):
    return RNG.normal(size=shape).astype(np.float32)


def probabilities(shape):
    return scipy.special.softmax(RNG.normal(size=shape), -1).astype(np.float32)


def unit(shape):
    return RNG.uniform(0.05, 0.95, shape).astype(np.float32)


def positive(shape):
    return RNG.uniform(0.1, 3.0, shape).astype(np.float32)


def bits(shape):
    return RNG.integers(0, 2, shape).astype(np.float32)


def one_hot(shape):
    return np.eye(shape[-1], dtype=np.float32)[RNG.integers(0, shape[-1], shape[:-1])]


def labels(shape):
    return RNG.integers(0, shape[-1], shape[:-1]).astype(np.int32)


def few_labels(shape):
    return RNG.integers(0, 3, 8).astype(np.int32)


def points(shape):
    x = RNG.normal(size=(8, 4))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def texts(shape):
    return np.array([[1, 1, 0], [2, 3, 1], [4, 0, 0], [0, 0, 0]], np.int32)


def frames(shape):
    return RNG.normal(size=(4, 5, CLASSES)).astype(np.float32)


CASES = [
    ("MeanSquaredError", {}, numbers, numbers),
    ("MeanAbsoluteError", {}, numbers, numbers),
    ("MeanAbsolutePercentageError", {}, numbers, numbers),
    ("MeanSquaredLogarithmicError", {}, positive, positive),
    ("Huber", {}, numbers, numbers),
    ("Huber", {"delta": 0.3}, numbers, numbers),
    ("LogCosh", {}, numbers, numbers),
    ("Poisson", {}, positive, positive),
    ("CosineSimilarity", {}, numbers, numbers),
    ("CosineSimilarity", {"axis": 1}, numbers, numbers),
    ("KLDivergence", {}, probabilities, probabilities),
    ("Hinge", {}, bits, numbers),
    ("Hinge", {}, numbers, numbers),
    ("SquaredHinge", {}, bits, numbers),
    ("CategoricalHinge", {}, one_hot, numbers),
    ("BinaryCrossentropy", {}, bits, unit),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, bits, unit),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, bits, numbers),
    ("BinaryFocalCrossentropy", {}, bits, unit),
    (
        "BinaryFocalCrossentropy",
        {"apply_class_balancing": True, "gamma": 1.5, "from_logits": True},
        bits,
        numbers,
    ),
    ("CategoricalCrossentropy", {}, one_hot, probabilities),
    ("CategoricalCrossentropy", {}, one_hot, positive),
    ("CategoricalCrossentropy", {"label_smoothing": 0.3}, one_hot, probabilities),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, one_hot, numbers),
    ("CategoricalFocalCrossentropy", {}, one_hot, probabilities),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, one_hot, numbers),
    ("SparseCategoricalCrossentropy", {}, labels, probabilities),
    ("SparseCategoricalCrossentropy", {}, labels, positive),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, labels, numbers),
    ("CategoricalGeneralizedCrossEntropy", {}, labels, probabilities),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.8}, labels, probabilities),
    ("Dice", {"axis": (1, 2)}, bits, unit),
    ("Dice", {"axis": -1}, bits, unit),
    ("Tversky", {"alpha": 0.3, "beta": 0.9, "axis": (1, 2)}, bits, unit),
    ("Circle", {}, few_labels, points),
    ("Circle", {"gamma": 5.0, "margin": 0.2, "remove_diagonal": False}, few_labels, points),
    ("CTC", {}, texts, frames),
]


def kerass(name, arguments):
    """Keras's loss with the arguments of ours; its Tversky, up to 3.15, weighs the misses by `alpha`."""
    if name == "Tversky":
        arguments = arguments | {"alpha": arguments.get("beta", 0.5), "beta": arguments.get("alpha", 0.5)}
    return functools.partial(getattr(keras.losses, name), **arguments)


@pytest.fixture(scope="module")
def parity():
    """Values and gradients of all cases, ours and Keras's, each compiled as one function."""
    shape = (3, 4, CLASSES)
    data = [
        (jnp.asarray(target(shape)), jnp.asarray(prediction(shape))) for _, _, target, prediction in CASES
    ]

    def run(make):
        def all_cases(predictions):
            found = []
            for (name, arguments, *_), (y_true, _), y_pred in zip(CASES, data, predictions, strict=True):
                loss = make(name, arguments)
                values, pull = jax.vjp(lambda p, f=loss, t=y_true: f(t, p), y_pred)
                found.append((values, pull(jnp.ones_like(values))[0]))
            return found

        return jax.device_get(jax.jit(all_cases, compiler_options=QUICK)([y_pred for _, y_pred in data]))

    whole = functools.partial(run, lambda name, arguments: kerass(name, arguments)(reduction="none"))
    theirs = keras_values(whole, name="all cases")
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        ours = run(lambda name, arguments: getattr(losses, name)(**arguments))
    return ours, theirs


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{c[0]}{i}" for i, c in enumerate(CASES)])
def test_values_and_gradients_are_those_of_keras(parity, case):
    ours, theirs = parity[0][case], parity[1][case]
    assert ours[0].shape == theirs[0].shape
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-4, atol=1e-5)


def test_against_numpy_and_scipy():
    t, p = numbers((7, 3)), numbers((7, 3))
    close = np.testing.assert_allclose
    close(losses.MeanSquaredError()(t, p), ((t - p) ** 2).mean(-1), rtol=1e-5)
    close(losses.Huber(0.7)(t, p), scipy.special.huber(0.7, t - p).mean(-1), rtol=1e-5)
    close(losses.LogCosh()(t, p), np.log(np.cosh(p - t)).mean(-1), rtol=1e-4, atol=1e-6)
    q, r = probabilities((7, 3)), probabilities((7, 3))
    close(losses.KLDivergence()(q, r), scipy.stats.entropy(q, r, axis=-1), rtol=1e-4, atol=1e-6)
    k = labels((7, 3))
    expected = -scipy.special.log_softmax(p.astype(np.float64), -1)[np.arange(7), k]
    close(losses.SparseCategoricalCrossentropy(from_logits=True)(k, jnp.asarray(p)), expected, rtol=1e-5)


def test_gradient_is_zero_where_a_probability_is_clipped():
    loss = losses.SparseCategoricalCrossentropy()
    gradient = jax.grad(lambda p: loss(jnp.array([0]), p).sum())(jnp.array([[0.0, 1.0]]))
    assert not gradient.any()
    assert np.isclose(float(loss(jnp.array([0]), jnp.array([[0.0, 1.0]]))[0]), -np.log(1e-7), rtol=1e-5)


def test_half_precision_predictions_are_judged_in_float32():
    values = losses.MeanSquaredError()(jnp.ones((2, 3)), jnp.zeros((2, 3), jnp.bfloat16))
    assert values.dtype == jnp.float32
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss(jnp.array([0, 1]), jnp.zeros((2, 3), jnp.float16)).dtype == jnp.float32


def test_rows_of_flat_outputs_stay_apart():
    values = losses.MeanSquaredError()(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    assert values.tolist() == [1.0, 4.0, 9.0]


def test_logits_of_any_size_are_finite():
    for loss in (
        losses.CategoricalCrossentropy(from_logits=True),
        losses.BinaryCrossentropy(from_logits=True),
    ):
        value, gradient = jax.value_and_grad(lambda p, f=loss: f(jnp.array([[0.0, 1.0]]), p).sum())(
            jnp.array([[1e4, -1e4]])
        )
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("y_true", "y_pred", "fix"),
    [
        ((8,), (8, 1), r"float32\(8,\).*float32\(8, 1\).*y\[\.\.\., None\]"),
        ((8, 1), (8,), r"y\[\.\.\., 0\]"),
        ((8, 2), (8, 3), "last layer"),
    ],
)
@pytest.mark.parametrize(
    "name", ["mse", "bce", "Huber", "kld", "cosine_similarity", "categorical_crossentropy", "dice", "Tversky"]
)
def test_unequal_shapes_are_refused(name, y_true, y_pred, fix):
    with pytest.raises(ValueError, match=fix):
        losses.get(name)(np.zeros(y_true, np.float32), np.ones(y_pred, np.float32))


def test_class_numbers_where_one_hot_is_expected():
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        losses.CategoricalCrossentropy()(np.zeros(4, np.int32), np.ones((4, 3), np.float32))


def test_sparse_targets_are_checked():
    loss = losses.SparseCategoricalCrossentropy()
    assert jax.eval_shape(loss, np.zeros((4, 1), np.int32), np.ones((4, 3), np.float32)).shape == (4,)
    with pytest.raises(TypeError, match=r"astype\('int32'\)"):
        loss(np.zeros(4), np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="one-hot"):
        loss(np.zeros((4, 3), np.int32), np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="binary_crossentropy"):
        loss(np.zeros(4, np.int32), np.ones((4, 1), np.float32))


def test_a_label_out_of_range_is_loud():
    values = losses.SparseCategoricalCrossentropy()(jnp.array([0, -1, 3]), jnp.ones((3, 3)))
    assert jnp.isnan(values).tolist() == [False, True, True]


TOGETHER = [
    ("Dice", {}, bits((5, 4, 3)), unit((5, 4, 3))),
    ("Tversky", {"alpha": 0.2, "beta": 0.7}, bits((5, 4, 3)), unit((5, 4, 3))),
    ("Dice", {"axis": (0, 1)}, bits((5, 4, 3)), unit((5, 4, 3))),
    ("Circle", {"gamma": 3.0}, np.array([0, 1, 0, 2, 1]), points(())[:5]),
]


@pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"), TOGETHER, ids=["dice", "tversky", "axes", "circle"]
)
def test_losses_that_see_the_batch_as_a_whole(name, arguments, y_true, y_pred):
    """The means of training, and the gradients, are Keras's, whatever fills the batch up, NaN even."""
    ours = getattr(losses, name)(**arguments)
    judge = as_loss(ours)
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)

    def mean(p):
        return objective.mean_of(judge, y_true, p, None, None, 5)[0]

    def padded(p):
        filled = jnp.concatenate([p, jnp.full_like(p[:2], jnp.nan if name != "Circle" else 0.3)])
        mask = jnp.array([1.0] * 5 + [0.0] * 2)
        return objective.mean_of(judge, jnp.concatenate([y_true, y_true[:2]]), filled, None, mask, 5)[0]

    def judged(*functions):
        all_of_them = lambda p: [jax.value_and_grad(f)(p) for f in functions]  # noqa: E731
        return jax.jit(all_of_them, compiler_options=QUICK)(y_pred)

    ((value, gradient),) = keras_values(lambda: judged(lambda p: kerass(name, arguments)()(y_true, p)))
    for got in judged(mean, padded):
        np.testing.assert_allclose(got[0], value, rtol=1e-5)
        np.testing.assert_allclose(got[1], gradient, rtol=1e-4, atol=1e-6)
    metric = metrics.get(ours)
    weight = jnp.array([1.0] * 5 + [0.0])
    last = jnp.concatenate([y_pred, y_pred[:1]])
    got = jax.jit(metric, compiler_options=QUICK)(jnp.concatenate([y_true, y_true[:1]]), last, weight)
    np.testing.assert_allclose(got, value, rtol=1e-5)


def test_ctc_sums_over_all_paths():
    """Against the sum over every path that collapses to the text."""
    y_pred = frames(())[:1, :4, :3]
    p = scipy.special.softmax(y_pred[0].astype(np.float64), -1)
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        if [k for k, _ in itertools.groupby(path) if k] == [1, 1]:
            total += np.prod([p[t, k] for t, k in enumerate(path)])
    loss = jax.jit(losses.CTC(), compiler_options=QUICK)(jnp.array([[1, 1, 0]]), jnp.asarray(y_pred))
    np.testing.assert_allclose(loss, [-np.log(total)], rtol=1e-5)


def test_generalized_cross_entropy_has_a_finite_gradient_at_probability_0():
    loss = losses.CategoricalGeneralizedCrossEntropy()
    value, gradient = jax.value_and_grad(lambda p: loss(jnp.array([0]), p).sum())(jnp.array([[0.0, 1.0]]))
    assert np.isclose(value, 2.0, rtol=1e-3)
    assert jnp.isfinite(gradient).all()
    assert jnp.isnan(loss(jnp.array([2]), jnp.array([[0.5, 0.5]]))).all()
    with pytest.raises(ValueError, match=r"from 0 to 1.*received"):
        loss.check(np.array([2]), np.ones((1, 2)))


@pytest.mark.parametrize("logit", [-20.0, -100.0, -1e4])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_losses_of_extreme_logits(logit, gamma):
    binary = losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True)
    value, slope = jax.value_and_grad(lambda p: binary(jnp.ones((1, 1)), p).sum())(jnp.full((1, 1), logit))
    np.testing.assert_allclose([value, slope[0, 0]], [-logit, -1.0], rtol=1e-5)
    many = losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=gamma, from_logits=True)
    y_true, y_pred = jnp.array([[1.0, 0.0]]), jnp.array([[logit, 0.0]])
    value, slope = jax.value_and_grad(lambda p: many(y_true, p).sum())(y_pred)
    np.testing.assert_allclose([value, *slope[0]], [-logit, -1.0, 1.0], rtol=1e-5)
    for right in (-logit, 0.0):
        value, slope = jax.value_and_grad(lambda p: many(y_true, p).sum())(jnp.array([[right, logit]]))
        assert np.isclose(value, 0.0, atol=1e-6)
        assert np.isfinite(slope).all()


def test_tversky_is_that_of_its_paper():
    y_true, y_pred = jnp.array([[1.0, 0.0, 1.0, 1.0]]), jnp.array([[1.0, 1.0, 0.0, 0.0]])
    value = losses.Tversky(alpha=0.3, beta=0.7)(y_true, y_pred)  # TP 1, FP 1, FN 2
    np.testing.assert_allclose(value, [1 - 1 / (1 + 0.3 * 1 + 0.7 * 2)], rtol=1e-5)


def test_ignored_class():
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    y_true, y_pred = jnp.array([1, -1, 0]), jnp.asarray(numbers((3, 4)))
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1, reduction="none")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(loss(y_true, y_pred), theirs(y_true, y_pred), rtol=1e-5)
    assert loss.counts(y_true, y_pred).tolist() == [True, False, True]
    gradient = jax.grad(lambda p: loss(y_true, p).sum())(y_pred)
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: losses.get("meen_squared_error"), "MeanSquaredError"),
        (lambda: losses.Huber(delta=0.0), "delta"),
        (lambda: losses.CategoricalGeneralizedCrossEntropy(q=1.0), r"q=1\.0"),
        (lambda: losses.Dice(axis=3)(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)), "axis=3"),
        (lambda: losses.Circle()(np.ones(2), np.ones((2, 3), np.float32)), r"astype\('int32'\)"),
        (lambda: losses.Circle()(np.ones((2, 3), int), np.ones((2, 3), np.float32)), r"y_true \(batch,\)"),
        (lambda: losses.CTC()(np.ones((2, 3)), np.ones((2, 4, 3), np.float32)), r"astype\('int32'\)"),
        (lambda: losses.CTC()(np.ones(2, int), np.ones((2, 4, 3), np.float32)), r"\(batch, length\)"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=1.5), "label_smoothing"),
        (lambda: losses.BinaryCrossentropy(logits=True), "from_logits"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises((ValueError, KeyError, TypeError), match=text):
        make()


@pytest.mark.parametrize("name", ["mse", "MSE", "mae", "MAE", "mape", "msle", "bce", "BCE", "kld", "KLD"])
def test_keras_short_names(name):
    assert callable(losses.get(name))


@pytest.mark.parametrize("name", list(losses.registry))
def test_every_loss_has_a_parity_case(name):
    assert name in {case[0] for case in CASES}
