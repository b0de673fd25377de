"""Laws and plain NumPy twins of layers, over random shapes and arguments.

Each example compiles its layer once, which is what takes the time; operation by operation would take longer.
"""

from __future__ import annotations

import jax
import numpy as np
import plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import jlayers as jl

lawful = settings(max_examples=16, deadline=None, derandomize=True, database=None)

SEEDS = st.integers(0, 99)
SMALL = st.integers(1, 3)


def numbers(seed, *shape):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def first(layer, *inputs):
    """Params and state by their shapes alone."""
    return jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs))


def weights(layer, *inputs):
    """Random params for that layer on such inputs."""
    leaves, structure = jax.tree.flatten(first(layer, *inputs)[0])
    return structure.unflatten(numbers(i, *leaf.shape) for i, leaf in enumerate(leaves, 1))


def run(layer, params, *inputs, train=False):
    """The output on arrays, from a state of zeros."""
    state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), first(layer, *inputs)[1])
    output, _ = jax.jit(layer.apply, static_argnames="train")(params, state, *inputs, train=train)
    return jax.tree.map(np.asarray, output)


def close(actual, expected, tol=2e-5):
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol * max(1.0, np.max(np.abs(expected))))


# ------------------------------------------------------------------------------------ convolution


@st.composite
def convolutions(draw, transposed=False):
    """Arguments of a convolution, channels last, and the shape of an input that it takes."""
    rank = draw(st.sampled_from([1, 2]))
    each = st.tuples(*[SMALL] * rank)
    window, ones = draw(each), (1,) * rank
    strides, dilation = draw(st.sampled_from([(ones, ones), (draw(each), ones), (ones, draw(each))]))
    groups = 1 if transposed else draw(st.sampled_from([1, 2]))
    causal = ["causal"] if rank == 1 and not transposed else []
    arguments = {
        "filters": groups * draw(st.integers(1, 2)),
        "kernel_size": window,
        "strides": strides,
        "padding": draw(st.sampled_from(["valid", "same", *causal])),
        "dilation_rate": dilation,
        **({} if transposed else {"groups": groups}),
    }
    sizes = [(w - 1) * d + 1 + draw(st.integers(0, 3)) for w, d in zip(window, dilation, strict=True)]
    return rank, arguments, (2, *sizes, groups * draw(st.integers(1, 2)))


@lawful
@given(convolutions(), SEEDS)
def test_a_convolution_is_a_sum_over_windows(case, seed):
    rank, arguments, shape = case
    layer = getattr(jl, f"Conv{rank}D")(**arguments)
    x = numbers(seed, *shape)
    params = weights(layer, x)
    expected = plain.convolution(
        x, params["kernel"], params["bias"], arguments["strides"], arguments["dilation_rate"],
        arguments["padding"], arguments["groups"],
    )  # fmt: skip
    close(run(layer, params, x), expected)
    other = layer.replace(data_format="channels_first")
    close(run(other, params, np.moveaxis(x, -1, 1)), np.moveaxis(expected, -1, 1))


@lawful
@given(convolutions(), st.integers(1, 3), SEEDS)
def test_a_valid_convolution_moves_with_its_input(case, shift, seed):
    rank, arguments, shape = case
    arguments |= {"padding": "valid", "strides": 1}
    layer = getattr(jl, f"Conv{rank}D")(**arguments)
    longer = numbers(seed, 2, shape[1] + shift, *shape[2:])
    params = weights(layer, longer)
    whole = run(layer, params, longer)
    close(run(layer, params, longer[:, shift:]), whole[:, shift:])
    close(run(layer, params, longer[:, : shape[1]]), whole[:, : whole.shape[1] - shift])


@lawful
@given(convolutions(transposed=True), SEEDS)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(case, seed):
    """`<conv(x), y> == <x, transposed(y)>` with one kernel, where the lengths fit."""
    rank, arguments, shape = case
    channels = shape[-1]
    conv = getattr(jl, f"Conv{rank}D")(**arguments, use_bias=False)
    back = getattr(jl, f"Conv{rank}DTranspose")(**{**arguments, "filters": channels}, use_bias=False)
    x = numbers(seed, *shape)
    params = weights(conv, x)
    forward = run(conv, params, x)
    y = numbers(seed + 1, *forward.shape)
    backward = run(back, params, y)
    assume(backward.shape == x.shape)
    np.testing.assert_allclose(np.vdot(forward, y), np.vdot(x, backward), rtol=1e-3, atol=1e-4)


@lawful
@given(convolutions(transposed=True), st.data(), SEEDS)
def test_a_transposed_convolution_adds_windows_and_cuts_the_ends(case, data, seed):
    rank, arguments, shape = case
    strides = arguments["strides"]
    cut = data.draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank))
    more = data.draw(st.none() | st.tuples(*(st.integers(0, s - 1) for s in strides)))
    layer = getattr(jl, f"Conv{rank}DTranspose")(**{**arguments, "padding": cut}, output_padding=more)
    x = numbers(seed, *shape)
    extents = [
        (w - 1) * d + 1 for w, d in zip(arguments["kernel_size"], arguments["dilation_rate"], strict=True)
    ]
    if more is None:
        more = [max(s - e, 0) for s, e in zip(strides, extents, strict=True)]
    sizes = [(n - 1) * s + e + m for n, s, e, m in zip(shape[1:-1], strides, extents, more, strict=True)]
    if any(sum(pair) >= size for pair, size in zip(cut, sizes, strict=True)):
        with pytest.raises(ValueError, match="padding that leaves some of the output"):
            first(layer, x)
        return
    params = weights(layer, x)
    each = plain.transposed(
        x, params["kernel"], params["bias"], strides, arguments["dilation_rate"], cut, more
    )
    close(run(layer, params, x), each)


@lawful
@given(convolutions(), st.integers(1, 2), SEEDS)
def test_depthwise_and_separable_convolutions_filter_each_channel(case, multiplier, seed):
    rank, arguments, shape = case
    padding = "same" if arguments["padding"] == "causal" else arguments["padding"]
    strides = (max(arguments["strides"]),) * rank
    shared = {"strides": strides, "padding": padding, "depth_multiplier": multiplier}
    x = numbers(seed, 2, *(n + 2 for n in shape[1:-1]), shape[-1])
    layer = getattr(jl, f"DepthwiseConv{rank}D")(arguments["kernel_size"], **shared)
    params = weights(layer, x)
    each = plain.depthwise(x, params["kernel"], strides, padding)
    close(run(layer, params, x), each + params["bias"])
    layer = getattr(jl, f"SeparableConv{rank}D")(3, arguments["kernel_size"], **shared)
    params = weights(layer, x)
    each = plain.depthwise(x, params["depthwise_kernel"], strides, padding)
    mixed = each @ params["pointwise_kernel"].reshape(each.shape[-1], 3)
    close(run(layer, params, x), mixed + params["bias"])


# ---------------------------------------------------------------------------------------- pooling


def _below(size):
    """Pairs of padding, each of fewer cells than the window has."""
    return st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))


@st.composite
def pools(draw):
    rank = draw(st.sampled_from([1, 2]))
    window = draw(st.tuples(*[SMALL] * rank))
    arguments = {
        "pool_size": window,
        "strides": draw(st.none() | st.tuples(*[SMALL] * rank)),
        "padding": draw(st.sampled_from(["valid", "same"]) | st.tuples(*[_below(w) for w in window])),
    }
    return rank, arguments, (2, *(w + draw(st.integers(0, 3)) for w in window), 2)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@lawful
@given(pools(), SEEDS)
def test_pooling_reduces_the_cells_of_each_window(kind, case, seed):
    rank, arguments, shape = case
    x = numbers(seed, *shape)
    window, strides = arguments["pool_size"], arguments["strides"] or arguments["pool_size"]
    y = run(getattr(jl, f"{kind}Pooling{rank}D")(**arguments), {}, x)
    close(y, plain.pooling(x, window, strides, arguments["padding"], kind))
    assert (y <= x.max(axis=tuple(range(1, rank + 1)), keepdims=True) + 1e-6).all()
    assert (y >= x.min(axis=tuple(range(1, rank + 1)), keepdims=True) - 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Max", "Average"])
@lawful
@given(st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL), SEEDS)
def test_pools_agree_where_they_mean_the_same(kind, window, count, seed):
    x = numbers(seed, 2, *(w * n for w, n in zip(window, count, strict=True)), 3)
    pooled = run(getattr(jl, f"{kind}Pooling2D")(window), {}, x)
    close(run(getattr(jl, f"Adaptive{kind}Pooling2D")(count), {}, x), pooled, tol=1e-6)
    whole = run(getattr(jl, f"{kind}Pooling2D")(x.shape[1:3]), {}, x)
    close(run(getattr(jl, f"Global{kind}Pooling2D")(keepdims=True), {}, x), whole, tol=1e-6)
    close(run(getattr(jl, f"Global{kind}Pooling2D")(), {}, pooled), whole[:, 0, 0], tol=1e-6)


# ---------------------------------------------------------------------------------- normalization

SHAPES = st.lists(st.integers(2, 4), min_size=2, max_size=4).map(tuple)
EPSILONS = st.sampled_from([1e-3, 1e-5])


@st.composite
def norms(draw):
    """A normalization, the shape of its input, the axes it normalizes over and those of its parameters."""
    kind = draw(st.sampled_from(["Batch", "Layer", "Group"]))
    shape, epsilon = draw(SHAPES), draw(EPSILONS)
    own = draw(st.sets(st.integers(1, len(shape) - 1), min_size=1, max_size=2 if kind == "Layer" else 1))
    own = tuple(sorted(own))
    if kind == "Layer":
        return jl.LayerNormalization(axis=own, epsilon=epsilon), shape, own, own
    if kind == "Batch":
        others = tuple(a for a in range(len(shape)) if a not in own)
        return jl.BatchNormalization(axis=own[0], epsilon=epsilon), shape, others, own
    one_group = tuple(range(1, len(shape)))
    return jl.GroupNormalization(1, axis=own[0], epsilon=epsilon), shape, one_group, own


@lawful
@given(norms(), st.floats(0.1, 8), st.floats(-20, 20), SEEDS)
def test_a_normalization_standardizes_and_then_scales(case, scale, offset, seed):
    layer, shape, over, own = case
    x = numbers(seed, *shape) * np.float32(scale) + np.float32(offset)
    params = weights(layer, x)
    exact = plain.standardized(x.astype(float), over, layer.spec.arguments["epsilon"])
    gamma, beta = (plain.along(params[name], x.ndim, own) for name in ("gamma", "beta"))
    close(run(layer, params, x, train=True), exact * gamma + beta, tol=1e-4)


@lawful
@given(norms(), st.floats(0.5, 4), st.floats(-4, 4), SEEDS)
def test_a_normalization_knows_no_scale_or_offset(case, scale, offset, seed):
    layer, shape, over, _ = case
    layer = layer.replace(epsilon=1e-9, center=False, scale=False)
    x = numbers(seed, *shape)
    assume((x.std(axis=over) > 0.2).all())
    y = run(layer, {}, x, train=True)
    np.testing.assert_allclose(y.mean(axis=over), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=over), 1, rtol=1e-4)
    moved = run(layer, {}, x * np.float32(scale) + np.float32(offset), train=True)
    np.testing.assert_allclose(moved, y, atol=2e-4)


@lawful
@given(SHAPES, st.integers(1, 3), st.integers(1, 2), EPSILONS, SEEDS)
def test_groups_and_root_mean_squares(shape, groups, size, epsilon, seed):
    x = numbers(seed, *shape[:-1], groups * size) + 1
    layer = jl.GroupNormalization(groups, epsilon=epsilon)
    params = weights(layer, x)
    split = x.reshape(*x.shape[:-1], groups, size)
    exact = plain.standardized(split, (*range(1, x.ndim - 1), x.ndim), epsilon).reshape(x.shape)
    close(run(layer, params, x), exact * params["gamma"] + params["beta"], tol=1e-4)
    root = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)
    layer = jl.RMSNormalization(epsilon=epsilon)
    params = weights(layer, x)
    close(run(layer, params, x), x / root * params["scale"])


# -------------------------------------------------------------------------------------- recurrent

TWINS = {"SimpleRNN": plain.simple_rnn, "LSTM": plain.lstm, "GRU": plain.gru}


@st.composite
def recurrences(draw):
    """A recurrent layer that gives all outputs and its state, sequences, and a state to begin with."""
    kind = draw(st.sampled_from(sorted(TWINS)))
    units, steps, features = draw(st.sampled_from([1, 3])), draw(st.integers(1, 4)), draw(SMALL)
    arguments = {"use_bias": draw(st.booleans()), "unroll": draw(st.booleans())}
    if kind == "GRU":
        arguments["reset_after"] = draw(st.booleans())
    layer = getattr(jl, kind)(
        units, recurrent_initializer="zeros", return_sequences=True, return_state=True, **arguments
    )
    seed = draw(SEEDS)
    state = [numbers(seed + i, 2, units) for i in range(2 if kind == "LSTM" else 1)]
    return kind, layer, numbers(seed, 2, steps, features), state


@lawful
@given(recurrences())
def test_a_recurrent_layer_is_a_loop(case):
    kind, layer, x, state = case
    params = weights(layer, x)
    options = {"reset_after": layer.spec.arguments["reset_after"]} if kind == "GRU" else {}
    steps = list(TWINS[kind](params, x, *state, **options))
    output, *last = run(layer, params, x, *state)
    close(output, np.stack([h for h, _ in steps], axis=1))
    for actual, expected in zip(last, steps[-1][1], strict=True):
        close(actual, expected)


@settings(lawful, max_examples=8)  # each compiles several loops
@given(recurrences(), st.integers(0, 3))
def test_recurrent_laws(case, half):
    _, layer, x, state = case
    params = weights(layer, x)
    output, *last = run(layer, params, x, *state)
    close(output[:, -1], last[0], tol=0)
    close(run(layer.replace(return_sequences=False, return_state=False), params, x, *state), last[0])
    back, *_ = run(layer.replace(go_backwards=True), params, x, *state)
    close(back, run(layer, params, x[:, ::-1], *state)[0], tol=1e-6)
    both = jl.Bidirectional(layer.replace(return_state=False))
    ways = run(both, {"forward_layer": params, "backward_layer": params}, x, *state, *state)
    close(ways, np.concatenate([output, back[:, ::-1]], axis=-1))
    half = min(half, x.shape[1] - 1)
    if half:
        early, *between = run(layer, params, x[:, :half], *state)
        late, *end = run(layer, params, x[:, half:], *between)
        close(np.concatenate([early, late], axis=1), output)
        close(end[-1], last[-1])


# -------------------------------------------------------------------------------------- attention


@st.composite
def attentions(draw):
    """An attention layer that gives its weights, too, and a query and a value of other length."""
    heads, group, size = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    arguments = {
        "use_bias": draw(st.booleans()),
        "use_causal_mask": draw(st.booleans()),
        "sliding_window": draw(st.none() | st.integers(1, 3)),
        "return_attention_scores": True,
    }
    if draw(st.booleans()):
        layer = jl.GroupQueryAttention(size, heads * group, heads, **arguments)
    else:
        layer = jl.MultiHeadAttention(heads * group, size, value_dim=draw(st.integers(1, 3)), **arguments)
    lengths, seed = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(SEEDS)
    query, value = (numbers(seed + i, 2, n, 3) for i, n in enumerate(lengths))
    return layer, query, value, seed


def projected(params, name, x):
    return np.einsum("bnf,fhs->bnhs", x, params[name]["kernel"]) + params[name].get("bias", 0.0)


@pytest.mark.slow
@lawful
@given(attentions())
def test_attention_is_an_average_by_likeness(case):
    layer, query, value, seed = case
    mask = np.random.default_rng(seed).random((2, query.shape[1], value.shape[1])) < 0.7
    params = weights(layer, query, value)
    causal, window = (layer.spec.arguments[name] for name in ("use_causal_mask", "sliding_window"))

    def allowed(b, t, s):
        return mask[b, t, s] and (not causal or s <= t) and (window is None or abs(s - t) < window)

    q, k, v = (projected(params, n, x) for n, x in (("query", query), ("key", value), ("value", value)))
    heads, by = plain.attention(q, k, v, allowed)
    out = params["attention_output"]
    expected = np.einsum("bnhs,hsf->bnf", heads, out["kernel"]) + out.get("bias", 0.0)
    output, scores = run(layer, params, query, value, value, mask)
    close(output, expected)
    close(scores, by)
    fused = layer.replace(return_attention_scores=False)
    close(run(fused, params, query, value, value, mask), expected)


@pytest.mark.slow
@lawful
@given(attentions())
def test_attention_laws(case):
    layer, query, value, seed = case
    layer = layer.replace(use_causal_mask=False, sliding_window=None)
    params = weights(layer, query, value)
    output, scores = run(layer, params, query, value)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)
    order = np.random.default_rng(seed).permutation(value.shape[1])
    shuffled, weights_shuffled = run(layer, params, query, value[:, order])
    close(shuffled, output)
    close(weights_shuffled, scores[..., order])
    asked = np.random.default_rng(seed).permutation(query.shape[1])
    close(run(layer, params, query[:, asked], value)[0], output[:, asked])
    if "bias" in params["key"]:  # the same for all keys: a softmax sees differences alone
        unbiased = {**params, "key": {**params["key"], "bias": 0 * params["key"]["bias"]}}
        close(run(layer, unbiased, query, value)[0], output, tol=1e-4)


@pytest.mark.slow
@lawful
@given(attentions(), st.integers(0, 3))
def test_causal_attention_does_not_see_the_future(case, now):
    layer, query, _, seed = case
    layer = layer.replace(use_causal_mask=True)
    now = min(now, query.shape[1] - 1)
    params = weights(layer, query)
    other = query.copy()
    other[:, now + 1 :] = numbers(seed + 5, *other[:, now + 1 :].shape)
    both = np.concatenate([query, other])
    for some in (layer, layer.replace(return_attention_scores=False)):
        before, after = np.split(jax.tree.leaves(run(some, params, both))[0], 2)
        close(after[:, : now + 1], before[:, : now + 1], tol=1e-6)
