"""Errors of a training that name a line of the file: those of a layer, of a setting, and of the data."""

import re

import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.config import ConfigError

BLAMED = {
    "an embedding that the data leave": (
        "model:\n  Sequential:\n  - Flatten\n  - Embedding: {input_dim: 3, output_dim: 2}\n  - Flatten\n"
        "  - Dense: 10\n",
        "",
        "<text>:5: model.Sequential.layers.1.Embedding: Embedding: expected whole numbers from 0 to 2",
    ),
    "a last layer that the loss cannot use": (
        "model:\n  Sequential:\n  - Flatten\n  - Dense: {units: 10, activation: softmax}\n",
        "",
        "<text>:5: model.Sequential.layers.1.Dense: expected logits",
    ),
    "a state that is carried to other samples": (
        "model:\n  Sequential:\n  - LSTM: {units: 3, stateful: true}\n  - Dense: 10\n",
        "",
        "<text>:4: model.Sequential.layers.0.LSTM: layer 'lstm' carries its state",
    ),
    "the outermost layer": (
        "model:\n  Dense: 10\n",
        "",
        "<text>:3: model.Dense: Dense: expected an input",
    ),
    "augmentation": (
        "model: {Sequential: [Flatten, Dense: 10]}\n",
        "augment: {Dense: 3}\n",
        "<text>:4: augment",
    ),
    "nothing that is frozen": (
        "model: {Sequential: [Flatten, Dense: 10]}\n",
        "training: {cache_features: true}\n",
        "<text>:4: training.cache_features: expected a model that begins with frozen layers",
    ),
    "batches of another number": (
        "model: {Sequential: [Flatten, Dense: 9]}\n",
        "",
        "<text>:1: data: expected class numbers from 0 to 8",
    ),
    "a loss of other shapes": (
        "model: {Sequential: [Dense: 10]}\n",
        "",
        "<text>:3: loss: expected class numbers of shape (32, 8)",
    ),
}


@pytest.mark.parametrize("name", BLAMED)
def test_an_error_has_the_line_of_what_is_to_blame(name):
    model, more, start = BLAMED[name]
    data = "data: pixels\n"
    text = f"{data}{model}loss: {{sparse_categorical_crossentropy: {{from_logits: true}}}}\n{more}"
    made = config.loads(text.replace("pixels", "digits"))
    x, y = (a[:40] for a in made.data.train)
    x = np.round(16 * x[..., 0]).astype(np.int32) if "Embedding" in model else x[..., 0]
    if name == "the outermost layer":
        x = x[:, 0, 0]
    with pytest.raises(ConfigError, match=re.escape(start)) as error, made.located_layer():
        jl.fit(made.compile(), x, y, epochs=1, cache_features=made.settings.training.cache_features)
    assert str(error.value).startswith(start)


@pytest.mark.parametrize(
    ("more", "options", "start"),
    [
        ("training: {steps_per_call: 2}\n", {"steps_per_call": 0}, "<text>:4: training.steps_per_call"),
        ("training: {checkpoint: {best: lss}}\n", {"checkpoints": 3}, "<text>:4: training.checkpoint"),
        ("training: {validation: 0.1}\n", {"validation_split": 2.0}, "expected a share"),
        ("", {"steps_per_call": 0}, "expected steps_per_call"),
        ("", {"sample_weight": np.full(40, np.nan)}, "<text>:1: data: expected finite numbers"),
        ("", {"callbacks": [lambda epoch, logs, state: int("of the user")]}, "invalid literal"),
    ],
)
def test_an_argument_that_the_file_does_not_set_is_told_as_it_is(more, options, start):
    text = "data: digits\nmodel: {Sequential: [Flatten, Dense: 10]}\nloss: sparse_categorical_crossentropy\n"
    made = config.loads(text.replace("Dense: 10", "Dense: {units: 10, activation: softmax}") + more)
    x, y = (a[:40] for a in made.data.train)
    with pytest.raises((ValueError, TypeError)) as error, made.located_layer():
        jl.fit(made.compile(), x, y, **options)
    assert str(error.value).startswith(start)
    assert isinstance(error.value, ConfigError) == start.startswith("<text>")


def weights_of(tmp_path, *entries):
    """A configuration whose weights come from these sources, one a line."""
    np.savez(tmp_path / "good.npz", **{"dense/kernel": np.zeros((64, 10)), "dense/bias": np.zeros(10)})
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no zip file")
    (tmp_path / "bad.pth").write_bytes(b"\x80\x02}q\x01")
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n and nothing more")
    listed = "".join(f"- {entry}\n" for entry in entries)
    text = f"data: digits\nmodel: {{Sequential: [Flatten, Dense: 10]}}\nloss: mse\nweights:\n{listed}"
    return config.loads(text, base=tmp_path)


@pytest.mark.parametrize(
    ("entry", "line", "place"),
    [
        ("source: bad.npz", 6, ("weights", 1, "source")),
        ("source: bad.pth", 6, ("weights", 1, "source")),
        ("source: bad.h5", 6, ("weights", 1, "source")),
        ("source: none.npz", 6, ("weights", 1, "source")),
        ("source: 'package:no_such_package/a.pth'", 6, ("weights", 1, "source")),
        ("source: imagenet", 6, ("weights", 1, "source")),
        ("source: good.npz\n  to: dens", 7, ("weights", 1, "to")),
        (
            "source: good.npz\n  rename:\n    dense/kernel: a\n    dens/*: b",
            9,
            ("weights", 1, "rename", "dens/*"),
        ),
    ],
)
def test_a_source_of_weights_that_is_refused_is_told_at_its_line(tmp_path, entry, line, place):
    made = weights_of(tmp_path, "source: good.npz", entry)
    with pytest.raises(ConfigError) as error:
        made.start(made.compile())
    (problem,) = error.value.problems
    assert (problem.line, problem.path) == (line, place), problem


@pytest.mark.parametrize(
    ("training", "line", "place"),
    [
        ("  epochs: 3\n  early_stopping: {monitor: val_loss}\n", 6, "early_stopping"),
        ("  callbacks:\n  - TerminateOnNaN\n  - ReduceLROnPlateau\n", 7, "callbacks.1"),
        ("  checkpoint:\n    keep: 2\n    best: val_loss\n", 7, "checkpoint.best"),
    ],
)
def test_what_needs_validation_data_is_told_at_its_line(training, line, place):
    text = f"data: digits\nmodel: {{Dense: 10}}\nloss: mse\ntraining:\n{training}"
    with pytest.raises(ConfigError, match="needs data to validate on") as error:
        config.loads(text)
    (problem,) = error.value.problems
    assert (problem.line, config.errors.dotted(problem.path)) == (line, f"training.{place}")
