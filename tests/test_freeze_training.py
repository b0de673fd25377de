"""The proof that frozen means frozen: bits, work, and the optimizer's memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.tree import flatten
from jlayers.train import Batch, TrainState, compile, fit, make_train_step
from jlayers.train.update import Update

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 32).astype(np.int32)
BATCH = Batch(X, Y)
LOSS = "sparse_categorical_crossentropy"


def network():
    base = jl.Sequential(
        jl.Flatten(),
        jl.Dense(24, activation="relu", kernel_regularizer=jl.l2(0.1)),
        jl.BatchNormalization(),
        jl.Dropout(0.5),
        jl.Dense(8, activation="relu"),
        name="base",
    )
    return jl.Sequential(
        base, jl.BatchNormalization(name="norm"), jl.Dense(3, activation="softmax", name="head")
    )


OPTIMIZERS = {
    "adamw with weight decay": {"adamw": {"learning_rate": 0.1, "weight_decay": 0.5}},
    "momentum": {"sgd": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}},
    "clipping and decay": [
        {"clip_by_global_norm": {"max_norm": 0.01}},
        {"add_decayed_weights": {"weight_decay": 0.5}},
        {"adam": {"learning_rate": 0.1}},
    ],
}


def bits(tree):
    return {path: np.asarray(leaf).tobytes() for path, leaf in flatten(tree).items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_frozen_leaves_are_bit_identical_after_steps_and_the_others_move(optimizer):
    model = jl.freeze(network(), "base")
    state = TrainState.create(model, optimizer, jax.random.key(0), X)
    before = bits(state.params), bits(state.state)
    step = make_train_step(model, LOSS, optimizer)
    for _ in range(4):
        state, _ = step(state, BATCH)
    for old, new in zip(before, (bits(state.params), bits(state.state)), strict=True):
        assert old.keys() == new.keys()
        for path in old:
            assert (old[path] == new[path]) == path.startswith("base/"), path


def test_momentum_from_before_the_freeze_does_not_move_frozen_leaves():
    model = network()
    trainer = compile(model, OPTIMIZERS["momentum"], LOSS)
    state, _ = fit(trainer, X, Y, batch_size=8)
    frozen = compile(jl.freeze(model, "base", "norm"), OPTIMIZERS["momentum"], LOSS)
    with pytest.raises(ValueError, match="adopt"):
        fit(frozen, X, Y, state=state)
    after, _ = fit(frozen, X, Y, batch_size=8, epochs=2, state=frozen.adopt(state))
    old, new = bits(state.params), bits(after.params)
    assert {path for path in old if old[path] != new[path]} == {"head/kernel", "head/bias"}
    assert bits(state.state) == bits(after.state)

    thawed = compile(jl.unfreeze(frozen.model), OPTIMIZERS["momentum"], LOSS)
    last, _ = fit(thawed, X, Y, batch_size=8, state=thawed.adopt(after))
    moved = bits(last.params)
    assert all(moved[path] != new[path] for path in new)
    assert all(bits(last.state)[path] != leaf for path, leaf in bits(after.state).items())


def test_the_compiled_step_does_less_work():
    flops = {}
    for name, model in {"all": network(), "head": jl.freeze(network(), "base")}.items():
        state = TrainState.create(model, "adam", jax.random.key(0), X)
        lowered = make_train_step(model, LOSS, "adam").lower(state, BATCH)
        flops[name] = lowered.compile().cost_analysis()["flops"]
    assert flops["head"] < 0.6 * flops["all"]


def test_a_frozen_base_costs_its_forward_pass_only():
    """By XLA's count: a backward pass takes about twice the work of a forward pass, and keeps its outputs."""
    convolutions = [jl.Conv2D(8, 3, padding="same", activation="relu") for _ in range(4)]
    model = jl.Sequential(
        jl.Sequential(*convolutions, name="base"),
        jl.GlobalAveragePooling2D(),
        jl.Dense(3, activation="softmax"),
    )
    x = np.zeros((8, 12, 12, 8), np.float32)
    flops, memory = [], []
    for each in (model, jl.freeze(model, "base")):
        trainer = compile(each, "adam", LOSS)
        state = trainer.init(jax.random.key(0), x)
        compiled = trainer.train_step.lower(state, Batch(x, np.zeros(8, np.int32))).compile()
        flops.append(compiled.cost_analysis()["flops"])
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    assert flops[1] < 0.5 * flops[0]
    assert memory[1] < 0.6 * memory[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_optimizer_holds_nothing_for_frozen_leaves(optimizer):
    model = jl.freeze(network(), "base")
    state = TrainState.create(model, optimizer, jax.random.key(0), X)
    trained, frozen = Update.of_model(model, optimizer).split(state.params)
    frozen_shapes = {leaf.shape for leaf in flatten(frozen).values()}
    trained_shapes = {leaf.shape for leaf in flatten(trained).values()}
    held = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} - {()}
    assert held <= trained_shapes
    assert not held & (frozen_shapes - trained_shapes)


def test_a_wholly_frozen_model_still_steps():
    model = jl.freeze(jl.Dense(3, activation="softmax"))
    state = TrainState.create(model, "adamw", jax.random.key(0), (4, 2))
    before = bits(state.params)
    step = make_train_step(model, LOSS, "adamw")
    state, logs = step(state, Batch(np.ones((4, 2), np.float32), np.zeros(4, np.int32)))
    assert bits(state.params) == before
    assert jnp.isfinite(logs["loss"])


def test_frozen_regularizers_are_not_in_the_loss():
    model = network()
    params, _ = model.init(jax.random.key(0), X)
    assert float(model.penalty(params)) > 0
    assert float(jl.freeze(model, "base").penalty(params)) == 0
