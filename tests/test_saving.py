"""Weights and whole models on disk: strict, in parts, damaged, and replaced without a moment of neither."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.saving import model as saving_model


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture
def net(key):
    model = jl.Sequential(
        jl.Dense(4, activation="relu", name="base"),
        jl.Flatten(),
        jl.BatchNormalization(),
        jl.Dense(2, name="head"),
    )
    return model, *model.init(key, (1, 3))


def test_a_model_comes_back_with_its_weights(net, tmp_path):
    model, params, state = net
    model = jl.with_precision(jl.freeze(model, "base"), {"head": "mixed_bfloat16"})
    jl.save(tmp_path / "m", model, params, state)
    again, *weights = jl.load(tmp_path / "m")
    assert again.to_data() == model.to_data()
    same(weights, [params, state])
    x = jnp.ones((2, 3))
    same(again.apply(*weights, x)[0], model.apply(params, state, x)[0])


def test_half_precision_and_scalars_keep_their_bits(tmp_path):
    params = {
        "a": {"h": jnp.arange(3, dtype=jnp.bfloat16)},
        "n": jnp.int32(7),
        "none": {},
        "empty": jnp.ones((0, 2)),
    }
    jl.save(tmp_path / "m", jl.Flatten(), params)
    _, loaded, state = jl.load(tmp_path / "m")
    same(loaded, params)
    assert (loaded["a"]["h"].dtype, loaded["none"], state) == (jnp.bfloat16, {}, {})


def test_a_second_save_replaces_the_first_whole(net, tmp_path, monkeypatch):
    model, params, state = net
    jl.save(tmp_path, model, params, state)
    other = jax.tree.map(lambda a: a + 1, params)
    write = saving_model.write_atomically

    def full_disk(path, content):
        if path.name == "model.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(saving_model, "write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left"):
        jl.save(tmp_path, model, other, state)
    monkeypatch.undo()
    same(jl.load(tmp_path)[1], params)
    jl.save(tmp_path, model, other, state)
    same(jl.load(tmp_path)[1], other)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_layer_that_is_not_registered_is_named(tmp_path):
    @jl.layer
    def Twofold():
        return jl.no_params, lambda params, x: 2 * x

    jl.save(tmp_path, jl.Sequential(Twofold(), jl.Dense(1)), {})
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace("Twofold", "Trebled"))
    with pytest.raises(KeyError, match="unknown layer 'Trebled'") as caught:
        jl.load(tmp_path)
    assert "register your own" in caught.value.__notes__[-1]


DAMAGE = {
    "a cut file of weights": ("weights", lambda raw: raw[:-3], "damaged"),
    "a flipped bit": (
        "weights",
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        "not the file that was written",
    ),
    "no JSON": ("model", lambda raw: raw[: len(raw) // 2], "damaged"),
    "another format": ("model", lambda raw: raw.replace(b'"format": 1', b'"format": 2'), "another version"),
    "a path out of the folder": (
        "model",
        lambda raw: raw.replace(b'"weights-', b'"../weights-'),
        "name of a file",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told(case, net, tmp_path):
    name, harm, text = DAMAGE[case]
    jl.save(tmp_path, *net)
    (path,) = tmp_path.glob(f"{name}*")
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ValueError, match=text):
        jl.load(tmp_path)


def test_what_is_no_saved_model_is_told(net, tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved model"):
        jl.load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no saved model"):
        jl.save(tmp_path, *net)
    with pytest.raises(TypeError, match="expected a layer"):
        jl.save(tmp_path / "m", net[1], net[1])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_weights_are_loaded_strictly_or_in_parts(net, tmp_path, key):
    _, params, state = net
    path = tmp_path / "w.safetensors"
    jl.save_weights(path, {"bsae": params["base"], "head": params["head"]}, state)
    with pytest.raises(ValueError, match="missing params/base/kernel") as caught:
        jl.load_weights(path, params, state)
    assert "did you mean 'params/bsae/kernel'" in str(caught.value)
    fresh = jax.tree.map(jnp.zeros_like, params)
    loaded, statistics, report = jl.load_weights(path, fresh, state, partial=True)
    same(loaded["head"], params["head"])
    same(loaded["base"], fresh["base"])
    same(statistics, state)
    assert set(report.extra) == {"params/bsae/kernel", "params/bsae/bias"}
    assert {"params/base/kernel", "params/base/bias"} <= set(report.missing)
    assert report.misshapen == ()


def test_a_part_needs_something_to_load_and_arrays_to_keep(net, tmp_path, key):
    model, params, _ = net
    path = tmp_path / "w.safetensors"
    jl.save_weights(path, {"head": params["head"]})
    specs = jax.eval_shape(lambda: model.init(key, (1, 3)))
    with pytest.raises(ValueError, match="received a shape"):
        jl.load_weights(path, *specs, partial=True)
    with pytest.raises(ValueError, match="no array that fits"):
        jl.load_weights(path, {"other": jnp.zeros(3)}, partial=True)


def test_the_files_are_plain_data(net, tmp_path):
    jl.save(tmp_path, *net)
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["arrays"]["params"]["base"]["kernel"] == "float32(3, 4)"
