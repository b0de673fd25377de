"""Small inputs that once went wrong, hung or misled, and what is right: names, patterns, graphs."""

import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core import tree
from jlayers.core.layer import layers

# ---------------------------------------------------------------------------------- patterns of paths

STARS = "*a" * 12 + "*b"
LONG = "a" * 60


def nested(depth):
    layer = jl.Dense(2)
    for _ in range(depth):
        layer = jl.Sequential(layer)
    return layer


def in_time(seconds, act):
    start = time.process_time()
    result = act()
    assert time.process_time() - start < seconds
    return result


def test_a_pattern_of_many_stars_ends_at_once():
    paths = [LONG, "/".join(["sequential"] * 30), "/".join([LONG] * 5)]
    for pattern in (STARS, "**/" * 10 + "x", "/".join([STARS] * 5), ("**/" + STARS + "/") * 5 + "x"):
        assert in_time(1, lambda pattern=pattern: tree.match(pattern, paths)) == []
    assert tree.match(STARS, [LONG + "b"]) == [LONG + "b"]
    assert tree.match("**/" * 10 + "x", ["x", "/".join("a" * 30) + "/x"]) == ["x", "/".join("a" * 30) + "/x"]


@pytest.mark.parametrize(
    "use",
    [
        lambda pattern: jl.freeze(jl.Sequential(jl.Dense(2, name=LONG)), pattern),
        lambda pattern: jl.with_precision(jl.Sequential(jl.Dense(2, name=LONG)), {pattern: "float16"}),
        lambda pattern: jl.LoRA(jl.Sequential(jl.Dense(2, name=LONG)), 1, targets=pattern).init(
            jax.random.key(0), (1, 2)
        ),
        lambda pattern: jl.freeze(nested(30), "**/" * 10 + "x"),
    ],
    ids=["freeze", "precision", "lora", "deep"],
)
def test_wherever_patterns_are_taken(use):
    with pytest.raises(ValueError, match="match"):
        in_time(5, lambda: use(STARS))


def test_a_star_stays_within_one_name_and_two_stars_cross_any_number():
    paths = ["", "a", "ab", "a/b", "a/b/c", "b/c"]
    assert tree.match("a*", paths) == ["a", "ab"]
    assert tree.match("**/**", paths) == paths
    assert tree.match("**/*c", paths) == ["a/b/c", "b/c"]
    assert tree.match("a/**/c", paths) == ["a/b/c"]
    assert tree.match("a/?/*", paths) == ["a/b/c"]


# -------------------------------------------------------------------------- small files, unbounded work


@pytest.mark.slow
def test_many_layers_of_one_kind_take_time_in_proportion():
    many = 20_000
    model = in_time(10, lambda: jl.Sequential([jl.Flatten() for _ in range(many)]))
    assert list(model.children)[-1] == f"flatten_{many - 1}"
    frozen = in_time(10, lambda: jl.freeze(model, "flatten_*"))
    assert len(frozen.frozen) == many - 1
    half = in_time(10, lambda: jl.with_precision(model, {"flatten_1*": "mixed_bfloat16"}))
    assert in_time(10, half.to_data)["Sequential"]["precision"]["flatten_19999"] == "mixed_bfloat16"


def test_a_table_of_many_nodes_and_a_long_chain():
    many = 5_000
    nodes = {"n0": {"input": [3]}}
    nodes |= {f"n{i}": {"layer": "Flatten", "inputs": f"n{i - 1}"} for i in range(1, many)}
    table = {"Model": {"inputs": "n0", "nodes": nodes, "outputs": f"n{many - 1}"}}
    model = in_time(20, lambda: layers.get(table))
    assert len(model.children) == many - 1


def test_a_graph_of_many_inputs():
    inputs = [jl.Input((2,), name=f"x{i}") for i in range(3_000)]
    assert in_time(20, lambda: jl.Model(inputs, inputs)).children == {}


@pytest.mark.parametrize("times", [0, 1_000_000_000, 10**30])
def test_repeat_is_of_a_number_that_ends(times):
    with pytest.raises(ValueError, match=rf"from 1 to 100000, received times={times}"):
        jl.Repeat(jl.Dense(2), times)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("SpectralNormalization", {"layer": "Identity", "power_iterations": 10**9}),
        ("RandAugment", {"num_ops": 10**9}),
        ("AugMix", {"num_chains": 10**9}),
        ("AugMix", {"chain_depth": 10**9}),
    ],
)
def test_steps_that_are_written_into_the_program_are_of_a_number_that_ends(name, argument):
    with pytest.raises(ValueError, match=r"to be at most \d+, received .*=1000000000"):
        layers.build(name, argument)


def test_layers_inside_layers_end_before_pythons_stack_does():
    with pytest.raises(ValueError, match="expected at most 40 levels of layers inside layers, received 41"):
        nested(500)
    deepest = nested(40)
    params, state = deepest.init(jax.random.key(0), (1, 2))
    assert deepest.apply(params, state, jnp.ones((1, 2)))[0].shape == (1, 2)


# -------------------------------------------------------------------------------------------- names


def test_two_layers_never_share_one_path():
    x = jl.Input((4,), name="x")
    inner = jl.Sequential(jl.Dense(4, name="dense"), name="a")
    nodes = {
        "x": {"input": [4]},
        "a": {"layer": inner, "inputs": "x"},
        "a/dense": {"layer": jl.Dense(4), "inputs": "a"},
    }
    with pytest.raises(ValueError, match=r"letters, digits.*received name='a/dense'"):
        layers.build("Model", {"inputs": "x", "nodes": nodes, "outputs": "a/dense"})
    with pytest.raises(ValueError, match="received name='a/b'"):
        jl.Model(x, jl.Dense(2, name="a/b")(x))


def test_two_arrays_never_share_one_path():
    @jl.layer
    def Slashed():
        def init(key, x):
            return {"x/y": jnp.ones(2), "x": {"y": jnp.zeros(2)}}

        return init, lambda params, x: x

    with pytest.raises(ValueError, match=r"Slashed.*received a parameter named 'x/y'"):
        Slashed().init(jax.random.key(0), (1, 2))
    with pytest.raises(ValueError, match="two arrays stand under the path 'x/y'"):
        tree.flatten({"x/y": 1, "x": {"y": 2}})
    for flat in ({"x": 1, "x/y": 2}, {"x/y": 2, "x": 1}):
        with pytest.raises(ValueError, match="another one"):
            tree.unflatten(flat)


@pytest.mark.parametrize("name", ["carry", "aux_loss", "aux_metrics"])
def test_a_layer_does_not_bear_a_name_that_means_something_in_a_state(name):
    with pytest.raises(ValueError, match=f"since a state holds .* under this one, received name='{name}'"):
        jl.BatchNormalization(name=name)
    nodes = {"x": {"input": [4]}, name: {"layer": jl.Dense(4), "inputs": "x"}}
    with pytest.raises(ValueError, match=f"received name='{name}'"):
        layers.build("Model", {"inputs": "x", "nodes": nodes, "outputs": name})


def test_siblings_never_start_with_the_same_weights():
    first, second = "plumless", "buckeroo"
    assert zlib.crc32(first.encode()) == zlib.crc32(second.encode())
    with pytest.raises(ValueError, match="'plumless' and 'buckeroo' have one checksum"):
        jl.Sequential(jl.Dense(3, name=first), jl.Dense(3, name=second))
    apart = jl.Sequential(jl.Dense(3, name=first), jl.Sequential(jl.Dense(3, name=second)))
    params, _ = apart.init(jax.random.key(0), (1, 3))
    assert np.any(params[first]["kernel"] != params["sequential"][second]["kernel"])


# --------------------------------------------------------------------- unnamed layers in two models


def test_parameters_of_one_model_never_reach_another_layer_of_the_next():
    a, b = jl.Dense(3), jl.Dense(3)
    i, j = jl.Input((3,)), jl.Input((3,))
    both = jl.Model(i, b(a(i)))
    second = jl.Model(j, b(j))
    x = jnp.ones((1, 3))
    params, state = both.init(jax.random.key(0), x)
    alone, _ = second.apply(params, state, x)
    np.testing.assert_allclose(alone, x @ params["dense_1"]["kernel"], rtol=1e-6)
    assert list(second.children) == ["dense_1"]
    assert list(layers.get(second.to_data()).children) == ["dense_1"]


def test_names_of_two_models_that_clash_in_a_third_are_refused():
    a, b = jl.Dense(3), jl.Dense(3)
    x = jl.Input((3,))
    jl.Model(x, a(x)), jl.Model(x, b(x))
    with pytest.raises(ValueError, match=r"two layers are named 'dense'.*rename one"):
        jl.Model(x, b(a(x)))


def test_a_sequential_does_not_number_a_layer_in_two_ways():
    a, b = jl.Dense(3), jl.Dense(3)
    jl.Sequential(a, b)
    assert list(jl.Sequential(a, jl.Dense(3)).children) == ["dense", "dense_1"]
    with pytest.raises(ValueError, match=r"is 'dense_1' in a model made before.*name='dense_1'"):
        jl.Sequential(b)
    built = layers.get(jl.Sequential(jl.Dense(3), jl.Dense(3)).to_data())
    x = jl.Input((3,))
    assert list(jl.Model(x, built.children["dense_1"](x)).children) == ["dense_1"]


# ------------------------------------------------------------------------------- sizes not yet known


def words():
    x = jl.Input((None,), dtype="int32")
    return x, jl.Conv1D(4, 5)(jl.Embedding(10, 4)(x))


def picture():
    x = jl.Input((None, None, 3))
    return x, jl.Conv2D(4, 3)(x)


@pytest.mark.parametrize(
    ("start", "pool", "shape", "given"),
    [
        (words, jl.GlobalMaxPooling1D, (None, 4), (2, 9)),
        (words, jl.MaxPooling1D, (None, None, 4), (2, 9)),
        (picture, jl.GlobalMaxPooling2D, (None, 4), (2, 9, 7, 3)),
        (picture, jl.MaxPooling2D, (None, None, None, 4), (2, 9, 7, 3)),
    ],
)
def test_models_of_open_sizes(start, pool, shape, given):
    x, y = start()
    pooled = pool()(y)
    assert pooled.shape == shape
    model = jl.Model(x, pooled)
    assert jl.summary(model, given).rows[-1].output.shape[0] == 2
    assert "leaves open" in str(jl.summary(model))
    assert jl.draw(model)
    again = jl.Input(x.shape[1:], dtype=str(x.dtype))
    assert model(again).shape == shape  # nested


# E5
@pytest.mark.slow
def test_pools_after_one_another_on_open_sizes():
    x, y = words()
    assert jl.GlobalMaxPooling1D()(jl.MaxPooling1D()(jl.MaxPooling1D()(y))).shape == (None, 4)
    x, y = picture()
    y = jl.Conv2D(5, 3, padding="same", strides=2)(jl.MaxPooling2D(3, 2, padding="same")(y))
    model = jl.Model(x, jl.GlobalAveragePooling2D()(jl.AveragePooling2D(2)(jl.UpSampling2D()(y))))
    assert model(jl.Input((None, None, 3))).shape == (None, 5)
    assert jl.summary(model, (1, 32, 40, 3)).rows[-1].output.shape == (1, 5)


def test_branches_of_open_sizes_agree():
    x = jl.Input((None, 3))
    one = jl.Conv1D(3, 5)(x)
    other = jl.Sequential(jl.Conv1D(3, 3), jl.Conv1D(3, 3))(x)
    assert jl.Add()(one, other).shape == (None, None, 3)
    assert jl.Concatenate()(jl.Conv1D(2, 3, padding="same")(x), x).shape == (None, None, 5)
    within = jl.Sequential(jl.Conv1D(4, 5), jl.GlobalMaxPooling1D())
    assert within(x).shape == (None, 4)
    with pytest.raises((ValueError, TypeError), match=r"received|incompatible"):
        jl.Add()(one, jl.Conv1D(4, 4)(x))


def test_an_error_of_open_sizes_is_the_layers_own():
    with pytest.raises(ValueError, match="expected"):
        jl.Conv1D(4, 3, groups=2)(jl.Input((None, 3)))


# --------------------------------------------------------------- what a layer must see in full precision


FINE = np.array([[3000.5, 3007.5, 3014.5, 3021.5, 3028.5]], np.float32)
GREAT = np.random.default_rng(0).uniform(60_000, 70_000, (4, 6)).astype(np.float32)


def test_a_policy_does_not_narrow_what_is_looked_up():
    bins = jl.Discretization([float(edge) for edge in range(3000, 3030)], precision="mixed_bfloat16")
    for layer in (bins, jl.Sequential(bins), jl.TimeDistributed(bins, precision="mixed_bfloat16")):
        x = FINE[..., None] if layer.spec.name == "TimeDistributed" else FINE
        assert np.ravel(layer.apply({}, {}, x)[0]).tolist() == [1, 8, 15, 22, 29]
    masked, _ = jl.Masking(3000.0, precision="mixed_bfloat16").apply({}, {}, FINE[..., None])
    assert np.all(masked.mask)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "layer",
    [
        jl.LayerNormalization(),
        jl.RMSNormalization(),
        jl.GroupNormalization(groups=2),
        jl.BatchNormalization(),
        jl.UnitNormalization(),
        jl.Normalization(mean=65_000.0, variance=9e6, axis=None),
        jl.Rescaling(1e-4, offset=-6.5),
        jl.Softmax(),
        jl.Activation("softmax"),
        jl.ReLU(max_value=6.0, threshold=65_000.0),
        jl.Arithmetic("remainder", 7.0),
    ],
    ids=lambda layer: layer.spec.name,
)
def test_a_policy_does_not_narrow_what_is_normalized_or_rescaled(layer, policy):
    params, state = layer.init(jax.random.key(0), GREAT)
    for train in (False, True):
        expected, moved = layer.apply(params, state, GREAT, train=train)
        half = jl.with_precision(layer, policy)
        own = half.init(jax.random.key(0), GREAT)
        output, half_moved = half.apply(*own, GREAT, train=train)
        assert output.dtype == jnp.dtype(policy.removeprefix("mixed_"))
        np.testing.assert_array_equal(output, expected.astype(output.dtype))
        for a, b in zip(jax.tree.leaves(half_moved), jax.tree.leaves(moved), strict=True):
            np.testing.assert_array_equal(a, b.astype(a.dtype))


def test_a_policy_does_not_narrow_what_is_subtracted():
    layer = jl.Subtract(precision="mixed_bfloat16")
    assert layer.apply({}, {}, FINE, FINE - 0.25)[0].tolist() == [[0.25] * 5]


def test_images_are_seen_in_full_precision():
    pixels = np.full((1, 2, 2, 3), 3000.5, np.float32)
    plain = jl.RandomInvert(1.0, value_range=(0, 3001.0))
    half = jl.with_precision(plain, "mixed_bfloat16")
    key = jax.random.key(0)
    output, expected = (layer.apply({}, {}, pixels, key=key, train=True)[0] for layer in (half, plain))
    assert expected[0, 0, 0, 0] == 0.5
    np.testing.assert_array_equal(output, expected.astype(jnp.bfloat16))


def test_lengths_of_vectors_do_not_overflow_in_half_precision():
    x = jnp.full((1, 4), 300, jnp.float16)
    cosine, _ = jl.Dot(1, normalize=True).apply({}, {}, x, x)
    np.testing.assert_allclose(np.asarray(cosine, np.float32), 1, atol=2e-3)
