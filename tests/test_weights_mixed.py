"""A model that starts from weights of several sources, and fresh ones."""

import json

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.cli import main

RNG = np.random.default_rng(0)
TORCH = {
    "x.weight": RNG.normal(size=(8, 4)).astype(np.float32),
    "x.bias": np.ones(8, np.float32),
    "y.weight": RNG.normal(size=(6, 8)).astype(np.float32),
    "y.bias": np.zeros(6, np.float32),
}
HEAD = {"head/kernel": np.full((6, 2), 3, np.float32)}
KEY = jax.random.key(5)


def net():
    base = jl.Sequential(jl.Dense(8, name="a"), jl.Dense(6, name="b"), name="base")
    return jl.Sequential(jl.Input((4,)), base, jl.Dense(2, name="head"))


def test_weights_for_a_part_leave_the_rest_fresh():
    params, _ = jl.load_weights(net(), TORCH, to="base", by="order", key=KEY)
    np.testing.assert_array_equal(params["base"]["a"]["kernel"], TORCH["x.weight"].T)
    fresh, _ = net().init(KEY, (1, 4))
    np.testing.assert_array_equal(params["head"]["kernel"], fresh["head"]["kernel"])


def test_several_sources_are_reported_together():
    head = jl.Weights(HEAD, to="head", strict=False)
    params, _, report = jl.load_weights(net(), [jl.Weights(TORCH, to="base/**", by="order"), head], key=KEY)
    assert float(params["head"]["kernel"][0, 0]) == 3
    assert report.missing == ("params/head/bias",)
    assert len(report.loaded) == 5
    assert report.sources["params/head/kernel"] == ("head/kernel",)


def test_what_does_not_fit_the_part_is_listed():
    with pytest.raises(ValueError, match=r"unused y\.weight"):
        jl.load_weights(net(), TORCH, to="base/a", by="order", key=KEY)
    with pytest.raises(ValueError, match="did you mean 'base'"):
        jl.load_weights(net(), TORCH, to="bas", key=KEY)
    with pytest.raises(ValueError, match="key to draw"):
        jl.load_weights(net(), TORCH, to="base", by="order")
    with pytest.raises(TypeError, match=r"jl\.Weights"):
        jl.load_weights(net(), [jl.Weights(HEAD, to="head")], by="order", key=KEY)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("package:no_such_package/file", "install it with pip"),
        ("package:jlayers/no_file", "there is none"),
        ("package:jlayers/../../secret", "there is none"),
        ("package:os/x", "install it with pip"),
    ],
)
def test_a_file_of_a_package_that_is_not_there_is_said(source, words):
    with pytest.raises(FileNotFoundError, match=words):
        jl.load_weights(net(), source, key=KEY)


CONFIG = """
data: digits
model: {Sequential: [Flatten, {Dense: {units: 8, name: base}}, {Dense: {units: 10, name: head}}]}
weights: [{source: SOURCE, to: base}]
freeze: [base]
loss: {sparse_categorical_crossentropy: {from_logits: true}}
training: {epochs: 1}
"""


def given_base(tmp_path):
    """Weights for the layer `base` of the configuration, in a file."""
    kernel = RNG.normal(size=(64, 8)).astype(np.float32)
    base = {"base": {"kernel": kernel, "bias": np.ones(8, np.float32)}}
    jl.save_weights(tmp_path / "base.safetensors", base)
    return kernel, CONFIG.replace("SOURCE", "base.safetensors")


def test_an_experiment_starts_from_given_weights(tmp_path):
    kernel, text = given_base(tmp_path)
    made = config.loads(text, base=tmp_path)
    state, report = made.start(made.compile())
    np.testing.assert_array_equal(state.params["base"]["kernel"], kernel)
    assert "2 of 4 arrays loaded" in report


@pytest.mark.slow
def test_a_configuration_starts_from_given_weights(tmp_path, capsys):
    kernel, text = given_base(tmp_path)
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    assert main(["train", str(file), "--run", str(tmp_path / "run")]) == 0
    saved = jl.interop.read_safetensors(tmp_path / "run" / "weights.safetensors")
    np.testing.assert_array_equal(saved["params/base/kernel"], kernel)
    assert "2 of 4 arrays loaded" in json.loads((tmp_path / "run" / "results.json").read_text())["weights"]


def test_wrong_weights_are_told_with_their_line_before_training(tmp_path, capsys):
    file = tmp_path / "experiment.yaml"
    file.write_text(CONFIG.replace("SOURCE", "nowhere.safetensors"))
    assert main(["train", str(file), "--run", str(tmp_path / "run")]) != 0
    assert "nowhere.safetensors" in capsys.readouterr().err
    file.write_text(CONFIG.replace("to: base", "too: base"))
    with pytest.raises(config.ConfigError, match=r":4: .*did you mean 'to'"):
        config.load(file)
