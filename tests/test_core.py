"""The contract: pairs, lifting, specs, names, keys, notes on errors."""

import pickle
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.core.wiring import routed


@jl.layer
def Counter(step: int = 1):
    """Counts its training calls; draws noise; used to test what `apply` asks for."""

    def init(key, x):
        return {"scale": jnp.ones(x.shape[-1:], x.dtype)}, {"count": jnp.zeros((), jnp.int32)}

    def apply(params, x, *, state, key, train):
        if train:
            noise = jax.random.normal(jl.need_key(key), x.shape, x.dtype)
            return x * params["scale"][None] + noise, {"count": state["count"] + step}
        return x * params["scale"][None], state

    return init, apply


def test_a_layer_unpacks_into_its_canonical_pair(key):
    layer = Counter(2)
    init, apply = layer
    params, state = init(key, (3, 4))
    output, state = apply(params, state, jnp.ones((3, 4)), key=key, train=True)
    assert output.shape == (3, 4)
    assert state["count"] == 2
    output, state = apply(params, state, jnp.ones((3, 4)))
    np.testing.assert_array_equal(output, np.ones((3, 4)))
    assert state["count"] == 2


@pytest.mark.parametrize(
    "x", [(2, 5), jax.ShapeDtypeStruct((2, 5), jnp.float32), np.ones((2, 5), np.float32)]
)
def test_init_takes_shapes_specs_and_arrays(key, x):
    params, _ = jl.Dense(3).init(key, x)
    assert params["kernel"].shape == (5, 3)
    assert params["kernel"].dtype == jnp.float32


def test_equality_is_identity_and_specs_compare_by_value():
    a, b = jl.Dense(64), jl.Dense(64)
    assert a != b
    assert a == a
    assert a.spec == b.spec
    assert a.spec != jl.Dense(65).spec
    assert len({a, b}) == 2


def test_repr_replace_pickle_and_data_come_from_the_spec(key):
    layer = jl.Dense(64, activation="relu", kernel_regularizer=jl.l2(0.01), name="hidden")
    assert repr(layer) == "Dense(64, activation='relu', kernel_regularizer=l2(), name='hidden')"
    assert layer.to_data() == {
        "Dense": {"units": 64, "activation": "relu", "kernel_regularizer": "l2", "name": "hidden"}
    }
    for again in (pickle.loads(pickle.dumps(layer)), layers.get(layer.to_data()), layer.replace()):
        assert again is not layer
        assert again.spec == layer.spec
        x = jnp.ones((2, 3))
        ours, theirs = (it.apply(*it.init(key, x), x)[0] for it in (layer, again))
        np.testing.assert_array_equal(ours, theirs)
    assert layer.replace(units=10).spec.arguments["units"] == 10
    with pytest.raises(TypeError, match=r"Dense has no argument 'unit' .* did you mean 'units'"):
        layer.replace(unit=10)


def test_pickle_keeps_sharing():
    shared = jl.Dense(4)
    model = pickle.loads(pickle.dumps(jl.Sequential(shared, jl.Dense(4), shared)))
    assert list(model.children) == ["dense", "dense_1"]


def test_random_bits_depend_on_the_path_alone(key):
    """A layer keeps its weights and its dropout mask when siblings come and go."""
    x = jnp.ones((4, 8))
    alone = jl.Sequential(jl.Dense(8, name="a"), jl.Dropout(0.5, name="drop"))
    among = jl.Sequential(jl.Identity(), jl.Dense(8, name="a"), jl.Flatten(), jl.Dropout(0.5, name="drop"))
    results = []
    for model in (alone, among):
        params, state = model.init(key, x)
        results.append((params, model.apply(params, state, x, key=key, train=True)[0]))
    np.testing.assert_array_equal(results[0][0]["a"]["kernel"], results[1][0]["a"]["kernel"])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    expected, _ = jl.Dense(8).init(jax.random.fold_in(key, zlib.crc32(b"a")), x)
    np.testing.assert_array_equal(results[0][0]["a"]["kernel"], expected["kernel"])


def test_a_missing_key_names_the_path(key):
    model = jl.Sequential(jl.Sequential(jl.Dropout(0.5), name="encoder"))
    params, state = model.init(key, (2, 3))
    with pytest.raises(jl.MissingKeyError, match=r"pass key=jax\.random\.key") as caught:
        model.apply(params, state, jnp.ones((2, 3)), train=True)
    assert "in layer 'encoder/dropout': Dropout(0.5), inputs float32(2, 3)" in caught.value.__notes__


def test_errors_keep_their_type_and_gain_one_note(key):
    inner = jl.Sequential(jl.Dense(4), jl.Dense(5), name="encoder")
    model = jl.Sequential(inner, jl.Dense(2))
    params, state = model.init(key, (2, 3))
    with pytest.raises(Exception, match=r".+") as caught:
        model.apply(params, state, jnp.ones((2, 7)))
    notes = [note for note in caught.value.__notes__ if note.startswith("in layer")]
    assert notes == ["in layer 'encoder/dense': Dense(4), inputs float32(2, 7)"]


def test_the_observer_sees_full_paths(key):
    from jlayers.core.notes import observe

    model = jl.Sequential(jl.Sequential(jl.Dense(4), name="encoder"), jl.Dense(2))
    params, state = model.init(key, (2, 3))
    seen = []
    with observe(lambda path, layer, *rest: seen.append((path, layer.spec.name))):
        model.apply(params, state, jnp.ones((2, 3)))
    assert seen == [("encoder/dense", "Dense"), ("encoder", "Sequential"), ("dense", "Dense")]


def short(init, apply):
    def Made():
        return init, apply

    return Made


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: short(lambda key, x: {}, lambda p, x, *, stat: x),
            "apply asks for 'stat'.*did you mean 'state'",
        ),
        (
            lambda: short(lambda key, x: {}, lambda p, x, **kw: x),
            "apply takes state, .* by name",
        ),
        (lambda: short(lambda key, x: {}, lambda p, x, state: x), "apply must take 'state' by keyword only"),
        (lambda: lambda: 3, "expected the constructor to return a pair of functions"),
    ],
)
def test_a_wrong_pair_is_refused_when_made(make, text):
    constructor = make()
    constructor.__name__ = "Made"
    wrapped = jl.layer(constructor)
    with pytest.raises(TypeError, match=text):
        wrapped()


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda key: jl.Dense(3).init(0, (2, 3)), TypeError, r"expected a PRNG key first, received key=0"),
        (lambda key: jl.Dense(3).init(key, 7), TypeError, "received 7"),
        (lambda key: jl.Dense(3).init(key), TypeError, "Dense takes 1 input, received 0: none"),
        (
            lambda key: jl.Dense(3).apply({}, {}, jnp.ones((2, 3)), jnp.ones((2, 3))),
            TypeError,
            "Dense takes 1 input, received 2",
        ),
        (lambda key: jl.Dense(3)(jnp.ones((2, 3))), TypeError, "calling connects a layer to jl.Input nodes"),
        (lambda key: jl.Dense(3, name="a/b"), ValueError, "received name='a/b'"),
        (lambda key: jl.Dense(), TypeError, "missing a required argument: 'units'"),
        (lambda key: jl.Sequential(jl.Dense), TypeError, r"received the constructor Dense; call it: Dense\("),
        (lambda key: jl.Sequential(3), TypeError, r"Sequential, position 0: expected a layer, received 3"),
        (lambda key: jl.Sequential(), ValueError, "expected at least one layer"),
        (
            lambda key: jl.Sequential(jl.Dense(3, name="a"), jl.Dense(4, name="a")),
            ValueError,
            "two layers are named 'a'",
        ),
        (lambda key: jl.Dense(3, frozen=["x"]), ValueError, "has no layer 'x'"),
    ],
)
def test_wrong_use_teaches(key, act, error, text):
    with pytest.raises(error, match=text):
        act(key)


def test_a_layer_s_arguments_are_named_one_by_one():
    def Many(*units):
        return None

    with pytest.raises(TypeError, match="a layer's arguments are named one by one"):
        jl.layer(Many)

    def Named(name):
        return None

    with pytest.raises(TypeError, match="@layer adds 'name' itself"):
        jl.layer(Named)


def test_sequential_names_numbers_and_shares(key):
    shared = jl.Dense(4)
    model = jl.Sequential([shared, jl.Dense(4), shared, jl.Dense(2, name="dense_2"), jl.Dense(4)])
    assert list(model.children) == ["dense", "dense_1", "dense_2", "dense_3"]
    params, _ = (
        model.init(key, (1, 4)) if False else jl.Sequential(shared, jl.Dense(4), shared).init(key, (1, 4))
    )
    assert sorted(params) == ["dense", "dense_1"]


def test_a_shared_layer_draws_anew_at_each_call(key):
    drop = jl.Dropout(0.5)
    x = jnp.ones((1, 1000))
    twice, _ = jl.Sequential(drop, drop).apply({}, {}, x, key=key, train=True)
    kept = float(jnp.mean((twice > 0).astype(jnp.float32)))
    assert 0.2 < kept < 0.3  # one mask used twice would keep half


def test_a_shared_stateful_layer_threads_its_state(key):
    counter = Counter()
    model = jl.Sequential(counter, counter, counter)
    params, state = model.init(key, (2, 3))
    _, state = model.apply(params, state, jnp.ones((2, 3)), key=key, train=True)
    assert state["counter"]["count"] == 3


def test_one_layer_in_two_containers_is_refused(key):
    shared = jl.Dense(4)
    model = jl.Sequential(jl.Sequential(shared), jl.Sequential(shared))
    with pytest.raises(ValueError, match="its weights would not be shared"):
        model.init(key, (2, 4))
    activation = jl.Activation("relu")  # nothing to share: fine
    jl.Sequential(jl.Sequential(activation), jl.Sequential(activation)).init(key, (2, 4))


def test_routed_containers_with_free_arithmetic(key):
    @jl.layer
    def Highway(layer: jl.Layer, gate: jl.Layer):
        def route(call, x):
            g = jax.nn.sigmoid(call("gate", x))
            return g * call("layer", x) + (1 - g) * x

        return routed({"layer": layer, "gate": gate}, route)

    model = jl.Sequential(Highway(jl.Dense(4), jl.Dense(4)), Highway(jl.Sequential(jl.Dense(4)), jl.Dense(4)))
    params, state = model.init(key, (2, 4))
    traced = jax.eval_shape(model.init, key, jax.ShapeDtypeStruct((2, 4), jnp.float32))
    assert jax.tree.structure(traced) == jax.tree.structure((params, state))
    jitted, _ = jax.jit(lambda key: model.init(key, (2, 4)))(key)
    np.testing.assert_allclose(
        jitted["highway"]["gate"]["kernel"], params["highway"]["gate"]["kernel"], rtol=1e-6
    )
    x = jnp.ones((2, 4))
    first = params["highway"]
    g = jax.nn.sigmoid(x @ first["gate"]["kernel"])
    np.testing.assert_allclose(
        model.children["highway"].apply(first, {}, x)[0],
        g * (x @ first["layer"]["kernel"]) + (1 - g) * x,
        rtol=1e-6,
    )


def test_a_child_that_is_never_called_is_an_error(key):
    @jl.layer
    def Idle(layer: jl.Layer):
        return routed({"layer": layer}, lambda call, x: x)

    with pytest.raises(ValueError, match="the child 'layer' is never called"):
        Idle(jl.Dense(3)).init(key, (2, 3))


def test_a_constructor_may_return_a_layer(key):
    @jl.layer
    def Block(units: int, rate: float = 0.1):
        return jl.Sequential(jl.Dense(units, activation="relu"), jl.Dropout(rate))

    block = Block(4, name="block")
    assert repr(block) == "Block(4, name='block')"
    assert list(block.init(key, (2, 3))[0]) == ["dense"]
    assert sorted(jl.freeze(block).frozen) == ["", "dense", "dropout"]
    assert pickle.loads(pickle.dumps(jl.freeze(block, "dense"))).frozen == {"dense"}


def test_deep_nests_are_traced_once_per_level(key):
    """Initializing a nest costs little more than its layers: no doubling at each level."""
    traced = []

    @jl.layer
    def Traced():
        def init(key, x):
            traced.append(x)
            return {"w": jnp.ones(())}

        return init, lambda params, x: x * params["w"]

    model = Traced()
    for _ in range(12):
        model = jl.Sequential(model)
    model.init(key, (2, 3))
    assert len(traced) <= 3


def test_shapes_behind_a_layer_are_found_once_for_inputs_of_one_kind(key):
    traced = []

    @jl.layer
    def Noted():
        def apply(params, x):
            traced.append(x.shape)
            return x[:, :2]

        return jl.no_params, apply

    model = jl.Sequential(Noted(), jl.Dense(2))
    for batch in (3, 3, 5, 3):
        model.init(key, (batch, 4))
        jax.eval_shape(model.init, key, jax.ShapeDtypeStruct((batch, 4), "float32"))
    assert traced == [(3, 4), (5, 4)]


def test_penalty_sums_by_the_argument_s_name(key):
    dense = jl.Dense(3, kernel_regularizer="l2", bias_regularizer=jl.l1(0.5))
    model = jl.Sequential(dense, jl.Sequential(jl.Dense(2, kernel_regularizer=jl.l2(1.0)), name="inner"))
    params, _ = model.init(key, (1, 4))
    params = jax.tree.map(jnp.ones_like, params)
    assert float(model.penalty(params)) == pytest.approx(0.01 * 12 + 0.5 * 3 + 6)
    assert float(jl.freeze(model, "inner").penalty(params)) == pytest.approx(0.01 * 12 + 0.5 * 3)
    recurrent = jl.LSTM(2, recurrent_regularizer=jl.l2(1.0))
    params = jax.tree.map(jnp.ones_like, recurrent.init(key, (1, 3, 2))[0])
    assert float(recurrent.penalty(params)) == 16.0
