"""Models cut, with another head, with a layer put in, tapped; and what differs between two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import layers as registry
from jlayers.core.spelling import UnknownNameError

KEY = jax.random.key(0)
X = jnp.arange(8.0).reshape(2, 4)


def two_inputs():
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    encode = jl.Dense(8, name="encode")
    first, second = encode(a), encode(b)
    top = jl.Dense(3, name="top")(jl.Concatenate()(first, second))
    return jl.Model([a, b], [top, jl.Dense(2, name="side")(second)])


def nested(**options):
    base = jl.Sequential(jl.Dense(5), jl.BatchNormalization(), jl.Dense(6), name="base")
    return jl.Sequential(jl.Input((4,)), base, jl.Dense(2, name="head"), **options)


def only(tree, model, *inputs):
    """The weights of `tree` that `model` takes."""
    wanted = model.init(KEY, *inputs)[0]
    return {name: only_inside(tree[name], value) for name, value in wanted.items()}


def only_inside(tree, wanted):
    if not isinstance(wanted, dict):
        assert tree.shape == wanted.shape
        return tree
    return {name: only_inside(tree[name], value) for name, value in wanted.items()}


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_cut_model_needs_only_the_inputs_and_layers_before_the_cut():
    model = two_inputs()
    params, state = model.init(KEY, X, X)
    (_, side), _ = model.apply(params, state, X, X + 1)
    part = jl.cut(model, "side")
    assert list(part.children) == ["encode", "side"]
    equal(part.apply(only(params, part, X), {}, X + 1)[0], side)


def test_a_cut_at_the_second_use_keeps_the_paths_of_the_weights():
    model = two_inputs()
    params, _ = model.init(KEY, X, X)
    part = jl.cut(model, "encode@1")
    expected = model.children["encode"].apply(params["encode"], {}, X)[0]
    equal(part.apply({"encode": params["encode"]}, {}, X)[0], expected)


def test_a_cut_at_several_places_has_outputs_in_that_structure():
    model = two_inputs()
    params, state = model.init(KEY, X, X)
    (_, side), _ = model.apply(params, state, X, X + 1)
    part = jl.cut(model, {"joined": "concatenate", "side": "side"})
    output, _ = part.apply(only(params, part, X, X), {}, X, X + 1)
    assert output["joined"].shape == (2, 16)
    equal(output["side"], side)


def test_a_model_inside_is_cut_by_its_path():
    model = nested()
    params, state = model.init(KEY, X)
    part = jl.cut(model, "base/batch_normalization")
    assert list(part.children["base"].children) == ["dense", "batch_normalization"]
    hidden, _ = model.children["base"].children["dense"].apply(params["base"]["dense"], {}, X)
    inner = model.children["base"].children["batch_normalization"]
    name = "batch_normalization"
    expected, _ = inner.apply(params["base"][name], state["base"][name], hidden)
    equal(part.apply(only(params, part, X), state, X)[0], expected)


def test_a_model_inside_that_runs_twice_is_not_cut():
    base = jl.Sequential(jl.Dense(4), jl.Dense(4), name="base")
    with pytest.raises(ValueError, match="runs 2 times"):
        jl.cut(jl.Sequential(base, base), "base@1/dense")


def test_what_is_frozen_and_the_policy_go_along():
    model = jl.with_precision(jl.freeze(nested(), "base"), "mixed_bfloat16")
    part = jl.cut(model, "base/dense")
    assert {"base", "base/dense"} <= part.frozen
    params, state = part.init(KEY, X)
    assert part.apply(params, state, X)[0].dtype == jnp.bfloat16
    assert jl.cut(jl.freeze(nested()), "base").frozen >= {"", "base", "base/dense_1"}


@pytest.mark.parametrize("after", [None, "base", "base/dense"])
def test_a_new_head_is_trained_under_the_policy_of_the_model(after):
    model = jl.with_precision(jl.freeze(nested()), "mixed_bfloat16")
    new = jl.replace_head(model, [jl.Dense(4, activation="relu"), jl.Dense(7, name="classes")], after=after)
    params, state = new.init(KEY, X)
    mask = jl.trainable_mask(new, params)
    assert mask["classes"] == {"kernel": True, "bias": True}
    assert not any(jax.tree.leaves(mask["base"]))
    output, _ = new.apply(params, state, X)
    assert (output.shape, output.dtype) == ((2, 7), jnp.bfloat16)
    assert params["classes"]["bias"].dtype == "float32"


def test_the_head_of_a_graph_is_replaced():
    side = jl.cut(two_inputs(), "side")
    new = jl.replace_head(side, jl.Dense(9, name="classes"))
    assert list(new.children) == ["encode", "classes"]
    assert new.output_names == ["classes"]
    again = jl.replace_head(new, jl.Dense(3, name="classes"))
    assert again.children["classes"].spec.arguments["units"] == 3


def test_a_head_of_several_outputs_needs_a_place():
    with pytest.raises(ValueError, match="after='name'"):
        jl.replace_head(two_inputs(), jl.Dense(1))
    new = jl.replace_head(two_inputs(), jl.Dense(1, name="one"), after="concatenate")
    assert list(new.children) == ["encode", "concatenate", "one"]


def test_a_layer_is_put_between_a_layer_and_all_its_readers():
    model = two_inputs()
    twice = jl.insert(model, jl.Rescaling(2.0, name="twice"), after="encode@1")
    params, state = model.init(KEY, X, X)
    (top, side), _ = model.apply(params, state, X, X)
    (new_top, new_side), _ = twice.apply(params, state, X, X)
    bias = np.asarray(params["side"]["bias"])
    np.testing.assert_allclose(np.asarray(new_side) - bias, 2 * (np.asarray(side) - bias), rtol=1e-5)
    assert not np.allclose(new_top, top)


def test_a_layer_put_after_the_last_one_gives_the_output():
    new = jl.insert(jl.cut(two_inputs(), "side"), jl.Softmax(name="softmax"), after="side")
    params, state = new.init(KEY, X)
    np.testing.assert_allclose(new.apply(params, state, X)[0].sum(-1), 1.0, rtol=1e-6)


def test_in_a_chain_the_names_stay_when_a_layer_is_put_in():
    model = jl.Sequential(jl.Dense(4), jl.Dense(4), jl.Dense(2))
    params, state = model.init(KEY, X)
    new = jl.insert(model, jl.Dropout(0.5), after="dense")
    assert list(new.children) == ["dense", "dropout", "dense_1", "dense_2"]
    equal(new.apply(params, state, X)[0], model.apply(params, state, X)[0])
    inside = jl.insert(nested(), jl.Dropout(0.1), after="base/dense")
    assert list(inside.children["base"].children) == ["dense", "dropout", "batch_normalization", "dense_1"]


def test_layers_as_plain_data_are_put_in_too():
    model = jl.Sequential(jl.Dense(3), jl.Dense(2))
    for head in ([{"Dense": {"units": 5}}], [jl.Dense(5)]):
        assert repr(jl.replace_head(model, head)) == "Sequential([Dense(3), Dense(5)])"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: jl.replace_head(m, 3), "a layer or a list of layers, received head=3"),
        (lambda m: jl.replace_head(m, "Dense"), "a layer or a list of layers, received head='Dense'"),
        (lambda m: jl.replace_head(m, jl.Dense(3), after=["dense"]), r"a layer, received after=\['dense'\]"),
        (lambda m: jl.insert(m, jl.Dense(3), after=["dense"]), r"a layer, received after=\['dense'\]"),
        (lambda m: jl.cut(m, {"x": {1}}), "the name of one layer"),
        (lambda m: jl.freeze(m, ["dense"]), r"received pattern=\['dense'\]; give several one by one"),
        (lambda m: jl.unfreeze(m, ["dense"]), "give several one by one"),
        (lambda m: jl.Tap(m, [["dense"]]), "give several one by one|a text"),
        (lambda m: jl.substitute(m, ["dense"]), r"functions by patterns of paths"),
    ],
)
def test_names_of_layers_are_texts(change, text):
    with pytest.raises(TypeError, match=text):
        change(jl.Sequential(jl.Dense(3), jl.Dense(2)))


def test_surgery_gives_models_that_yaml_holds():
    for model in (
        jl.cut(two_inputs(), "side"),
        jl.replace_head(nested(), jl.Dense(7), after="base/dense"),
        jl.insert(two_inputs(), jl.Dropout(0.5), after="encode"),
        jl.Tap(nested(), "base/*"),
    ):
        data = model.to_data()
        assert registry.get(data).to_data() == data


@pytest.mark.parametrize(("at", "words"), [("sidee", "did you mean 'side'"), ("encode@2", "encode@1")])
def test_an_unknown_place_is_said_with_the_nearest(at, words):
    with pytest.raises(UnknownNameError, match=words):
        jl.cut(two_inputs(), at)


def test_a_layer_that_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"jl\.Tap"):
        jl.cut(jl.Residual(jl.Dense(4)), "layer")
    with pytest.raises(TypeError, match="one output"):
        jl.cut(nested(), ["base", "head"])


# ------------------------------------------------------------------------------------------------ Tap


def test_tapped_outputs_are_those_of_the_layers_inside():
    model = nested()
    params, state = model.init(KEY, X)
    tapped = jl.Tap(model, ["base/*", "head"])
    (output, inner), _ = jax.jit(lambda p, s, x: tapped.apply(p, s, x))(params, state, X)
    plain, _ = model.apply(params, state, X)
    assert set(inner) == {"base/dense", "base/batch_normalization", "base/dense_1", "head"}
    np.testing.assert_allclose(output, plain, rtol=1e-6)
    np.testing.assert_array_equal(inner["head"], output)
    expected, _ = jl.cut(model, "base/dense").apply(params, state, X)
    np.testing.assert_allclose(inner["base/dense"], expected, rtol=1e-6)


def test_each_use_of_a_shared_layer_is_tapped_and_a_tap_works_inside_a_model():
    x = jl.Input((4,))
    layer = jl.Dense(4, name="shared")
    _, inner = jl.Tap(jl.Sequential(layer, layer), "shared")(x)
    model = jl.Model(x, jl.Add()(inner["shared"], inner["shared@1"]))
    params, state = model.init(KEY, X)
    (weights,) = jax.tree.leaves(params, is_leaf=lambda leaf: "kernel" in leaf)
    kernel, bias = np.asarray(weights["kernel"]), np.asarray(weights["bias"])
    once = np.asarray(X) @ kernel + bias
    expected = once + once @ kernel + bias
    np.testing.assert_allclose(model.apply(params, state, X)[0], expected, rtol=1e-5)


def test_a_gradient_reaches_the_layers_before_the_tap_and_no_others():
    model = nested()
    params, state = model.init(KEY, X)
    tapped = jl.Tap(model, "base/dense")
    grads = jax.grad(lambda p: tapped.apply(p, state, X)[0][1]["base/dense"].sum())(params)
    assert np.abs(grads["base"]["dense"]["kernel"]).sum() > 0
    assert np.abs(grads["head"]["kernel"]).sum() == 0


@pytest.mark.parametrize("at", ["repeat/layer", "remat/layer/dense"])
def test_values_inside_a_loop_do_not_leave_it(at):
    model = jl.Sequential(jl.Repeat(jl.Dense(4), times=2), jl.Remat(jl.Sequential(jl.Dense(3))))
    params, state = model.init(KEY, X)
    with pytest.raises(ValueError, match="tap the layer around it"):
        jl.Tap(model, at).apply(params, state, X)


def test_a_tap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="did you mean"):
        jl.Tap(nested(), "bas/dense")
    with pytest.raises(ValueError, match="layers inside"):
        jl.Tap(jl.Dense(2), "dense")


# ----------------------------------------------------------------------------------------------- diff


def test_a_diff_names_layers_options_shapes_and_values():
    old = nested()
    new = jl.with_precision(
        jl.freeze(jl.replace_head(old, jl.Dense(3, name="head")), "base/dense"), {"head": "float32"}
    )
    params, state = old.init(KEY, X)
    others, other_state = new.init(KEY, X)
    found = jl.diff((old, params, state), (new, others, other_state))
    assert found.layers["base/dense"] == ("trained", "frozen")
    assert found.layers["head"] == ("Dense(2, name='head')", "Dense(3, name='head')")
    assert found.weights["params/head/kernel"] == "float32(6, 2) -> float32(6, 3)"
    assert list(found.weights) == ["params/head/kernel", "params/head/bias"]


def test_a_diff_says_what_is_absent_and_how_far_values_are_apart():
    old, new = jl.Sequential(jl.Dense(4)), jl.Sequential(jl.Dense(4), jl.Dropout(0.5))
    assert jl.diff(old, new).layers == {"dropout": ("absent", "Dropout(0.5)")}
    a = {"w": jnp.array([1.0, jnp.nan, 3.0]), "n": jnp.array(7)}
    b = {"w": jnp.array([1.5, jnp.nan, 3.0]), "n": jnp.array(7)}
    assert jl.diff(a, b).weights == {"params/w": "1 of 3 values differ, by at most 0.5"}
    assert str(jl.diff(a, a)) == "no difference"
    assert not jl.diff(a, a)
    assert jl.diff(a, {"w": a["w"]}).weights == {"params/n": "int32() -> absent"}
    with pytest.raises(TypeError, match="one kind"):
        jl.diff(old, a)
