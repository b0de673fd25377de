"""Optimizers by name against optax's own, chains, schedules, specs, signatures, errors."""

import inspect
import pickle
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlayers import optimizers
from jlayers.core.registry import Kind

PARAMS = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "bias": jnp.ones(3)}}
GRADS = jax.tree.map(lambda p: 0.1 * p + 0.01, PARAMS)
TRANSFORMATIONS = {name for name in optimizers.registry if name in optimizers._TRANSFORMATIONS}
NAMES = sorted(set(optimizers.registry) - TRANSFORMATIONS - {"chain"})


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


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_optax(name):
    rate = {} if name == "polyak_sgd" else {"learning_rate": 0.02}
    ours, theirs = updates(getattr(optimizers, name)(**rate)), updates(getattr(optax, name)(**rate))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("polyak_sgd",)])
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
