"""A frozen base computed once per sample: the same training, to the bit on a CPU."""

import functools
import os

import jax
import numpy as np
import pytest

import jlayers as jl
import jlayers.config
from jlayers.data.lazy import LazyArray
from jlayers.runs import Run, train_run
from jlayers.transform.features import split_features

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6, 6, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 50)
LOSS = {"SparseCategoricalCrossentropy": {"from_logits": True}}


@functools.cache
def sequential():
    base = jl.Sequential(jl.Conv2D(4, 3, activation="relu"), jl.BatchNormalization(), name="base")
    return jl.freeze(jl.Sequential(base, jl.GlobalAveragePooling2D(), jl.Dropout(0.3), jl.Dense(3)), "base")


@functools.cache
def graph():
    """Two features: the output of the base and the image itself."""
    image = jl.Input((6, 6, 2), name="image")
    deep = jl.Conv2D(4, 3, name="stem", trainable=False)(image)
    both = jl.Concatenate()(jl.Flatten()(deep), jl.Dense(2, name="skip")(jl.Flatten()(image)))
    return jl.Model({"image": image}, jl.Dense(3, name="top")(jl.Dropout(0.2)(both)))


@functools.cache
def inside():
    """The cut is inside a graph inside a chain."""
    image = jl.Input((6, 6, 2), name="image")
    low = jl.BatchNormalization(name="norm")(jl.Conv2D(4, 3, padding="same", name="low")(image))
    high = jl.Conv2D(4, 3, padding="same", activation="relu", name="high")(low)
    high = jl.Dropout(0.2)(jl.BatchNormalization(name="high_norm")(high))
    base = jl.Model(image, jl.Add()(low, high), name="base")
    model = jl.Sequential(jl.Rescaling(0.5), base, jl.GlobalAveragePooling2D(), jl.Dense(3))
    return jl.freeze(model, "base/low", "base/norm")


@functools.cache  # compiled once for all tests
def compiled(model):
    return jl.compile(model, "adam", LOSS, ["accuracy"])


def fitted(model, x=X, y=Y, **options):
    return jl.fit(compiled(model), x, y, epochs=2, batch_size=16, seed=3, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "x"), [(sequential, X), (graph, {"image": X}), (inside, X)])
def test_training_on_kept_features_is_training_the_model(model, x):
    plain, history = fitted(model(), x, validation_split=0.2)
    kept, again = fitted(model(), x, validation_split=0.2, cache_features=True)
    assert list(history) == list(again)
    for name, values in history.items():
        np.testing.assert_allclose(values, again[name], rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves((plain.params, plain.state)), jax.tree.leaves((kept.params, kept.state)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert jl.evaluate(jl.compile(model(), "adam", LOSS), kept, x, Y)["loss"] > 0


def test_the_split_is_behind_all_that_never_changes():
    split = split_features(inside(), X.shape)
    assert {name: form.shape for name, form in split.forms.items()} == {"base/norm": (50, 6, 6, 4)}
    assert list(split_features(sequential(), X.shape).forms) == ["global_average_pooling2d"]
    split = split_features(graph(), {"image": X})
    assert set(split.forms) == {"flatten", "flatten_1"}


@pytest.mark.slow
def test_features_on_disk_are_used_again_and_only_for_the_same(tmp_path, monkeypatch):
    first, history = fitted(sequential(), cache_features=tmp_path)
    entries = list(tmp_path.iterdir())
    assert len(entries) == 1
    monkeypatch.setattr("jlayers.train.features.predict", lambda *a, **k: pytest.fail("computed again"))
    second, again = fitted(sequential(), cache_features=tmp_path)
    assert history == again
    assert not jl.diff(first.params, second.params)
    monkeypatch.undo()
    fitted(sequential(), x=X + 1, cache_features=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "other samples"
    trainer = jl.compile(sequential(), "adam", LOSS)
    other = trainer.init(jax.random.key(9), X)
    jl.fit(trainer, X, Y, state=other, cache_features=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3, "other weights"


def test_features_inside_a_model_are_of_the_weights_before_the_cut(tmp_path):
    trainer = jl.compile(inside(), "adam", LOSS)
    state = trainer.init(jax.random.key(0), X)

    def entries(*path):
        params = jax.tree.map(np.asarray, state.params)
        params[path[0]][path[1]]["bias"] = params[path[0]][path[1]]["bias"] + 1
        moved = trainer.init(jax.random.key(0), X, params=params, state=state.state)
        jl.fit(trainer, X, Y, state=moved, cache_features=tmp_path)
        return len(list(tmp_path.iterdir()))

    jl.fit(trainer, X, Y, state=state, cache_features=tmp_path)
    assert entries("base", "high") == 1
    assert entries("base", "low") == 2


def test_features_in_half_precision_are_kept_as_they_are(tmp_path):
    model = jl.with_precision(sequential(), "mixed_bfloat16")
    _, history = fitted(model, cache_features=tmp_path)
    assert fitted(model, cache_features=tmp_path)[1] == history == fitted(model, cache_features=True)[1]


def test_a_damaged_entry_is_computed_again(tmp_path):
    _, history = fitted(sequential(), cache_features=tmp_path)
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:-40])
    assert fitted(sequential(), cache_features=tmp_path)[1] == history


def test_the_bound_is_kept(tmp_path):
    size = 50 * 4 * 4
    with pytest.raises(ValueError, match=f"at most {size - 1} bytes"):
        fitted(sequential(), cache_features=jl.FeatureCache(max_bytes=size - 1))
    for wrong in ("1GB", 0, 1e9, True):
        with pytest.raises(ValueError, match="expected a whole number of bytes, received max_bytes="):
            jl.FeatureCache(max_bytes=wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder, received folder="):
        fitted(sequential(), cache_features=tmp_path / "file")
    (tmp_path / "file").unlink()
    cache = jl.FeatureCache(tmp_path, max_bytes=2 * size + 400)
    for shift in range(3):
        fitted(sequential(), x=X + shift, cache_features=cache)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_things_in_the_folder_are_never_removed(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    os.utime(tmp_path / "thesis", (0, 0))
    (tmp_path / ("0" * 32)).mkdir()
    cache = jl.FeatureCache(tmp_path, max_bytes=50 * 4 * 4 + 200)
    for shift in range(3):
        fitted(sequential(), x=X + shift, cache_features=cache)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda: jl.unfreeze(sequential()),
            "all is trained; freeze what is to stay as it is, such as 'base'",
        ),
        (lambda: jl.freeze(jl.unfreeze(inside()), "dense"), "'base', before the first of them, draws random"),
        (lambda: jl.Sequential(jl.RandomFlip(), sequential()), "draws random numbers"),
        (lambda: jl.freeze(sequential()), "a layer that is trained"),
        (lambda: jl.Sequential(jl.Embedding(9, 3, mask_zero=True, trainable=False), jl.LSTM(2)), "mask"),
    ],
)
def test_what_cannot_be_kept_is_said(model, words):
    made = model()
    x = np.zeros((2, 5), np.int32) if "embedding" in made.children else X
    with pytest.raises(ValueError, match=words):
        split_features(made, x)


def test_streams_augmentation_and_tasks_are_refused():
    trainer = jl.compile(sequential(), "adam", LOSS)
    with pytest.raises(TypeError, match="arrays"):
        jl.fit(trainer, [(X, Y)], cache_features=True)
    mixed = jl.compile(sequential(), "adam", "mse", augment=jl.MixUp())
    with pytest.raises(ValueError, match="augmentation"):
        jl.fit(mixed, X, np.eye(3, dtype=np.float32)[Y], cache_features=True)
    with pytest.raises(TypeError, match="cache_features=3"):
        jl.fit(trainer, X, Y, cache_features=3)


class Drawn(LazyArray):
    """Samples that are read when they are asked for."""

    def read(self, rows):
        return X[rows]

    def fingerprint(self):
        return "X"


@pytest.mark.parametrize("on_disk", [False, True])
def test_samples_that_are_read_when_needed_have_their_features_kept(tmp_path, on_disk):
    _, history = fitted(sequential())
    lazy = Drawn(X.shape, X.dtype)
    _, again = fitted(sequential(), x=lazy, cache_features=tmp_path if on_disk else True)
    for name, values in history.items():
        np.testing.assert_allclose(values, again[name], rtol=1e-5)


CONFIG = """
data: digits
model: {Sequential: [Flatten, {Dense: {units: 8, name: base}}, {Dense: {units: 10, name: head}}]}
loss: {sparse_categorical_crossentropy: {from_logits: true}}
freeze: [base]
training: {epochs: 1, cache_features: features}
"""


def test_a_configuration_keeps_features_beside_its_file(tmp_path):
    (tmp_path / "experiment.yaml").write_text(CONFIG)
    experiment = jlayers.config.load(tmp_path / "experiment.yaml")
    results = train_run(experiment, Run.create(tmp_path / "run", experiment.to_data()))
    assert results["epochs"] == 1
    assert len(list((tmp_path / "features").iterdir())) == 1
