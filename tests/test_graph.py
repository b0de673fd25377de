"""The functional form: nodes, models, sharing, surgery, and graphs that are refused."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import layers


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_nodes_know_their_shapes():
    x = jl.Input((28, 28, 1))
    assert x.shape == (None, 28, 28, 1)
    y = jl.Conv2D(8, 3, strides=2)(x)
    assert y.shape == (None, 13, 13, 8)
    assert jl.Dense(10)(jl.Flatten()(y)).shape == (None, 10)
    sequence = jl.Input((None, 12))
    assert jl.LSTM(6, return_sequences=True)(sequence).shape == (None, None, 6)
    assert jl.LSTM(6)(sequence).shape == (None, 6)
    assert jl.Embedding(10, 4)(jl.Input((7,), dtype="int32")).shape == (None, 7, 4)


def test_a_wrong_shape_fails_where_the_layer_is_called():
    with pytest.raises(ValueError, match=r".+") as caught:
        jl.Conv2D(8, 5)(jl.Input((3, 3, 1)))
    assert any("in layer 'conv2d'" in note for note in caught.value.__notes__)


def test_a_model_equals_the_sequential_it_spells_out(key):
    stack = [jl.Dense(8, activation="relu"), jl.Dropout(0.5), jl.Dense(3)]
    x = y = jl.Input((5,))
    for layer in stack:
        y = layer(y)
    graph, sequential = jl.Model(x, y), jl.Sequential(stack)
    data = jax.random.normal(key, (4, 5))
    for train in (False, True):
        ours = graph.apply(*graph.init(key, data), data, key=key, train=train)[0]
        theirs = sequential.apply(*sequential.init(key, data), data, key=key, train=train)[0]
        np.testing.assert_array_equal(ours, theirs)


def test_any_pytree_of_inputs_and_outputs(key):
    a, b, c = (jl.Input((4,), name=name) for name in "abc")
    both = jl.Concatenate()(a, b)
    model = jl.Model({"pair": (a, b), "single": c}, {"sum": [jl.Add()(both, jl.Dense(8)(c))], "both": both})
    data = {"pair": (jnp.ones((2, 4)), jnp.ones((2, 4))), "single": jnp.ones((2, 4))}
    params, state = model.init(key, data)
    output, _ = model.apply(params, state, data)
    assert shapes(output) == {"sum": [(2, 8)], "both": (2, 8)}
    assert shapes(params) == {"dense": {"kernel": (4, 8), "bias": (8,)}}


def test_several_inputs_positional_by_list_and_by_name(key):
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    model = jl.Model([a, b], jl.Subtract()(a, b))
    one, two = jnp.ones((2, 4)), 2 * jnp.ones((2, 4))
    for given in ((one, two), ([one, two],), ({"b": two, "a": one},)):
        np.testing.assert_array_equal(model.apply({}, {}, *given)[0], one - two)


def test_shared_layers_have_one_set_of_weights_and_a_key_per_call(key):
    a, b = jl.Input((6,), name="a"), jl.Input((6,), name="b")
    encode = jl.Sequential(jl.Dense(64), jl.Dropout(0.5), name="encode")
    model = jl.Model([a, b], [encode(a), encode(b)])
    x = jnp.ones((2, 6))
    params, state = model.init(key, x, x)
    assert list(params) == ["encode"]
    (left, right), _ = model.apply(params, state, x, x)
    np.testing.assert_array_equal(left, right)
    (left, right), _ = model.apply(params, state, x, x, key=key, train=True)
    assert np.any(np.asarray(left) != np.asarray(right))


def test_several_outputs_of_one_layer(key):
    x = jl.Input((5, 3))
    sequence, h, c = jl.LSTM(4, return_sequences=True, return_state=True)(x)
    model = jl.Model(x, {"last": h, "cell": c, "all": sequence})
    again = layers.get(model.to_data())
    data = jax.random.normal(key, (2, 5, 3))
    for m in (model, again):
        output, _ = m.apply(*m.init(key, data), data)
        np.testing.assert_array_equal(output["all"][:, -1], output["last"])
        assert output["cell"].shape == (2, 4)


def test_data_form_and_pickle_build_the_same_model(key):
    image, size = jl.Input((8, 8, 1), name="image"), jl.Input((2,), name="size")
    shared = jl.Dense(8, activation="relu")
    features = shared(jl.Flatten()(jl.MaxPooling2D()(jl.Conv2D(4, 3)(image))))
    output = jl.Dense(3, name="head")(jl.Concatenate()(features, size))
    model = jl.Model({"image": image, "size": size}, output)
    data = {"image": jnp.ones((2, 8, 8, 1)), "size": jnp.ones((2, 2))}
    expected = model.apply(*model.init(key, data), data)[0]
    for again in (layers.get(model.to_data()), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.apply(*again.init(key, data), data)[0], expected)
        assert again.spec == model.spec


def test_models_nest_both_ways(key):
    x = jl.Input((4,))
    inner = jl.Model(x, jl.Dense(4)(x), name="inner")
    outer = jl.Sequential(inner, jl.Dense(2))
    y = jl.Input((4,))
    outermost = jl.Model(y, jl.Dense(1)(outer(y)))
    params, _ = outermost.init(key, (3, 4))
    assert shapes(params) == {
        "sequential": {
            "inner": {"dense": {"kernel": (4, 4), "bias": (4,)}},
            "dense": {"kernel": (4, 2), "bias": (2,)},
        },
        "dense": {"kernel": (2, 1), "bias": (1,)},
    }


def test_surgery_keeps_names_and_weights(key):
    base = jl.Sequential(
        jl.Input((8, 8, 1)),
        jl.Conv2D(4, 3),
        jl.Conv2D(4, 3),
        jl.GlobalAveragePooling2D(),
        jl.Dense(10, name="top"),
    )
    x = jax.random.normal(key, (2, 8, 8, 1))
    weights, state = base.init(key, x)
    inner = jl.graph(base)
    model = jl.Model(inner.inputs, [inner["conv2d_1"], jl.Dense(3, name="new")(inner["conv2d_1"])])
    params, _ = model.init(key, x)
    assert list(params) == ["conv2d", "conv2d_1", "new"]
    params = {**params, **{name: weights[name] for name in ("conv2d", "conv2d_1")}}
    features = model.apply(params, {}, x)[0][0]
    top = weights["top"]
    pooled = jnp.mean(features, axis=(1, 2))
    np.testing.assert_allclose(
        pooled @ top["kernel"] + top["bias"][None], base.apply(weights, state, x)[0], rtol=1e-5, atol=1e-6
    )


def test_a_graph_can_be_cut_at_an_inner_node(key):
    x = jl.Input((4,), name="x")
    hidden = jl.Dense(8, name="hidden")(x)
    head = jl.Model(hidden, jl.Dense(2)(hidden))
    assert shapes(head.init(key, (3, 8))[0]) == {"dense": {"kernel": (8, 2), "bias": (2,)}}


def test_freezing_survives_surgery():
    base = jl.freeze(jl.Sequential(jl.Input((4,)), jl.Dense(4, name="a"), jl.Dense(4, name="b")), "a")
    inner = jl.graph(base)
    assert jl.Model(inner.inputs, inner.outputs).frozen == {"a"}


A, B = jl.Input((4,), name="a"), jl.Input((4,), name="b")
IMAGE = jl.Input((8, 8, 1), name="image")


def table(**nodes):
    return {"Model": {"inputs": "x", "nodes": {"x": {"input": [4]}, **nodes}, "outputs": "y"}}


DENSE = {"Dense": {"units": 2}}


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: jl.Model(A, jl.Add()(A, B)), ValueError, "the outputs need <Node .*of b>.*list it"),
        (
            lambda: jl.Model([A, B], jl.Dense(2)(A)),
            ValueError,
            "do not depend on the input <Node .*of b>; remove",
        ),
        (lambda: jl.Model([A, A], jl.Dense(2)(A)), ValueError, "is listed twice"),
        (lambda: jl.Model(jl.Dense(2), jl.Dense(2)(A)), TypeError, "expected nodes as inputs"),
        (lambda: jl.Model([], A), ValueError, "expected at least one node among the inputs"),
        (
            lambda: jl.Model(A, jl.Dense(2, name="n")(jl.Dense(2, name="n")(A))),
            ValueError,
            "two layers are named 'n'",
        ),
        (
            lambda: jl.Model([A, jl.Input((4,), name="b2")], jl.Dense(2, name="a")(A)),
            ValueError,
            "do not depend",
        ),
        (lambda: jl.Model(A, jl.Dense(2, name="a")(A)), ValueError, "two parts of the graph are named 'a'"),
        (lambda: jl.Add()(A, jnp.ones(4)), TypeError, "expected every input to be a node"),
        (lambda: jl.Input(4), ValueError, "received shape=4"),
        (lambda: jl.Sequential(jl.Dense(2)(A)), TypeError, "at its head, an Input"),
        (
            lambda: layers.get(table(y={"layer": DENSE, "inputs": "z"})),
            ValueError,
            "reads 'z', which is not a node",
        ),
        (
            lambda: layers.get(table(y={"layer": DENSE, "inputs": "w"}, w={"layer": DENSE, "inputs": "y"})),
            ValueError,
            "the graph has a cycle: y -> w -> y",
        ),
        (
            lambda: layers.get(table(y={"layer": DENSE, "inputs": "x"}, w={"layer": DENSE, "inputs": "x"})),
            ValueError,
            "do not depend on the node 'w'",
        ),
        (
            lambda: layers.get(table(y={"shared": "q", "inputs": "x"})),
            ValueError,
            "shared='q' is not a layer",
        ),
        (lambda: layers.get(table(y={"layer": DENSE})), ValueError, "node 'y': expected"),
        (lambda: jl.graph(jl.Dense(2)), TypeError, "expected a Model or a Sequential"),
        (lambda: jl.graph(jl.Sequential(jl.Dense(2))), TypeError, r"starts with jl\.Input"),
    ],
)
def test_wrong_graphs_are_refused_with_the_reason(act, error, text):
    with pytest.raises(error, match=text):
        act()


def test_a_cycle_made_by_hand_is_refused():
    from jlayers.core.graph import Node

    x = jl.Input((4,), name="x")
    first = jl.Add()(x, x)
    second = jl.Dense(4)(first)
    object.__setattr__(first.call, "inputs", (x, second))
    with pytest.raises(ValueError, match="the graph has a cycle"):
        jl.Model(x, second)
    assert isinstance(second, Node)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (({"image": (2, 8, 8, 1)},), r"missing \['size'\]"),
        (({"image": (2, 8, 8, 1), "size": (2, 2), "extra": (2, 2)},), r"unknown \['extra'\]"),
        (((2, 8, 8, 1), (2, 2)), r"expected the inputs"),
        (({"image": (8, 8, 1), "size": (2, 2)},), r"the batch dimension is missing"),
        (({"image": (2, 8, 9, 1), "size": (2, 2)},), r"input 'image': expected shape \(None, 8, 8, 1\)"),
    ],
)
def test_named_inputs_match_exactly(key, given, text):
    size = jl.Input((2,), name="size")
    flat = jl.Flatten()(IMAGE)
    model = jl.Model({"image": IMAGE, "size": size}, jl.Concatenate()(flat, size))
    given = tuple(g if isinstance(g, tuple) else dict(g) for g in given)
    with pytest.raises(ValueError, match=text):
        model.init(key, *given)


def test_input_dtypes_are_checked(key):
    model = jl.Sequential(jl.Input((4,)), jl.Dense(2))
    with pytest.raises(TypeError, match="expected float32, received complex64"):
        model.init(key, np.ones((2, 4), np.complex64))
    tokens = jl.Sequential(jl.Input((4,), dtype="int32"), jl.Embedding(5, 2))
    with pytest.raises(TypeError, match="expected whole numbers of int32"):
        tokens.init(key, np.ones((2, 4), np.float32))


# ------------------------------------------------------------------------------ arithmetic and indexing

X, Y = jl.Input((5, 4), name="x"), jl.Input((5, 4), name="y")
RNG = np.random.default_rng(0)
ONE, OTHER = (RNG.uniform(1, 2, (2, 5, 4)).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
        lambda a, b: a // b,
        lambda a, b: a % b,
        lambda a, b: b + 2 * a,
        lambda a, b: 1 - a / 2 + b,
        lambda a, b: 2 / a + (-b) ** 2,
        lambda a, b: 2**a - b,
        lambda a, b: np.float32(2) * a + b * np.float64(0.5),
        lambda a, b: a[:, 0] + b[:, -1],
        lambda a, b: a[:, 1:-1, None] * b[:, ::2][:, :1, None],
        lambda a, b: a[..., 2:] @ b[:, :2, :3],
    ],
)
def test_operators_on_nodes_are_numpys_and_can_be_written_down(function):
    model = jl.Model([X, Y], function(X, Y))
    expected = function(ONE, OTHER)
    for made in (model, pickle.loads(pickle.dumps(model)), layers.get(model.to_data())):
        output, _ = made.apply(*made.init(jax.random.key(0), ONE, OTHER), ONE, OTHER)
        np.testing.assert_allclose(output, expected, rtol=2e-6)


def test_operators_keep_masks():
    real = np.array([[True, True, False], [True, False, False]])
    a = jl.Masked(jnp.ones((2, 3, 2)), real)
    sentences = jl.Input((3,), dtype="int32", name="s")
    words = jl.Embedding(9, 2, mask_zero=True)(sentences)
    model = jl.Model(sentences, {"sum": words * 2 + words, "first": words[:, 0], "tail": words[:, 1:]})
    ids = jnp.array([[4, 2, 0], [5, 0, 0]])
    output, _ = model.apply(*model.init(jax.random.key(0), ids), ids)
    np.testing.assert_array_equal(output["sum"].mask, real)
    np.testing.assert_array_equal(output["first"].mask, [True, True])
    np.testing.assert_array_equal(output["tail"].mask, real[:, 1:])
    halves, _ = jl.Arithmetic("divide", 2).apply({}, {}, a)
    np.testing.assert_array_equal(halves.mask, real)
    assert float(halves.values[0, 0, 0]) == 0.5


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: jnp.tanh(X), ValueError, r"jl\.Lambda\(function\)\(node\)"),
        (lambda: np.tanh(X), TypeError, r"received np\.tanh of <Node"),
        (lambda: np.asarray(X), TypeError, "received as an array"),
        (lambda: X + ONE, TypeError, r"received add with .*jl\.Lambda"),
        (lambda: ONE + X, TypeError, r"received add with .*jl\.Lambda"),
        (lambda: jnp.asarray(ONE) * X, ValueError, r"jl\.Lambda"),
        (lambda: X > 0, TypeError, "received > 0 of <Node"),
        (lambda: X if X else Y, TypeError, "received as a condition"),
        (lambda: list(X), TypeError, "received as several values"),
        (lambda: abs(X), TypeError, r"abs\(\)"),
        (lambda: X["a"], TypeError, r"received \['a'\]"),
        (lambda: X[0], ValueError, "expected the batch to be left whole"),
        (lambda: X[:, 5], ValueError, "expected an index from -5 to 4"),
        (lambda: X[:, 0, 0, 0], ValueError, "at most one entry per axis"),
        (lambda: jl.GetItem([":", "a"]), ValueError, "expected whole numbers, slices"),
        (lambda: jl.GetItem([":", "::0"]), ValueError, "expected whole numbers, slices"),
        (lambda: jl.Arithmetic("plus"), ValueError, "operation='plus'"),
        (lambda: jl.Arithmetic("matmul", 2.0), ValueError, "as matrices"),
        (
            lambda: layers.get(table(y={"layer": DENSE, "inputs": "x[7]"})).init(jax.random.key(0), (1, 4)),
            ValueError,
            r"one output, received 'x\[7\]'",
        ),
    ],
)  # fmt: skip
def test_what_no_node_can_do_is_told(act, error, text):
    with pytest.raises(error, match=text):
        act()


def test_a_layer_that_samples_in_inference_needs_no_key_while_a_graph_is_made():
    @jl.layer
    def Sampled():
        def apply(params, x, *, key):
            return x + jax.random.normal(jl.need_key(key), x.shape, x.dtype)

        return jl.no_params, apply

    x = np.ones((4, 3), np.float32)
    start = jl.Input((3,))
    model = jl.Model(start, jl.Sequential(Sampled(), jl.Dense(2))(start))
    state = model.init(jax.random.key(0), x)
    assert "Sampled" in str(jl.summary(model))
    with pytest.raises(jl.MissingKeyError):
        jl.predict(model, state, x)
    drawn = [jl.predict(model, state, x, key=jax.random.key(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0
    trainer = jl.compile(model, "sgd", "mse")
    trained, _ = jl.fit(trainer, x, x[:, :2])
    assert np.isfinite(jl.evaluate(trainer, trained, x, x[:, :2], key=jax.random.key(0))["loss"])
