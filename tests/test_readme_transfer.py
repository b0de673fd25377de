"""The README's lines on transfer learning, Keras's and ours, run as they stand, on small images."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from applications_keras import drawn
from keras_values import keras_values

import jlayers as jl
from jlayers.core.tree import flatten, map_with_path
from jlayers.saving import loading

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SIZE = (32, 32, 3)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (10, *SIZE)).astype(np.float32)
Y = RNG.integers(0, 5, 10)


def lines(begin, until):
    """What the README has in a block, up to a word and from it on."""
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if b.startswith(begin))
    first, word, rest = block.replace("(224, 224, 3)", repr(SIZE)).partition(until)
    return first, word + rest


def theirs(start):
    """The losses of Keras's lines, from the same weights."""
    import keras

    names = {"keras": keras, "x": X, "y": Y, **vars(keras.layers)}
    build, train = lines("# Keras", "model.compile")
    exec(build.replace('weights="imagenet"', "weights=None"), names)
    model = names["model"]
    model.build((None, *SIZE))
    for layer in [*model.layers[0].layers, *model.layers[1:]]:
        base = "base/" if layer in model.layers[0].layers else ""
        dense = [each.name for each in model.layers if each.name.startswith("dense")]
        name = f"dense_{dense.index(layer.name)}".removesuffix("_0") if layer.name in dense else layer.name
        for variable in layer.variables:
            variable.assign(start[f"{base}{name}/{variable.name}"])
    losses = []
    fit = model.fit
    model.fit = lambda *args, **options: losses.extend(
        fit(*args, **options, shuffle=False, verbose=0).history["loss"]
    )
    exec(train, names)
    return np.array(losses)


@pytest.mark.slow
def test_both_do_the_same(monkeypatch, tmp_path):
    base = jl.applications.VGG16(include_top=False, input_shape=SIZE)
    params, _ = jax.eval_shape(base.init, jax.random.key(0), X)
    jl.save_weights(tmp_path / "imagenet", map_with_path(lambda path, leaf: drawn(path, leaf.shape), params))
    monkeypatch.setattr(loading, "_published_file", lambda model, roots: tmp_path / "imagenet")
    names = {"jl": jl, "jax": jax, "x": X, "y": Y}
    load, train = lines("# jlayers", "first = ")
    exec(load, names)
    start, losses = flatten(jax.tree.map(np.asarray, names["params"])), []
    assert "missing params/dense/kernel" in str(names["report"])
    monkeypatch.setattr(jl, "fit", kept(losses, jl.fit))
    exec(train, names)
    end = flatten(names["state"].params)
    moved = {path.rpartition("/")[0] for path, leaf in start.items() if not np.array_equal(leaf, end[path])}
    assert moved == {"dense", "dense_1", *(f"base/block5_conv{n}" for n in (1, 2, 3))}
    np.testing.assert_allclose(losses, keras_values(lambda: theirs(start)), rtol=1e-3)


def kept(losses, fit):
    def fitted(*args, **options):
        state, history = fit(*args, **options)
        losses.extend(history["loss"])
        return state, history

    return fitted
