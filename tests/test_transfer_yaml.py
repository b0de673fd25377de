"""Transfer learning from a file: rates by path, with a schedule of unfreezing, and LoRA around a base."""

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers import config, train
from jlayers.core.tree import flatten

BASE = jl.Sequential(
    jl.Flatten(),
    jl.Dense(6, activation="relu", name="low"),
    jl.Dense(5, activation="relu", name="high"),
    name="base",
)
YAML = """\
data: digits
model:
  Sequential:
    - Sequential:
        name: base
        layers: [Flatten, {Dense: {units: 6, activation: relu, name: low}}, {Dense: {units: 5, name: high}}]
    - Dense: {units: 10, name: head}
loss: {SparseCategoricalCrossentropy: {from_logits: true}}
"""
RATES = """\
freeze: [base]
unfreeze: {1: [base/high], 2: ["base/**"]}
optimizer:
  multi_optimizer:
    optimizers:
      "base/low/*": {sgd: {learning_rate: 0.0}}
      "base/high/*": {sgd: {learning_rate: 0.001}}
    default: {sgd: {learning_rate: 0.1}}
"""


class Kept(jl.Callback):
    def on_fit_begin(self, run):
        self.params = []

    def on_epoch_end(self, epoch, logs, state):
        self.params.append({path: np.asarray(leaf) for path, leaf in flatten(state.params).items()})


def fitted(experiment, epochs):
    kept, trainer = Kept(), experiment.compile()
    (x, y), _ = experiment.parts
    state, _ = experiment.start(trainer)
    train.fit(trainer, x[:64], y[:64], epochs=epochs, batch_size=32, callbacks=[kept], state=state)
    return kept.params


def test_rates_by_path_of_layers_that_unfreeze_later():
    first, second, third = fitted(config.loads(YAML + RATES), 3)
    moves = {path: float(np.abs(second[path] - first[path]).max()) for path in first}
    assert moves["base/low/kernel"] == 0
    assert 0 < moves["base/high/kernel"] < 0.1 * moves["head/kernel"]
    np.testing.assert_array_equal(third["base/low/kernel"], first["base/low/kernel"], "its rate is 0")
    assert np.abs(third["base/high/kernel"] - second["base/high/kernel"]).max() > 0


@pytest.mark.parametrize(
    "optimizer",
    [
        'multi_optimizer: {optimizers: {"bass/**": adam}, default: adam}',
        'adamw: {weight_decay: 0.1, mask: "bass/**"}',
    ],
)
def test_a_pattern_that_fits_neither_trained_nor_frozen_layers_is_refused(optimizer):
    made = config.loads(YAML + "freeze: [base]\noptimizer:\n  " + optimizer + "\n")
    with pytest.raises(ValueError, match="expected patterns that fit parameters"):
        fitted(made, 1)
    with pytest.raises(config.ConfigError, match="<text>:10: optimizer"):
        made.check()


def test_lora_around_a_base_with_its_weights(tmp_path):
    params, state = BASE.init(jax.random.key(7), (1, 8, 8, 1))
    jl.save_weights(tmp_path / "base.safetensors", params, state)
    text = YAML.replace(
        "- Sequential:\n        name: base\n        layers:",
        "- LoRA:\n        name: adapted\n        rank: 2\n        layer:\n          Sequential:",
    )
    text += (
        "weights: [{source: base.safetensors, to: adapted/layer}]\noptimizer: {adam: {learning_rate: 0.05}}\n"
    )
    (last,) = fitted(config.loads(text, base=tmp_path), 1)
    for path, leaf in flatten(params).items():
        np.testing.assert_array_equal(last[f"adapted/layer/{path}"], leaf)
    assert np.abs(last["adapted/lora_b/low/kernel"]).max() > 0
    assert last["adapted/lora_a/low/kernel"].shape == (64, 2)
