"""Optimizers by name against optax's own, chains, schedules, specs, signatures, errors."""

import inspect
import pickle
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from keras_values import keras_values

import jlayers as jl
from jlayers import config, optimizers
from jlayers.core.registry import Kind

PARAMS = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "bias": jnp.ones(3)}}
GRADS = jax.tree.map(lambda p: 0.1 * p + 0.01, PARAMS)
TRANSFORMATIONS = {name for name in optimizers.registry if name in optimizers.entries.TRANSFORMATIONS}
NAMES = sorted(set(optimizers.registry) - TRANSFORMATIONS - {"chain", "multi_optimizer"})
OURS = {"ftrl"}  # optax has none


def updates(transformation, steps=2):
    transformation = optax.with_extra_args_support(transformation)

    @jax.jit
    def run(params, grads):
        state = transformation.init(params)
        for _ in range(steps):
            change, state = transformation.update(grads, state, params, value=jnp.float32(1.0), grad=grads)
            params = optax.apply_updates(params, change)
        return params

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return run(PARAMS, GRADS)


@pytest.mark.parametrize("name", sorted(set(NAMES) - OURS))
def test_the_numbers_are_those_of_optax(name):
    rate = {} if name == "polyak_sgd" else {"learning_rate": 0.02}
    theirs = getattr(optax, name, None) or getattr(optax.contrib, name)
    ours, theirs = updates(getattr(optimizers, name)(**rate)), updates(theirs(**rate))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("polyak_sgd", "schedule_free_adamw")])
def test_learning_rates_have_keras_defaults(name):
    plain = {"sgd", "lars", "sm3", "optimistic_gradient_descent"}
    default = inspect.signature(getattr(optimizers, name)).parameters["learning_rate"].default
    assert default == (0.01 if name in plain else 0.001)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Nadam", "Lion", "adam"])
def test_keras_names_are_found(name):
    assert isinstance(optimizers.get(name), optax.GradientTransformation)
    assert isinstance(getattr(optimizers, name)(), optax.GradientTransformation)


def test_a_list_is_a_chain():
    data = [{"clip_by_global_norm": {"max_norm": 0.1}}, {"add_decayed_weights": {"weight_decay": 0.1}}, "sgd"]
    ours = updates(optimizers.get(data))
    theirs = updates(
        optax.chain(optax.clip_by_global_norm(0.1), optax.add_decayed_weights(0.1), optax.sgd(0.01))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    made = optimizers.get(data)
    assert made.spec.to_data() == {"chain": {"transformations": data}}
    again = optimizers.get(made.spec.to_data())
    assert again.spec == made.spec


def test_every_optimizer_is_written_down_and_read_again():
    for name in NAMES:
        made = optimizers.get(name)
        assert optimizers.get(made.spec.to_data()).spec == made.spec
        assert pickle.loads(pickle.dumps(made)).spec == made.spec
    made = optimizers.adam(optimizers.cosine_decay_schedule(0.1, decay_steps=20), b1=0.8)
    assert repr(made) == "adam(learning_rate=cosine_decay_schedule(0.1, 20), b1=0.8)"
    assert made.spec.to_data() == {
        "adam": {
            "learning_rate": {"cosine_decay_schedule": {"init_value": 0.1, "decay_steps": 20}},
            "b1": 0.8,
        }
    }
    assert optimizers.get(made.spec.to_data()).spec == made.spec


SCHEDULES = {
    "constant_schedule": {"value": 0.3},
    "cosine_decay_schedule": {"init_value": 1.0, "decay_steps": 10, "alpha": 0.1},
    "cosine_onecycle_schedule": {"transition_steps": 10, "peak_value": 1.0},
    "exponential_decay": {"init_value": 1.0, "transition_steps": 3, "decay_rate": 0.5, "staircase": True},
    "linear_onecycle_schedule": {"transition_steps": 10, "peak_value": 1.0},
    "linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 10},
    "piecewise_constant_schedule": {"init_value": 1.0, "boundaries_and_scales": {3: 0.1, 6: 0.5}},
    "piecewise_interpolate_schedule": {
        "interpolate_type": "linear",
        "init_value": 1.0,
        "boundaries_and_scales": {5: 0.1},
    },
    "polynomial_schedule": {"init_value": 1.0, "end_value": 0.0, "power": 2, "transition_steps": 10},
    "sgdr_schedule": {
        "cosine_kwargs": [{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 9}]
    },
    "warmup_constant_schedule": {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 4},
    "warmup_cosine_decay_schedule": {
        "init_value": 0.0,
        "peak_value": 1.0,
        "warmup_steps": 4,
        "decay_steps": 10,
    },
    "warmup_exponential_decay_schedule": {
        "init_value": 0.0,
        "peak_value": 1.0,
        "warmup_steps": 4,
        "transition_steps": 3,
        "decay_rate": 0.5,
    },
}


@pytest.mark.parametrize("name", sorted(set(optimizers.schedules) - {"join_schedules"}))
def test_schedules_are_those_of_optax(name):
    ours = optimizers.get_schedule({name: SCHEDULES[name]})
    theirs = getattr(optax, name)(**SCHEDULES[name])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for step in (0, 3, 7, 12):
            assert float(ours(step)) == float(theirs(step))
    assert optimizers.get_schedule(ours.spec.to_data()).spec == ours.spec


def test_boundaries_may_come_as_text():
    text = optimizers.piecewise_constant_schedule(1.0, {"3": 0.1})
    assert np.isclose(float(text(5)), 0.1)


def test_a_schedule_moves_the_learning_rate():
    rate = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 2}}
    sgd = optimizers.get({"sgd": {"learning_rate": rate}})
    with jax.numpy_dtype_promotion("standard"):
        state = sgd.init(jnp.ones(()))
        for expected in (-1.0, -0.5, 0.0):
            change, state = sgd.update(jnp.ones(()), state)
            assert np.isclose(float(change), expected)


def test_signatures_are_schemas():
    hints = typing.get_type_hints(optimizers.registry["adamw"], include_extras=True)
    members = typing.get_args(hints["learning_rate"])
    assert float in members
    assert any(Kind("schedule") in typing.get_args(member) for member in members)
    assert hints["weight_decay"] is float
    assert hints["nesterov"] is bool
    for table in (optimizers.registry, optimizers.schedules):
        for name in table:
            for parameter in table.parameters(name).values():
                assert parameter.annotation is not parameter.empty, (name, parameter)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optimizers.get("adamm"), "'adam'"),
        (lambda: optimizers.get({"adam": {"learning_rat": 0.1}}), "learning_rate"),
        (lambda: optimizers.adam(-1.0), "learning_rate=-1.0"),
        (lambda: optimizers.adam(float("nan")), "learning_rate=nan"),
        (lambda: optimizers.get(3), "by name"),
        (lambda: optimizers.get([]), "at least one"),
        (lambda: optimizers.adam({"cosine_schedule": {}}), "cosine_decay_schedule"),
        (lambda: optimizers.adm, "'adam'"),
        (lambda: optimizers.sm3(optimizers.constant_schedule(0.1)), "no schedule"),
    ],
)
def test_errors(make, text):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError), match=text):
        make()


def test_own_optimizers_pass_through():
    own = optax.chain(optax.sgd(0.1))
    assert optimizers.get(own) is own


# ------------------------------------------------------------------------ what decays, and what climbs

TREE = {
    "dense": {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)},
    "norm": {"gamma": np.ones(2, np.float32)},
}


@pytest.mark.parametrize(
    "name", ["adamw", "adamaxw", "adan", "lamb", "lion", "nadamw", "lars", "adadelta", "adafactor"]
)
@pytest.mark.parametrize("patterns", ["**/kernel", ["**/kernel", "norm/*"]])
def test_weight_decay_by_patterns_of_paths(name, patterns):
    """Parameters that fit move as with decay everywhere, others as without any decay."""
    constructor = optimizers.registry[name]
    options = inspect.signature(constructor).parameters
    mask = "mask" if "mask" in options else "weight_decay_mask"
    rate = "weight_decay_rate" if name == "adafactor" else "weight_decay"
    zeros = jax.tree.map(np.zeros_like, TREE)

    def moved(**given):
        made = constructor(**{"learning_rate": 0.1, rate: 0.5, **given})
        with optimizers.lenient():
            return made.update(zeros, made.init(TREE), TREE)[0]

    found = moved(**{mask: patterns})
    decayed, plain = moved(), moved(**{rate: 0.0})
    np.testing.assert_array_equal(found["dense"]["kernel"], decayed["dense"]["kernel"])
    np.testing.assert_array_equal(found["dense"]["bias"], plain["dense"]["bias"])
    expected = decayed if isinstance(patterns, list) else plain
    np.testing.assert_array_equal(found["norm"]["gamma"], expected["norm"]["gamma"])
    assert np.abs(found["dense"]["kernel"]).max() > 0


def test_patterns_are_written_down_and_pickled():
    made = optimizers.adamw(mask=["**/kernel"])
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made) == "adamw(mask=['**/kernel'])"
    assert made.spec.to_data() == {"adamw": {"mask": ["**/kernel"]}}


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            "exclude_bias",
            ValueError,
            r"adamw: expected patterns that fit .*mask=\['exclude_bias'\]",
        ),
        ("**/kernal", ValueError, "valid: dense/bias, dense/kernel, norm/gamma"),
        ([], ValueError, "adamw"),
        (3, TypeError, "received mask=3"),
        ({"dense": "kernel"}, TypeError, "a tree of true and false"),
    ],
)
def test_masks_that_mean_nothing_are_refused(mask, error, message):
    with pytest.raises(error, match=message):
        optimizers.adamw(mask=mask).init(TREE)


@pytest.mark.parametrize(
    "value",
    ["clip", ["clip_by_global_norm"], ["zero_nans", ["scale_by_adam"]], {"scale": {"step_size": 0.1}}],
)
def test_transformations_alone_would_climb_and_are_refused(value):
    given = [{"clip_by_global_norm": {"max_norm": 1.0}} if v == "clip_by_global_norm" else v for v in value]
    given = {"clip": {"max_delta": 1.0}} if value == "clip" else value if isinstance(value, dict) else given
    with pytest.raises(ValueError, match=r"expected an optimizer.*up along them.*adam\]"):
        optimizers.get(given)


@pytest.mark.parametrize(
    "value",
    [
        ["zero_nans", "adam"],
        ["scale_by_adam", {"scale": {"step_size": -0.1}}],
        ["scale_by_adam", "scale_by_learning_rate"],
        ["zero_nans", optax.sgd(0.1)],
    ],
)
def test_chains_that_descend_pass(value):
    made = optimizers.get(value)
    with optimizers.lenient():
        step, _ = made.update({"w": np.ones(2, np.float32)}, made.init({"w": np.ones(2, np.float32)}))
    assert (step["w"] < 0).all()


def test_a_quoted_learning_rate_is_told():
    with pytest.raises(ValueError, match="learning_rate='1e-3'; a number is written without quotes"):
        optimizers.adam(learning_rate="1e-3")


# ------------------------------------------------------------------------------------ Keras's optimizers

START = {"kernel": np.linspace(-1, 1, 6).reshape(2, 3).astype("float32"), "bias": np.ones(3, "float32")}
STEPS = [
    {
        name: np.random.default_rng(step).normal(size=value.shape).astype("float32")
        for name, value in START.items()
    }
    for step in range(4)
]


def keras_steps(name, **arguments):
    """The parameters after each of the steps."""
    import keras

    variables = [keras.Variable(START[key], name=key) for key in START]
    optimizer = getattr(keras.optimizers, name)(**arguments)
    found = []
    for gradients in STEPS:
        optimizer.apply([jnp.asarray(gradients[key]) for key in START], variables)
        found.append({key: np.asarray(v.value) for key, v in zip(START, variables, strict=True)})
    return found


def our_steps(transformation):
    params, found = START, []
    with optimizers.lenient():
        state = transformation.init(params)
        for gradients in STEPS:
            change, state = transformation.update(gradients, state, params)
            params = optax.apply_updates(params, change)
            found.append(params)
    return found


LIKE_KERAS = {
    "ftrl": ("Ftrl", {"learning_rate": 0.1}, "ftrl", {"learning_rate": 0.1}),
    "ftrl in full": (
        "Ftrl",
        strengths := {
            "learning_rate": 0.2,
            "learning_rate_power": -0.7,
            "initial_accumulator_value": 0.3,
            "l1_regularization_strength": 1.5,
            "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.05,
            "beta": 0.3,
        },
        "ftrl",
        strengths,
    ),
    "adam": ("Adam", {"epsilon": 0.1}, "adam", {"epsilon_hat": 0.1}),
    "adamw": (
        "AdamW",
        {"epsilon": 0.1, "weight_decay": 0.3, "learning_rate": 0.1},
        "adamw",
        {"epsilon_hat": 0.1, "weight_decay": 0.3, "learning_rate": 0.1},
    ),
    "schedule-free": (
        "ScheduleFreeAdamW",
        {"learning_rate": 0.1, "beta_1": 0.8},
        "schedule_free_adamw",
        {"learning_rate": 0.1, "b1": 0.8},
    ),
}


@pytest.mark.parametrize("case", LIKE_KERAS)
def test_steps_are_those_of_keras(case):
    theirs, given, ours, arguments = LIKE_KERAS[case]
    expected = keras_values(lambda: keras_steps(theirs, **given))
    found = our_steps(optimizers.registry[ours](**arguments))
    for one, other in zip(found, expected, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), one, other)


def test_clipping_each_gradient_by_its_norm_is_that_of_keras():
    expected = keras_values(lambda: keras_steps("SGD", learning_rate=0.1, clipnorm=0.7))
    found = our_steps(optimizers.get([{"clip_by_norm": {"max_norm": 0.7}}, {"sgd": {"learning_rate": 0.1}}]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    with optimizers.lenient():
        clip = optimizers.clip_by_norm(0.7)
        assert not np.any(clip.update(np.zeros(3, "float32"), clip.init(None))[0])


def test_ftrl_gives_zeros_and_never_nan():
    sparse = our_steps(optimizers.ftrl(0.1, l1_regularization_strength=5.0))[-1]
    assert not np.any(sparse["kernel"]), "exactly zero"
    with optimizers.lenient():
        for made in (optimizers.ftrl(initial_accumulator_value=0.0), optimizers.ftrl(0.0)):
            change, state = made.update(jnp.zeros(2), made.init(jnp.ones(2)), jnp.ones(2))
            assert not np.any(change)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_muon_leaves_embeddings_and_what_is_excluded_to_adam():
    params = {
        "table": {"embeddings": START["kernel"]},
        "a": {"kernel": START["kernel"]},
        "b": {"kernel": START["kernel"]},
    }

    def change(made) -> Any:
        with optimizers.lenient():
            return made.update(params, made.init(params), params)[0]

    found = change(optimizers.muon(0.1, exclude="b/kernel"))
    matrix = change(optax.contrib.muon(0.1))["a"]["kernel"]
    plain = change(optax.adamw(0.1, weight_decay=0.0, nesterov=True))["a"]["kernel"]
    np.testing.assert_allclose(found["a"]["kernel"], matrix, rtol=1e-5)
    np.testing.assert_allclose(found["b"]["kernel"], plain, rtol=1e-5)
    np.testing.assert_allclose(found["table"]["embeddings"], plain, rtol=1e-5)
    everywhere = change(optimizers.muon(0.1, exclude_embeddings=False))
    np.testing.assert_allclose(everywhere["table"]["embeddings"], matrix, rtol=1e-5)


def test_several_optimizers_by_patterns():
    made = optimizers.get(
        {"MultiOptimizer": {"optimizers": {"dense/*": "sgd", "**/bias": "adam"}, "default": "lion"}}
    )
    assert optimizers.get(made.spec.to_data()).spec == made.spec
    assert optimizers.has_patterns(made)
    gradients = jax.tree.map(np.ones_like, TREE)
    with optimizers.lenient():
        change = made.update(gradients, made.init(TREE), TREE)[0]

        def alone(name):
            return optimizers.get(name).update(gradients, optimizers.get(name).init(TREE), TREE)[0]

        np.testing.assert_array_equal(change["dense"]["kernel"], alone("sgd")["dense"]["kernel"])
        np.testing.assert_array_equal(
            change["dense"]["bias"], alone("adam")["dense"]["bias"]
        )  # the last counts
        np.testing.assert_array_equal(change["norm"]["gamma"], alone("lion")["norm"]["gamma"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizers": {"dens/*": "sgd"}, "default": "adam"}, "pattern 'dens/.': .*dense/bias"),
        ({"optimizers": {"dense/*": "sgd"}}, "none for norm/gamma; .*default='adam'"),
    ],
)
def test_several_optimizers_must_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.multi_optimizer(**arguments).init(TREE)


@pytest.mark.parametrize(
    ("name", "given", "instead"),
    [
        ("adam", {"beta_1": 0.8}, "write b1=0.8"),
        ("adam", {"epsilon": 1e-7}, "write epsilon_hat=1e-07"),
        ("nadam", {"epsilon": 1e-7}, "write eps=1e-07"),
        ("adam", {"clipnorm": 1.0}, r"\[\{'clip_by_norm': \{'max_norm': 1.0\}\}, 'adam'\]"),
        ("sgd", {"clipvalue": 0.5}, r"\[\{'clip': \{'max_delta': 0.5\}\}, 'sgd'\]"),
        ("sgd", {"global_clipnorm": 0.5}, "clip_by_global_norm"),
        ("adam", {"weight_decay": 0.1}, r"adamw\(weight_decay=0.1\)"),
        ("sgd", {"weight_decay": 0.1}, "kernel_regularizer='l2'"),
        ("adam", {"use_ema": True}, "ema=0.99"),
        ("adam", {"amsgrad": True}, "the optimizer amsgrad"),
        ("rmsprop", {"rho": 0.8}, "decay=0.8"),
        ("muon", {"momentum": 0.9}, "beta=0.9"),
        ("adam", {"gradient_accumulation_steps": 4}, "accumulate=4"),
    ],
)
def test_words_of_keras_are_told(name, given, instead):
    with pytest.raises(TypeError, match=instead):
        optimizers.registry[name](**given)


def test_words_of_keras_are_told_in_yaml():
    text = "model: {Dense: {units: 2}}\ndata: digits\noptimizer: {adam: {beta_1: 0.8}}"
    with pytest.raises(config.ConfigError, match=r"adam takes no 'beta_1' \(received .*\): write b1=0.8"):
        config.loads(text)


def test_a_schedule_free_optimizer_is_evaluated_where_it_says():
    """`fit`, `evaluate` and `predict` take the average, and the state continues from what it trains."""
    x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    y = x.sum(1, keepdims=True)
    trainer = jl.compile(jl.Dense(1), {"ScheduleFreeAdamW": {"learning_rate": 0.1, "b1": 0.5}}, "mse")
    state, history = jl.fit(trainer, x, y, epochs=2, validation_data=(x, y), batch_size=8)
    average = optax.contrib.schedule_free_eval_params(state.opt_state, state.params)
    assert np.abs(average["kernel"] - state.params["kernel"]).max() > 1e-3
    loss = jl.evaluate(trainer, (average, state.state), x, y)["loss"]
    assert np.isclose(jl.evaluate(trainer, state, x, y)["loss"], loss)
    assert np.isclose(history["val_loss"][-1], loss)
    once = state.to_evaluate()
    np.testing.assert_allclose(once.to_evaluate().params["kernel"], once.params["kernel"], rtol=1e-6)
    stop = jl.train.EarlyStopping("val_loss", restore_best_weights=True)
    best, history = jl.fit(trainer, x, y, epochs=3, validation_data=(x, y), batch_size=8, callbacks=[stop])
    assert np.isclose(jl.evaluate(trainer, best, x, y)["loss"], min(history["val_loss"]))
