"""Errors of a training that name a line of the file: only those that a layer is to blame for."""

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
        "expected a model that begins with frozen layers",
    ),
    "batches of another number": (
        "model: {Sequential: [Flatten, Dense: 9]}\n",
        "",
        "expected class numbers from 0 to 8",
    ),
}


@pytest.mark.parametrize("name", BLAMED)
def test_only_errors_of_a_layer_have_its_line(name, monkeypatch):
    """What is raised in a training and is no layer's fault is told as it is."""
    model, more, start = BLAMED[name]
    data = "data: pixels\n"
    text = f"{data}{model}loss: {{sparse_categorical_crossentropy: {{from_logits: true}}}}\n{more}"
    made = config.loads(text.replace("pixels", "digits"))
    x, y = (a[:40] for a in made.data.train)
    x = np.round(16 * x[..., 0]).astype(np.int32) if "Embedding" in model else x[..., 0]
    if name == "the outermost layer":
        x = x[:, 0, 0]
    with pytest.raises(ValueError, match=re.escape(start)) as error, made.located_layer():
        jl.fit(made.compile(), x, y, epochs=1, cache_features=made.settings.training.cache_features)
    assert isinstance(error.value, ConfigError) == start.startswith("<text>"), error.value
    assert str(error.value).startswith(start)
