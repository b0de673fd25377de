"""A layer whose constructor returns a model is that model to every tool, under a name of its own."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.config import loads
from jlayers.core.layer import LayerLike, layers
from jlayers.core.structure import Chain, Source, Table
from jlayers.core.tree import flatten
from jlayers.inspect.draw.diagram import diagram
from jlayers.inspect.observed import declarations


def vgg_model(classes, heads):
    x = image = jl.Input((8, 8, 3), name="image")
    for block in (1, 2):
        x = jl.Conv2D(4, 3, padding="same", activation="relu", name=f"block{block}_conv")(x)
        x = jl.MaxPooling2D(name=f"block{block}_pool")(x)
    x = jl.Dropout(0.5, name="drop")(jl.Flatten(name="flatten")(x))
    scores = jl.Dense(classes, name="scores")(x)
    return jl.Model(image, [scores, jl.Dense(1, name="size")(x)] if heads else scores)


@jl.layer
def TinyVGG(classes: int = 5, heads: bool = False):
    """A small network of Keras's kind, made by a constructor."""
    return vgg_model(classes, heads)


@jl.layer
def Chained(units: int = 2):
    return jl.Sequential(jl.Input((4,)), jl.Dense(units, name="in"), jl.Dense(units, name="out"))


@jl.layer
def Again(layer: LayerLike):
    """Hands its inputs on, like `Remat`, and is made from it."""
    return jl.Remat(layer)


IMAGE = (2, 8, 8, 3)


def test_structure_goes_through_adoption():
    inner, outer = vgg_model(5, False), TinyVGG()
    assert isinstance(outer.structure, Table)
    assert outer.structure == inner.structure
    assert repr(outer) == "TinyVGG()"
    assert isinstance(Chained().structure, Chain)
    assert isinstance(jl.InputLayer((3,)).structure, Source)
    assert jl.Dense(2).structure is None
    assert Again(TinyVGG(heads=True)).output_names == ["scores", "size"]
    assert declarations(Again(Chained())) == (Source((4,)),)
    assert jl.Repeat(jl.Dense(4), 3).repeats == 3


def test_weights_and_outputs_are_those_of_the_model():
    inner, outer = vgg_model(5, False), TinyVGG()
    params, state = outer.init(jax.random.key(0), IMAGE)
    assert flatten(params).keys() == flatten(inner.init(jax.random.key(0), IMAGE)[0]).keys()
    x = jnp.ones(IMAGE)
    np.testing.assert_array_equal(outer.apply(params, state, x)[0], inner.apply(params, state, x)[0])


def test_summary_and_drawing_open_it():
    inner, outer = str(jl.summary(vgg_model(5, False))), str(jl.summary(TinyVGG()))
    assert outer == inner.replace("Model, input image", "TinyVGG, input image")
    one, two = diagram(vgg_model(5, True), None, None), diagram(TinyVGG(heads=True), None, None)
    assert one == two
    assert [box.name for box in two.boxes][:2] == ["image", "block1_conv"]
    assert jl.draw(TinyVGG()) == jl.draw(vgg_model(5, False))
    chain = jl.Sequential(jl.Input((4,)), jl.Dense(2, name="in"), jl.Dense(2, name="out"))
    assert diagram(Chained(), None, None) == diagram(chain, None, None)


def test_surgery():
    base = TinyVGG()
    inner = jl.graph(base)
    head = jl.Dense(3, name="new_head")(inner["drop"])
    model = jl.Model(inner.inputs, head)
    params, _ = base.init(jax.random.key(0), IMAGE)
    new, _ = model.init(jax.random.key(1), IMAGE)
    assert set(flatten(new)) - set(flatten(params)) == {"new_head/kernel", "new_head/bias"}
    features = jl.Model(inner.inputs, inner["flatten"])
    kept = {name: params[name] for name in features.children if name in params}
    assert features.apply(kept, {}, jnp.ones(IMAGE))[0].shape == (2, 16)
    assert list(jl.graph(Chained()).nodes)[1:] == ["in", "out"]


def test_training_names_its_outputs():
    x, y = np.ones((4, 8, 8, 3), np.float32), [np.zeros(4, np.int32), np.ones((4, 1), np.float32)]
    loss = {"scores": jl.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    trainer = jl.compile(TinyVGG(heads=True), "sgd", loss)
    _, history = jl.fit(trainer, x, y, epochs=1, batch_size=2)
    assert {"scores_loss", "size_loss"} <= set(history)


def test_lora_freezing_precision_and_substitution_reach_inside():
    model = jl.LoRA(jl.with_precision(TinyVGG(), {"scores": "mixed_bfloat16"}), rank=2)
    params, state = model.init(jax.random.key(0), IMAGE)
    assert set(params["lora_a"]) == {"block1_conv", "block2_conv", "scores"}
    x = jnp.ones(IMAGE)
    params = jax.tree.map(lambda p: p + 0.01, params)
    plain, merged, plain_state = jl.merge_lora(model, params, state)
    assert repr(plain) == "TinyVGG(precision={'scores': 'mixed_bfloat16'})"
    np.testing.assert_allclose(
        plain.apply(merged, plain_state, x)[0], model.apply(params, state, x)[0], rtol=0.02
    )
    frozen = jl.freeze(TinyVGG(), "block*_conv")
    mask = flatten(jl.trainable_mask(frozen, frozen.init(jax.random.key(0), IMAGE)[0]))
    assert [path for path, trained in mask.items() if trained] == ["scores/kernel", "scores/bias"]
    new = jl.substitute(TinyVGG(), {"block2_conv": jl.Remat})
    assert new.structure == TinyVGG().structure
    assert "block2_conv/layer/kernel" in flatten(new.init(jax.random.key(0), IMAGE)[0])


def test_pickle_and_yaml():
    model = jl.freeze(TinyVGG(3), "scores")
    for again in (pickle.loads(pickle.dumps(model)), layers.get(model.to_data())):
        assert repr(again) == repr(model)
        assert again.structure == model.structure
    experiment = loads("data: digits\nmodel: {TinyVGG: {classes: 3}}\nloss: mse\n")
    assert jl.graph(experiment.model).nodes["scores"].shape == (None, 3)


def test_one_pair_keeps_what_is_known_through_every_wrapper():
    drop = jl.Dropout(0.5)
    for wrapped in (
        drop,
        jl.freeze(drop),
        jl.with_precision(drop, "mixed_bfloat16"),
        jl.Remat(drop),
        jl.Repeat(drop, 2),
        jl.Residual(drop),
        jl.TimeDistributed(drop),
        jl.Sequential(drop),
        Again(drop),
    ):
        assert wrapped.draws, wrapped
    table = jl.Embedding(7, 2, activity_regularizer="l2")
    for same in (table, jl.freeze(table), jl.with_precision(table, "float32")):
        assert same.pair.ids_below == 7


def test_a_pair_says_more_than_two_functions():
    @jl.layer
    def Silent():
        return jl.Pair(jl.no_params, lambda params, x, *, key: x, draws=False)

    assert not Silent().draws

    @jl.layer
    def OneFunction():
        return jl.no_params

    with pytest.raises(TypeError, match="expected the constructor to return a pair of functions"):
        OneFunction()


@jl.layer
def OwnMemory():
    return jl.LSTM(2, stateful=True)


@jl.layer
def OwnEnding():
    return jl.Softmax()


def test_facts_of_a_pair_go_through_adoption():
    assert (OwnEnding().pair.activation, jl.Dense(2).pair.activation) == ("softmax", None)
    assert (OwnMemory().pair.carries, jl.LSTM(2).pair.carries) == (True, False)
    loss = {"categorical_crossentropy": {"from_logits": True}}
    trainer = jl.compile(jl.Sequential(jl.Dense(3), OwnEnding()), loss=loss)
    with pytest.raises(ValueError, match=r"expected logits .*activation='softmax'"):
        jl.fit(trainer, np.zeros((4, 2)), np.eye(4, 3))
    trainer = jl.compile(jl.Sequential(OwnMemory()), loss="mse")
    with pytest.raises(ValueError, match="'own_memory' carries its state"):
        jl.fit(trainer, np.zeros((4, 3, 2)), np.zeros((4, 2)), batch_size=2)
