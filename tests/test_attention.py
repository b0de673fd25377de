"""Attention: the operation against NumPy and its plain twin, the layers against Keras, masks, errors."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import _merge, _weighted, _with_gradients, data
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import MissingKeyError, layers
from jlayers.ops.attention import (
    attention_weights,
    dot_product_attention,
    dot_product_attention_by_heads,
    dot_product_attention_by_rows,
    dot_product_attention_library,
    dot_product_attention_plain,
    masked_softmax,
    positions_mask,
)

B, T, S, F = 2, 4, 5, 6


def qkv(heads=2, kv_heads=2, size=3, value_size=3, dtype="float32", target=T, source=S):
    shapes = [(B, target, heads, size), (B, source, kv_heads, size), (B, source, kv_heads, value_size)]
    return [data(shape, dtype, seed=i) for i, shape in enumerate(shapes)]


def some_mask(*shape, blank=False):
    """Random, with the first source always seen; the first row all False if `blank`."""
    mask = np.random.default_rng(5).random(shape) < 0.5
    mask[..., 0] = True
    if blank:
        mask[(0,) * (len(shape) - 2) + (0,)] = False
    return mask


# ------------------------------------------------------------------------------------- the operation


def by_loops(query, key, value, mask=None, causal=False, window=None):
    """Attention in float64, one row at a time."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    batch, target, heads, size = query.shape
    source, group = key.shape[1], heads // key.shape[2]
    output = np.zeros((batch, target, heads, value.shape[3]))
    for b, t, n in itertools.product(range(batch), range(target), range(heads)):
        sees = [
            s for s in range(source) if not (causal and s > t) and (window is None or abs(s - t) < window)
        ]
        if mask is not None:
            whole = np.broadcast_to(mask, (batch, heads, target, source))
            sees = [s for s in sees if whole[b, n, t, s]]
        scores = np.array([query[b, t, n] @ key[b, s, n // group] for s in sees]) / np.sqrt(size)
        weights = np.exp(scores) / np.exp(scores).sum() if sees else []
        output[b, t, n] = sum(w * value[b, s, n // group] for w, s in zip(weights, sees, strict=True))
    return output


QUICK = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


def with_gradients(form, xs, *args, **options):
    output, back = jax.vjp(lambda *xs: form(*xs, *args, **options), *xs)
    return output, back(jnp.asarray(data(output.shape, seed=3)))


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (None, {}),
        (None, {"causal": True}),
        (None, {"window": 2}),
        (some_mask(B, 1, T, S, blank=True), {}),
        (some_mask(B, 4, T, S, blank=True), {"causal": True}),
        (some_mask(1, 1, 1, S), {"causal": True, "window": 3}),
    ],
    ids=["all", "causal", "window", "mask", "mask by heads, causal", "everything"],
)
def test_all_forms_equal_loops_and_have_equal_gradients(mask, options):
    xs = qkv(4, 2)
    (plain, plain_gradients), *others = (
        QUICK(lambda xs, form=form: with_gradients(form, xs, mask, **options))(xs)
        for form in (
            dot_product_attention_plain,
            dot_product_attention_library,
            dot_product_attention_by_heads,
            functools.partial(dot_product_attention_by_rows, rows=2),
        )
    )
    np.testing.assert_allclose(plain, by_loops(*xs, mask, **options), rtol=1e-5, atol=1e-6)
    for output, gradients in others:
        np.testing.assert_allclose(output, plain, rtol=1e-5, atol=1e-6)
        for a, b in zip(gradients, plain_gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [dot_product_attention_by_heads, functools.partial(dot_product_attention_by_rows, rows=3)],
    ids=["heads", "rows"],
)
def test_other_derivatives_vmap_checkpoint_and_values_that_are_not_finite(form):
    xs = tuple(map(jnp.asarray, qkv(4, 2)))
    options = {"mask": jnp.asarray(some_mask(B, 1, T, S, blank=True)), "window": 4}

    def all_of(form, xs):
        def loss(*xs):
            return jnp.sum(jnp.sin(form(*xs, **options)))

        moved, gradient = tuple(map(jnp.cos, xs)), jax.grad(loss, (0, 1, 2))
        pair = [jnp.stack([x, -x]) for x in xs]
        return (
            jax.jvp(lambda *xs: form(*xs, **options), xs, moved)[1],
            jax.jvp(gradient, xs, moved),
            jax.vmap(gradient)(*pair),
            jax.grad(jax.checkpoint(loss))(*xs),
        )

    received, expected = (
        jax.tree.leaves(QUICK(functools.partial(all_of, f))(xs)) for f in (form, dot_product_attention_plain)
    )
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    halves = [x.astype(jnp.bfloat16) for x in xs]
    received, expected = (
        QUICK(jax.grad(lambda *xs, f=f: jnp.sum(f(*xs, **options)), (0, 1, 2)))(*halves)
        for f in (form, dot_product_attention_plain)
    )
    for a, b in zip(received, expected, strict=True):
        assert a.dtype == b.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), atol=5e-2)

    query, key, value = xs
    for broken in (
        (query.at[0, 1, 0, 0].set(jnp.nan), key, value),
        (query, key.at[1, 2, 0, 1].set(jnp.inf), value),
        (query, key, value.at[1, 0, 1, 2].set(-jnp.inf)),
    ):
        received, expected = (QUICK(f)(*broken, **options) for f in (form, dot_product_attention_plain))
        np.testing.assert_array_equal(jnp.isfinite(received), jnp.isfinite(expected))


def test_long_sequences_are_done_by_rows_in_little_memory():
    long = jax.ShapeDtypeStruct((1, 16384, 2, 8), jnp.float32)

    def loss(*xs):
        return jnp.sum(dot_product_attention(*xs))

    memory = jax.jit(jax.grad(loss, (0, 1, 2))).lower(long, long, long).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**28  # the weights alone are 2**31


def test_values_may_be_longer_than_keys_and_sources_may_be_none():
    xs = qkv(value_size=7)
    np.testing.assert_allclose(dot_product_attention(*xs), by_loops(*xs), rtol=1e-5, atol=1e-6)
    nothing = dot_product_attention(*qkv(source=0))
    np.testing.assert_array_equal(nothing, np.zeros((B, T, 2, 3)))


def test_a_row_that_sees_nothing_is_zero_and_moves_nothing():
    xs, mask = qkv(), np.zeros((B, 1, T, S), bool)
    for form in (dot_product_attention, dot_product_attention_plain):
        output, gradients = QUICK(lambda xs, form=form: with_gradients(form, xs, mask))(xs)
        assert not np.any(output)
        assert all(not np.any(g) for g in gradients)


def test_far_later_rows_see_nothing_through_a_window():
    xs = qkv(target=6, source=2)
    np.testing.assert_allclose(
        dot_product_attention(*xs, window=2), by_loops(*xs, window=2), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_has_a_float32_softmax(dtype):
    xs = [jnp.asarray(x, dtype) for x in qkv()]
    weights = attention_weights(*xs[:2])
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    for form in (dot_product_attention, dot_product_attention_plain):
        output = form(*xs)
        assert output.dtype == dtype
        np.testing.assert_allclose(output.astype(jnp.float32), by_loops(*xs), atol=2e-2)


def test_float64_is_kept():
    with jax.enable_x64(True):
        xs = [jnp.asarray(x, jnp.float64) for x in qkv()]
        np.testing.assert_allclose(dot_product_attention(*xs), by_loops(*xs), rtol=1e-13)


def test_extreme_scores_stay_finite():
    scores = jnp.array([[1e38, -1e38, 0.0], [-jnp.inf, 0.0, 0.0]])
    expected = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    np.testing.assert_allclose(masked_softmax(scores), expected)
    np.testing.assert_allclose(
        masked_softmax(scores, jnp.array([[False, True, False]] * 2)), [[0, 1, 0], [0, 1, 0]]
    )


def test_positions_that_see_each_other():
    assert positions_mask(3, 3) is None
    np.testing.assert_array_equal(positions_mask(2, 4, causal=True)[0, 0], np.tri(2, 4, dtype=bool))
    band = positions_mask(4, 4, causal=True, window=2)[0, 0]
    np.testing.assert_array_equal(band, np.tri(4, dtype=bool) & ~np.tri(4, k=-2, dtype=bool))


# ------------------------------------------------------------------------------------ against Keras


def nested(variables: Any, values: Any) -> dict[str, Any]:
    """Values of variables by the paths that Keras gives them, less the layer's own name."""
    tree: dict[str, Any] = {}
    for (path, _), value in zip(variables, values, strict=True):
        *parents, name = path.split("/")[1:]
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree


def attention_parity(name, arguments, inputs, ours=(), theirs=None, call=None, calls=None, tol=2e-5):
    """Assert equal names, shapes, outputs and gradients.

    `theirs` and `call` are arguments of Keras's constructor and call that ours has in its constructor, as
    `ours`; `calls` turns the inputs into those of Keras's call.
    """
    constructor = getattr(keras.layers, name)
    zeros = {o: "zeros" for o in inspect.signature(constructor).parameters if o.endswith("_initializer")}
    call = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in (call or {}).items()}

    def drawn(variables):
        rng = np.random.default_rng(7)
        return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _, shape in variables]

    def run_keras():
        layer = constructor(**{**zeros, **arguments})
        arrange = calls or (lambda *xs: xs)
        shapes = [x.shape for x in inputs[:3]]
        layer.build(shapes) if calls else layer.build(*shapes)
        variables = [[v.path, list(v.shape)] for v in layer.trainable_variables]
        frozen = [v.value for v in layer.non_trainable_variables]

        def their_loss(trained, floating):
            xs = _merge(inputs[:3], floating)
            y, _ = layer.stateless_call(trained, frozen, *arrange(*xs), **call)
            first = y[0] if isinstance(y, tuple) else y
            return _weighted(first), (y, {})

        return variables, _with_gradients(their_loss, drawn(variables), inputs[:3])

    variables, expected = keras_values(run_keras)
    expected = {**expected, "params gradient": nested(variables, expected["params gradient"])}
    mine = getattr(jl, name)(**arguments, **dict(ours))
    params = nested(variables, drawn(variables))
    made, state = jax.eval_shape(lambda: mine.init(jax.random.key(0), *inputs))
    assert jax.tree.map(lambda p: p.shape, made) == jax.tree.map(lambda p: p.shape, params)
    rest = inputs[3:]

    def our_loss(trained, floating):
        y, _ = mine.apply(trained, state, *_merge(inputs[:3], floating), *rest)
        first = y[0] if isinstance(y, tuple) else y
        return _weighted(first), (y, {})

    actual = _with_gradients(our_loss, params, inputs[:3])
    for what, want in expected.items():
        got = actual[what]
        assert jax.tree.structure(got) == jax.tree.structure(want), what
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
            scale = max(1.0, float(np.max(np.abs(b), initial=0)))
            assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what} {path}"
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol * scale, err_msg=f"{what} {path}")
    assert layers.get(mine.to_data()).spec == mine.spec


QUERY, VALUE, KEY = data((B, T, F)), data((B, S, 3), seed=1), data((B, S, 7), seed=2)
MASK = some_mask(B, T, S)
HEADS = {"num_heads": 2, "key_dim": 3}
SCORES = {"ours": {"return_attention_scores": True}, "call": {"return_attention_scores": True}}
CAUSAL = {"ours": {"use_causal_mask": True}, "call": {"use_causal_mask": True}}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        # With other sizes of values than of keys, Keras fails but where it returns the scores or drops out.
        ({**HEADS, "value_dim": 5, "use_bias": False, "output_shape": 4, "dropout": 0.1}, {}),
        ({**HEADS, "output_shape": (2, 3)}, {}),
        (HEADS, CAUSAL),
        ({**HEADS, "value_dim": 4}, SCORES),
        ({**HEADS, "sliding_window": 2, "use_gate": True}, {}),
        ({**HEADS, "dropout": 0.5}, CAUSAL),
    ],
    ids=["sizes", "shape", "causal", "scores", "window, gate", "dropout, causal"],
)
def test_multi_head_attention_equals_keras(arguments, options):
    attention_parity("MultiHeadAttention", arguments, (QUERY, VALUE, KEY), **options)


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (MASK, {}),
        (some_mask(B, 2, T, S), CAUSAL),
        (MASK[:, :1], SCORES),
    ],
    ids=["mask", "of heads, causal", "scores"],
)
def test_masked_attention_equals_keras(mask, options):
    call = {"attention_mask": mask, **options.get("call", {})}
    inputs = (QUERY, VALUE, KEY, mask)
    attention_parity("MultiHeadAttention", HEADS, inputs, ours=options.get("ours", {}), call=call)


@pytest.mark.parametrize("axes", [None, 2, (2, 1)], ids=str)
def test_attention_over_several_axes_equals_keras(axes):
    inputs = [data((2, 3, 4, F), seed=i) for i in range(3)]
    attention_parity("MultiHeadAttention", {**HEADS, "attention_axes": axes}, inputs)


def test_masks_of_the_sequences_are_one_mask():
    """Keras's masks of query and value, joined: here they are written as what they mean."""
    ends = np.array([4, 2])[:, None] > np.arange(S)[None]
    call = {"value_mask": jnp.asarray(ends), "use_causal_mask": True}
    attention_parity(
        "MultiHeadAttention",
        HEADS,
        (QUERY, VALUE, KEY, ends[:, None, :]),
        ours=CAUSAL["ours"],
        call=call,
    )


@pytest.mark.parametrize(("heads", "options"), [(1, CAUSAL), (2, {})])
def test_group_query_attention_equals_keras(heads, options):
    arguments = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": heads}
    call = {"attention_mask": MASK, **options.get("call", {})} if heads == 2 else options.get("call")
    inputs = (QUERY, VALUE, KEY, *([MASK] if heads == 2 else []))
    attention_parity("GroupQueryAttention", arguments, inputs, ours=options.get("ours", {}), call=call)


SINGLE = (data((B, T, 3)), data((B, S, 6), seed=1), data((B, S, 3), seed=2))


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("Attention", {}, CAUSAL),
        ("Attention", {"use_scale": True}, SCORES),
        ("Attention", {"score_mode": "concat"}, {}),
        ("Attention", {"score_mode": "concat", "use_scale": True, "dropout": 0.5}, CAUSAL),
        ("AdditiveAttention", {}, CAUSAL),
        ("AdditiveAttention", {"use_scale": False}, SCORES),
    ],
    ids=str,
)
def test_single_heads_equal_keras(name, arguments, options):
    call, inputs = dict(options.get("call", {})), SINGLE
    if options is CAUSAL:
        call["mask"] = [None, jnp.asarray(MASK[:, 0])]
        inputs = (*SINGLE, MASK[:, :1])
    attention_parity(
        name, arguments, inputs, ours=options.get("ours", {}), call=call, calls=lambda *xs: (list(xs),)
    )


def test_where_keras_differs_a_row_without_a_source_is_zero():
    """Keras gives the mean of all values (fused), or attends as if unmasked (`Attention`): we give zeros."""
    blank = some_mask(B, T, S, blank=True)
    layer = jl.MultiHeadAttention(**HEADS)
    params, state = layer.init(jax.random.key(0), QUERY, VALUE, KEY, blank)
    params["attention_output"]["bias"] = jnp.arange(6.0)
    y, _ = layer.apply(params, state, QUERY, VALUE, KEY, blank)
    np.testing.assert_array_equal(y[0, 0], np.arange(6.0))
    y, _ = jl.Attention().apply({}, {}, *SINGLE, blank)
    np.testing.assert_array_equal(y[0, 0], np.zeros(6))


# ------------------------------------------------------------------------------------- what we add


@pytest.mark.parametrize("make", [lambda: jl.MultiHeadAttention(2, 3), jl.Attention, jl.AdditiveAttention])
def test_value_and_key_may_be_left_out(make):
    layer = make()
    params, state = layer.init(jax.random.key(0), QUERY)
    alone, _ = layer.apply(params, state, QUERY)
    thrice, _ = layer.apply(params, state, QUERY, QUERY, QUERY)
    np.testing.assert_array_equal(alone, thrice)
    mask = some_mask(B, T, T)
    masked, _ = layer.apply(params, state, QUERY, None, None, mask)
    np.testing.assert_array_equal(masked, layer.apply(params, state, QUERY, QUERY, QUERY, mask)[0])


def test_the_projections_are_layers_that_freeze_and_are_penalized():
    layer = jl.MultiHeadAttention(2, 3, kernel_regularizer=jl.l2(1.0), dropout=0.1)
    params, state = layer.init(jax.random.key(0), QUERY)
    assert list(params) == ["query", "key", "value", "attention_output"]
    kernels = [part["kernel"] for part in params.values()]
    np.testing.assert_allclose(layer.penalty(params), sum(float(jnp.sum(k**2)) for k in kernels), rtol=1e-6)
    frozen = jl.freeze(layer, "query", "attention_output")
    mask = jl.trainable_mask(frozen, params)
    assert [mask[name]["kernel"] for name in params] == [False, True, True, False]
    gradients = jax.grad(lambda p: jnp.sum(frozen.apply(p, state, QUERY)[0]))(params)
    assert not np.any(gradients["query"]["kernel"])
    assert np.any(gradients["key"]["kernel"])
    np.testing.assert_array_equal(
        frozen.init(jax.random.key(0), QUERY)[0]["query"]["kernel"], params["query"]["kernel"]
    )


@pytest.mark.parametrize(
    "make", [lambda **o: jl.MultiHeadAttention(2, 3, **o), jl.Attention, jl.AdditiveAttention]
)
def test_dropout_draws_in_training_alone(make):
    layer = make(dropout=0.5)
    params, state = layer.init(jax.random.key(0), QUERY)
    assert layer.draws
    assert not make().draws
    with pytest.raises(MissingKeyError):
        layer.apply(params, state, QUERY, train=True)
    still, _ = layer.apply(params, state, QUERY)
    np.testing.assert_allclose(still, make().apply(params, state, QUERY)[0], rtol=1e-5, atol=1e-6)
    one, two = (layer.apply(params, state, QUERY, key=jax.random.key(i), train=True)[0] for i in (1, 2))
    assert not np.array_equal(one, two)


def test_batch_and_lengths_may_be_symbolic():
    x, y = jl.Input((None, F)), jl.Input((None, 3))
    mask = jl.Reshape((1, -1))(jl.Input((None,), dtype="bool"))
    assert jl.MultiHeadAttention(2, 3, use_causal_mask=True)(x).shape == (None, None, F)
    assert jl.MultiHeadAttention(2, 3, dropout=0.1)([x, x, x, mask]).shape == (None, None, F)
    assert jl.GroupQueryAttention(3, 4, 2)(x, x).shape == (None, None, F)
    assert jl.Attention()(x, x).shape == (None, None, F)
    image = jl.Input((4, 4, F))
    assert jl.MultiHeadAttention(2, 3)(image).shape == (None, 4, 4, F)
    assert y.shape == (None, None, 3)


def test_half_precision_goes_through():
    for layer in (jl.MultiHeadAttention(2, 3), jl.Attention(use_scale=True), jl.AdditiveAttention()):
        x = jnp.asarray(QUERY, jnp.bfloat16)
        params, state = layer.init(jax.random.key(0), x)
        assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
        half, _ = layer.apply(params, state, x)
        full, _ = layer.apply(jax.tree.map(lambda p: p.astype(jnp.float32), params), state, QUERY)
        assert half.dtype == jnp.bfloat16
        np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.05)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([(2, 4)], ValueError, r"\(batch, length, .*received .*float32\(2, 4\)"),
        ([(2, 4, 3), (3, 5, 3)], ValueError, r"received float32\(2, 4, 3\), float32\(3, 5, 3\)"),
        ([(2, 4, 3), (2, 5, 3), (2, 4, 3)], ValueError, r"the order is query, value, key"),
        ([(2, 4, 3)] * 5, TypeError, r"1 to 4 inputs"),
        ([np.zeros((2, 4, 3), np.complex64)], TypeError, r"expected a floating input, received complex64"),
        ([(2, 4, 3), (2, 5, 3), None, np.ones((2, 4, 5))], TypeError, r"a boolean mask, .* mask\.astype"),
        ([(2, 4, 3), (2, 5, 3), None, np.ones((2, 5), bool)], ValueError, r"take mask\[:, None, :\]"),
        ([(2, 4, 3), (2, 5, 3), None, np.ones((2, 5, 4), bool)], ValueError, r"received bool\(2, 5, 4\)"),
    ],
)
@pytest.mark.parametrize("make", [lambda: jl.MultiHeadAttention(2, 3), jl.Attention])
def test_a_wrong_input_teaches(make, inputs, error, message, key):
    with pytest.raises(error, match=message):
        make().init(key, *inputs)


def test_masks_need_a_single_axis(key):
    image = (2, 3, 3, 4)
    with pytest.raises(
        ValueError, match=r"expected inputs \(batch, length, features\) with a mask, use_causal"
    ):
        jl.MultiHeadAttention(2, 3, use_causal_mask=True).init(key, image)
    with pytest.raises(ValueError, match=r"received attention_axes=\(3,\)"):
        jl.MultiHeadAttention(2, 3, attention_axes=3).init(key, image)
