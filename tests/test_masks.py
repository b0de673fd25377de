"""Masks as values: what keeps, transforms, consumes or refuses them, held against Keras where it has that."""

import functools
import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data, relaxed
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import layers, no_params
from jlayers.core.masks import combine, expand, intersection, mask_of, values_of, with_mask
from jlayers.testing import check_layer
from jlayers.testing.properties import PROPERTIES

# Padding at the end, at the beginning and inside, a row of nothing else, and a row without any.
RAGGED = np.array([[1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
SOME = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
KEY = jax.random.key(0)


def masked(shape, mask=RAGGED, seed=0):
    return jl.Masked(jnp.asarray(data(shape, seed=seed)), jnp.asarray(mask))


QUICK = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here
FAST = {"recurrent_initializer": "glorot_uniform"}  # to compile, too


def run(layer, *inputs):
    """The output of the layer as it is first initialized."""
    return jax.jit(functools.partial(first, layer), compiler_options=QUICK)(*inputs)


def first(layer, *inputs):
    return layer.apply(*layer.init(KEY, *inputs), *inputs)[0]


def name(value):
    return value.spec.name if isinstance(value, jl.Layer) else ""


def in_order(tree):
    return [leaf for child in tree.values() for leaf in in_order(child)] if isinstance(tree, dict) else [tree]


def like(tree, values):
    return {
        name: like(child, values) if isinstance(child, dict) else next(values) for name, child in tree.items()
    }


def leaves(output):
    return jax.tree.leaves(output, is_leaf=lambda y: isinstance(y, jl.Masked))


# ------------------------------------------------------------------------------------- parity with Keras


def parity(ours, theirs, *inputs, everywhere=False, train=False, **call):
    """Outputs, gradients and states are equal where our output is real, or everywhere."""
    values = [values_of(x) for x in inputs]
    drawn = {}

    def build():
        theirs(*[keras.Input(batch_shape=x.shape) for x in values])
        rng = np.random.default_rng(7)
        for v in theirs.variables:
            drawn[id(v)] = jnp.asarray(np.abs(rng.normal(size=v.shape)).astype("float32"))
        fixed = [drawn[id(v)] for v in theirs.non_trainable_variables if "seed" not in v.path]
        return [drawn[id(v)] for v in theirs.trainable_variables], fixed

    trained, fixed = jax.tree.map(jnp.asarray, keras_values(build))
    made = []
    jax.eval_shape(lambda key: made.append(ours.init(key, *inputs)), KEY)  # in the order of the variables
    params, state = made[0]
    assert [p.shape for p in in_order(params)] == [p.shape for p in trained]
    assert len(in_order(state)) == len(fixed)

    def weighted(outputs, real):
        terms = zip(outputs, real, strict=True)
        return sum(jnp.sum(y * jnp.asarray(data(y.shape, seed=3)) * r) for y, r in terms)

    def our_loss(trained, values):
        xs = [with_mask(v, mask_of(x)) for v, x in zip(values, inputs, strict=True)]
        y, moved = ours.apply(like(params, iter(trained)), like(state, iter(fixed)), *xs, train=train)
        outputs = [values_of(y) for y in leaves(y)]
        shown = [jnp.ones_like(y) for y in outputs]
        if not everywhere:
            pairs = zip(shown, map(mask_of, leaves(y)), strict=True)
            shown = [s if m is None else s * expand(m, s.ndim).astype(s.dtype) for s, m in pairs]
        return weighted(outputs, shown), (outputs, shown, in_order(moved))

    def their_loss(trained, values, shown):
        mode = {"training": True} if train else {}
        held = [drawn[id(v)] for v in theirs.non_trainable_variables]
        y, moved = theirs.stateless_call(trained, held, *values, **call, **mode)
        return weighted(jax.tree.leaves(y), shown), (jax.tree.leaves(y), moved)

    both = {"argnums": (0, 1), "has_aux": True}
    step = jax.jit(jax.value_and_grad(our_loss, **both), compiler_options=QUICK)
    (_, (got, shown, moved)), got_gradients = step(trained, values)

    def run_keras():
        step = jax.jit(jax.value_and_grad(their_loss, **both), compiler_options=QUICK)
        (_, (want, held)), gradients = step(trained, values, shown)
        pairs = zip(held, theirs.non_trainable_variables, strict=True)
        return want, [h for h, v in pairs if "seed" not in v.path], gradients

    want, held, gradients = keras_values(run_keras)
    pairs = [(a * s, b * s) for a, b, s in zip(got, want, shown, strict=True)]
    pairs += list(zip(moved, held, strict=True))
    pairs += list(zip(jax.tree.leaves(got_gradients), jax.tree.leaves(gradients), strict=True))
    for a, b in pairs:
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


SEQUENCES = {"return_sequences": True, "return_state": True}
ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # other values are put in place
RECURRENT = [
    ("SimpleRNN", SEQUENCES),
    ("LSTM", {**SEQUENCES, "zero_output_for_mask": True}),
    ("GRU", {"return_state": True}),
    ("GRU", {**SEQUENCES, "go_backwards": True}),
    ("LSTM", {"return_sequences": True, "unroll": True}),
]


@pytest.mark.parametrize(("name", "options"), RECURRENT)
def test_recurrent_layers_pass_over_padding_as_in_keras(name, options):
    x = masked((4, 4, 3))
    ours, theirs = (getattr(module, name)(2, **options, **ZEROS) for module in (jl, keras.layers))
    parity(ours, theirs, x, everywhere=True, mask=x.mask)


def test_cells_pass_over_padding_as_in_keras():
    x = masked((4, 4, 3))
    ours = jl.RNN([jl.LSTMCell(2, **ZEROS), jl.GRUCell(3, **ZEROS)], **SEQUENCES)
    cells = [keras.layers.LSTMCell(2, **ZEROS), keras.layers.GRUCell(3, **ZEROS)]
    theirs = keras.layers.RNN(cells, **SEQUENCES)
    parity(ours, theirs, x, everywhere=True, mask=x.mask)


CONV_RECURRENT = [
    ("ConvLSTM1D", (3, 2), {**SEQUENCES}),
    ("ConvLSTM2D", (3, 2, 1), {"padding": "same", "go_backwards": True, "return_state": True}),
]


@pytest.mark.parametrize(("name", "frame", "options"), CONV_RECURRENT)
def test_convolutional_recurrence_passes_over_padding_as_in_keras(name, frame, options):
    # Keras takes the rows of its mask for places of the frame: with one row it means what it says.
    x = masked((1, 4, *frame), RAGGED[1:2])
    ours, theirs = (getattr(module, name)(2, 2, **options, **ZEROS) for module in (jl, keras.layers))
    parity(ours, theirs, x, everywhere=True, mask=x.mask)


@pytest.mark.parametrize("mode", ["concat", None])
def test_bidirectional_under_a_mask_as_in_keras(mode):
    # Keras sets the outputs of padding to 0. Here they have no meaning, and are those of the step before.
    x = masked((4, 4, 3))
    ours = jl.Bidirectional(jl.LSTM(2, **SEQUENCES, **ZEROS), mode)
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(2, **SEQUENCES, **ZEROS), mode)
    parity(ours, theirs, x, mask=x.mask)


def test_masks_turn_round_with_the_outputs():
    # Keras leaves the mask of a layer with go_backwards as it was, beside outputs in the other order.
    x = masked((4, 4, 3))
    assert (run(jl.GRU(2, return_sequences=True, go_backwards=True, **FAST), x).mask == RAGGED[:, ::-1]).all()
    both = run(jl.Bidirectional(jl.GRU(2, return_sequences=True, **FAST), None), x)
    assert all((y.mask == RAGGED).all() for y in both)


RUNNERS = [
    (jl.LSTM(2, return_state=True, **FAST), (4, 4, 3)),
    (jl.RNN(jl.GRUCell(2, **FAST), return_state=True), (4, 4, 3)),
    (jl.ConvLSTM1D(2, 2, return_state=True, **FAST), (4, 4, 3, 2)),  # with a mask Keras fails on shapes
]


@pytest.mark.parametrize(("layer", "shape"), RUNNERS, ids=name)
def test_padding_is_as_if_it_were_not_there(layer, shape):
    x = masked(shape)
    output = run(layer, x)
    for row in (0, 1):
        alone = run(layer, x.values[row : row + 1, np.flatnonzero(RAGGED[row])])
        for a, b in zip(output, alone, strict=True):
            np.testing.assert_allclose(a[row], b[0], rtol=1e-5, atol=1e-6)
    assert all((part[2] == 0).all() for part in output)  # a row without a real step


def test_a_masked_first_step_leaves_the_initial_state():
    # Keras with unroll=True gives zeros here; without it, what we give in both.
    x, h = masked((4, 4, 3)), jnp.asarray(data((4, 2), seed=1))
    for unroll in (False, True):
        y = run(jl.GRU(2, return_sequences=True, unroll=unroll, **FAST), x, h)
        np.testing.assert_array_equal(y.values[2], jnp.broadcast_to(h[2], (4, 2)))
        # Of any cell it is not known which state is its output: before the first real step it is 0.
        y = run(jl.RNN(jl.GRUCell(2, **FAST), return_sequences=True, unroll=unroll), x, h)
        assert (y.values[2] == 0).all()


HEADS = {"num_heads": 2, "key_dim": 3}
GROUPS = {"head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_heads_does_not_attend_to_padding(causal):
    query, value = masked((4, 4, 3)), masked((4, 4, 3), SOME, seed=1)
    call = {"query_mask": query.mask, "value_mask": value.mask, "use_causal_mask": causal}
    kind, options = ("MultiHeadAttention", HEADS) if causal else ("GroupQueryAttention", GROUPS)
    ours, theirs = (getattr(module, kind) for module in (jl, keras.layers))
    parity(ours(**options, use_causal_mask=causal), theirs(**options), query, value, **call)


@pytest.mark.parametrize("layer", [jl.MultiHeadAttention(**HEADS), jl.Attention()], ids=["heads", "one head"])
def test_padding_joins_a_mask_that_is_given(layer):
    query, value = masked((4, 4, 3)), masked((4, 4, 3), SOME, seed=1)
    allowed = jnp.asarray(np.random.default_rng(1).random((4, 4, 4)) < 0.7)
    all_of_it = allowed & query.mask[:, :, None] & value.mask[:, None, :]
    ours = run(layer, query, value, None, allowed)
    plain = run(layer, query.values, value.values, None, all_of_it)
    assert (ours.mask == query.mask).all()
    np.testing.assert_allclose(ours.values, plain, rtol=1e-6, atol=1e-6)
    assert isinstance(run(layer, query.values, value), jax.Array)  # the query has no mask: none is left
    with pytest.raises(TypeError, match="as a mask that has a mask itself"):
        run(layer, query, value, None, jl.Masked(allowed, query.mask))


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention_in_one_head_does_not_attend_to_padding(name):
    query, value = masked((4, 4, 3), SOME), masked((4, 4, 3), SOME[::-1], seed=1)
    ours = getattr(jl, name)(use_scale=True)
    theirs = Listed(getattr(keras.layers, name)(use_scale=True))
    parity(ours, theirs, query, value, mask=[query.mask, value.mask])


class Listed(keras.layers.Layer):
    """A Keras layer that takes its inputs in a list, called on them one by one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, query, value, mask=None):
        return self.inner([query, value], mask=mask)


def test_where_all_sources_are_padding_attention_gives_zeros():
    # Keras gives the mean of all values, or zeros, by the path it takes.
    query, value = masked((4, 4, 3), np.ones((4, 4), bool)), masked((4, 4, 3), RAGGED, seed=1)
    for layer in (jl.Attention(), jl.MultiHeadAttention(2, 3, use_bias=False)):
        assert (run(layer, query, value).values[2] == 0).all()


def test_batch_statistics_leave_padding_out_as_in_keras():
    x = masked((4, 4, 3))
    ours, theirs = jl.BatchNormalization(), keras.layers.BatchNormalization()
    parity(ours, theirs, x, train=True, everywhere=True, mask=x.mask)
    # Keras moves its averages towards 0 where nothing is real.
    nothing = masked((4, 4, 3), np.zeros((4, 4), bool))
    norm = jl.BatchNormalization()
    params, state = norm.init(KEY, nothing)
    y, moved = norm.apply(params, state, nothing, train=True)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), moved, state))
    assert jnp.isfinite(y.values).all()


def test_global_pooling_counts_real_steps():
    x = masked((4, 4, 3), SOME)
    parity(jl.GlobalAveragePooling1D(), keras.layers.GlobalAveragePooling1D(), x, mask=x.mask)
    # Keras ignores the mask of a greatest value; in a row of padding alone its mean is NaN. Here both are 0.
    x = masked((4, 4, 3))
    pools = ((jl.GlobalMaxPooling1D(keepdims=True), np.max), (jl.GlobalAveragePooling1D(), np.mean))
    for layer, reduce in pools:
        y = run(layer, x).reshape(4, 3)
        for row in (0, 1, 3):
            np.testing.assert_allclose(y[row], reduce(x.values[row, RAGGED[row]], axis=0), rtol=1e-6)
        assert (y[2] == 0).all()
        slopes = jax.grad(lambda v, layer=layer: layer.apply({}, {}, jl.Masked(v, x.mask))[0].sum())
        gradient = jax.jit(slopes, compiler_options=QUICK)(x.values)
        assert (gradient[~RAGGED] == 0).all()
    assert (
        run(jl.GlobalMaxPooling1D(), jl.Masked(jnp.ones((4, 4, 3), jnp.int32), x.mask))[2].tolist() == [0] * 3
    )
    with pytest.raises(TypeError, match="positions before the channels"):
        run(jl.GlobalAveragePooling1D(data_format="channels_first"), x)


def test_masks_are_made_as_in_keras():
    ids = np.array([[1, 2, 0], [0, 3, 0]], np.int32)
    theirs = keras.layers.Embedding(4, 2, mask_zero=True)
    assert (run(jl.Embedding(4, 2, mask_zero=True), ids).mask == theirs.compute_mask(ids)).all()
    x = data((2, 3, 2))
    x[0, 1] = x[1, 0] = x[1, 2, 0] = -1.0
    ours = run(jl.Masking(-1.0), jnp.asarray(x))
    theirs = keras.layers.Masking(-1.0)
    assert (ours.mask == theirs.compute_mask(x)).all()
    np.testing.assert_array_equal(ours.values, theirs(x))
    # What is padding already stays so.
    real = jnp.array([[True, True, False], [True, True, True]])
    assert (run(jl.Masking(-1.0), jl.Masked(jnp.asarray(x), real)).mask == (ours.mask & real)).all()
    embedded = run(jl.Embedding(4, 2, mask_zero=True), jl.Masked(jnp.asarray(ids), real))
    assert (embedded.mask == ((ids != 0) & real)).all()


def test_time_distributed_keeps_the_mask():
    x = masked((4, 4, 3))
    ours, theirs = jl.TimeDistributed(jl.Dense(2)), keras.layers.TimeDistributed(keras.layers.Dense(2))
    parity(ours, theirs, x, everywhere=True, mask=x.mask)
    # Sentences of words: the layer pools over real words, and a sentence without one is padding.
    words = np.array(data((4, 4, 5)) > 0)
    words[0, 1] = False
    y = run(jl.TimeDistributed(jl.GlobalAveragePooling1D()), masked((4, 4, 5, 2), words))
    assert (y.mask == words.any(-1)).all()
    kept = run(jl.TimeDistributed(jl.Dense(2)), masked((4, 4, 5, 2), words))
    assert (kept.mask == words).all()
    with pytest.raises(TypeError, match="says nothing of single steps"):
        run(jl.TimeDistributed(jl.Dense(2)), masked((4, 4, 3), RAGGED[:, 0]))


# -------------------------------------------------------------------------------- transformed and refused

AND = RAGGED & SOME
PLANE = RAGGED.reshape(4, 2, 2)
EACH = np.ones((4, 4, 3), bool)
TRANSFORMED = [
    (jl.Add(), (masked((4, 4, 3)), masked((4, 4, 3), SOME)), AND),  # Keras drops or joins by the layer
    (jl.Multiply(), (masked((4, 4, 3)), jnp.ones((4, 3))), RAGGED),  # Keras loses the mask here
    (jl.Maximum(), ([masked((4, 4, 3)), masked((4, 1, 3), SOME[:, :1])],), RAGGED & SOME[:, :1]),
    (jl.Add(), (masked((4, 4, 3)), masked((4, 4, 3), EACH)), EACH & RAGGED[..., None]),
    (jl.Concatenate(), (masked((4, 4, 3)), masked((4, 4, 2), SOME)), AND),
    (jl.Concatenate(), (masked((4, 4, 3)), jnp.ones((4, 4, 2))), RAGGED),
    (jl.Concatenate(1), (masked((4, 4, 3)), jnp.ones((4, 1, 3))), np.hstack([RAGGED, np.ones((4, 1), bool)])),
    (jl.Concatenate(0), (masked((4, 4, 3)), masked((4, 4, 3), SOME)), np.vstack([RAGGED, SOME])),
    (jl.Cropping1D((1, 2)), (masked((4, 4, 3)),), RAGGED[:, 1:2]),
    (jl.ZeroPadding1D((1, 2)), (masked((4, 4, 3)),), np.pad(RAGGED, ((0, 0), (1, 2)))),
    (jl.UpSampling1D(2), (masked((4, 4, 3)),), np.repeat(RAGGED, 2, 1)),
    (jl.ZeroPadding2D(1), (masked((4, 2, 2, 3), PLANE),), np.pad(PLANE, ((0, 0), (1, 1), (1, 1)))),
    (jl.Reshape((4, 3, 1)), (masked((4, 4, 3)),), RAGGED),
    (jl.Permute((1, 3, 2)), (masked((4, 4, 3, 2)),), RAGGED),
    (jl.Permute((2, 1, 3)), (masked((4, 2, 2, 3), PLANE),), PLANE.swapaxes(1, 2)),
    (jl.Softmax(), (masked((4, 4, 3)),), RAGGED),
    (jl.Softmax(1), (masked((4, 4, 3)),), RAGGED),
    (jl.EinsumDense("abc,bcd->abd", (None, 2)), (masked((4, 4, 3)),), RAGGED),
    (jl.EinsumDense("...c,cd->...d", 2), (masked((4, 4, 3)),), RAGGED),
    (jl.Residual(jl.Sequential(jl.DropMask(), jl.Conv1D(3, 1))), (masked((4, 4, 3)),), RAGGED),
    (jl.TransformerEncoder(4, 4, 2), (masked((4, 4, 4)),), RAGGED),
    (jl.SpectralNormalization(jl.Dense(2)), (masked((4, 4, 4)),), RAGGED),
    (jl.Normalization(mean=1.0, variance=4.0), (masked((4, 4, 3)),), RAGGED),
    (jl.Rescaling(2.0), (masked((4, 4, 3)),), RAGGED),
    (jl.AttachMask(), (masked((4, 4, 3)), jnp.asarray(SOME)), AND),
]


@pytest.mark.parametrize(("layer", "inputs", "mask"), TRANSFORMED, ids=name)
def test_layers_transform_the_mask(layer, inputs, mask):
    y = run(layer, *inputs)
    assert y.mask.shape == mask.shape == y.values.shape[: mask.ndim]
    np.testing.assert_array_equal(y.mask, mask)


def test_a_softmax_over_time_gives_nothing_to_padding():
    y = run(jl.Softmax(1), masked((4, 4, 3)))
    assert (np.asarray(y.values)[~RAGGED] == 0).all()
    np.testing.assert_allclose(y.values.sum(1)[np.array([0, 1, 3])], 1, rtol=1e-6)


REFUSED = [
    jl.Conv1D(2, 2),
    jl.DepthwiseConv1D(2),
    jl.SeparableConv1D(2, 2),
    jl.Conv1DTranspose(2, 2),
    jl.MaxPooling1D(2),
    jl.AveragePooling1D(2),
    jl.AdaptiveAveragePooling1D(2),
    jl.Flatten(),
    jl.Reshape((12,)),
    jl.Permute((2, 1)),
    jl.GroupNormalization(3),
    jl.LayerNormalization(axis=1),
    jl.UnitNormalization(axis=(1, 2)),
    jl.BatchNormalization(axis=1),
    jl.EinsumDense("abc,bd->adc", (4, None)),
    jl.Lambda(jnp.tanh),
    jl.Dot(1),
]


@pytest.mark.parametrize("layer", REFUSED, ids=lambda layer: repr(layer.spec))
def test_what_would_lose_a_mask_refuses_it(layer):
    inputs = (masked((4, 4, 3)),) * (2 if layer.spec.name == "Dot" else 1)
    model = jl.Sequential(layer, name="part") if len(inputs) == 1 else layer
    with pytest.raises(TypeError, match=r"float32\(4, 4, 3\) with mask bool\(4, 4\).*put jl.DropMask\(\)"):
        run(model, *inputs)
    plain = [x if layer.spec.name != "Dot" else x.values for x in inputs]
    knowing = layer if layer.spec.name == "Dot" else jl.Sequential(jl.DropMask(), layer)
    jax.eval_shape(functools.partial(first, knowing), *plain)


def test_the_refusal_names_the_layer_and_its_place():
    model = jl.Sequential(jl.Embedding(9, 4, mask_zero=True), jl.Residual(jl.Conv1D(4, 3, padding="same")))
    with pytest.raises(TypeError, match=r"Conv1D: received float32.* neither keeps nor") as caught:
        model.init(KEY, jnp.zeros((2, 5), jnp.int32))
    assert "'residual/layer': Conv1D" in caught.value.__notes__[0]


def test_masks_that_do_not_fit_are_refused():
    x = jnp.ones((4, 4, 3))
    for mask in (jnp.ones((4, 4)), jnp.ones((4, 3), bool), jnp.ones((), bool)):
        with pytest.raises(ValueError, match="expected a boolean mask over the leading axes"):
            run(jl.Dense(2), jl.Masked(x, mask))
    with pytest.raises(TypeError, match=r"AttachMask: expected a boolean mask.*float32\(4, 4\)"):
        run(jl.AttachMask(), x, jnp.ones((4, 4)))
    with pytest.raises(ValueError, match=r"over the leading axes of float32\(4, 4, 3\)"):
        run(jl.AttachMask(), x, jnp.ones((4, 3), bool))
    with pytest.raises(TypeError, match=r"takes only a mask \(batch, time\)"):
        run(jl.LSTM(2), jl.Masked(x, jnp.ones((4, 4, 3), bool)))
    with pytest.raises(TypeError, match="with masks on its initial states"):
        run(jl.GRU(2), x, jl.Masked(jnp.ones((4, 2)), jnp.ones((4,), bool)))
    with pytest.raises(TypeError, match="a mask over the features"):
        run(jl.Masking(), jl.Masked(x, jnp.ones((4, 4, 3), bool)))
    counting = jl.RNN(Counting())
    with pytest.raises(TypeError, match=r"the state of its cell Counting\(\) sees all steps"):
        run(counting, jl.Masked(x, jnp.ones((4, 4), bool)))


@jl.layer
def Counting():
    """A cell that counts its steps in its state."""

    def apply(params, x, *states, state):
        return (x, x), {"steps": state["steps"] + 1}

    return lambda key, x, *states: ({}, {"steps": jnp.zeros((), jnp.int32)}), apply


# --------------------------------------------------------------------------------------- masks on their way


def tagger():
    ids = jl.Input((None,), "int32", name="ids")
    x = jl.Embedding(7, 4, mask_zero=True)(ids)
    assert x.shape == (None, None, 4)
    x = jl.Repeat(jl.Remat(jl.Residual(jl.Sequential(jl.Dense(4), jl.Dropout(0.2)))), 2)(x)
    x = jl.Concatenate()(x, jl.LSTM(3, return_sequences=True, recurrent_initializer="glorot_uniform")(x))
    return jl.Model(ids, jl.Dense(3, name="tags")(x))


IDS = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 1, 2]], np.int32)


def test_masks_go_through_models_and_transforms():
    model = tagger()
    params, state = jax.jit(model.init, compiler_options=QUICK)(KEY, IDS)
    program = jax.jit(model.apply).lower(params, state, IDS)
    y, _ = program.compile()(params, state, IDS)
    assert (y.mask == (IDS != 0)).all()
    for other in (pickle.loads(pickle.dumps(model)), layers.get(model.to_data())):
        assert jax.jit(other.apply).lower(params, state, IDS).as_text() == program.as_text()
    mapped = jax.jit(jax.vmap(lambda ids: model.apply(params, state, ids[None])[0]), compiler_options=QUICK)
    np.testing.assert_allclose(mapped(IDS).values[:, 0], y.values, rtol=1e-5, atol=1e-6)

    def loss(params, values):
        head = jl.Sequential(jl.Dense(3), jl.GlobalAveragePooling1D())
        return head.apply({"dense": params["tags"]}, {}, jl.Masked(values, y.mask))[0].sum()

    gradient = jax.jit(jax.grad(loss, 1))(params, jnp.ones((3, 4, 7)))
    np.testing.assert_array_equal((gradient != 0).all(-1), IDS != 0)
    assert "(3, 4) bool" in str(jl.summary(model, IDS))
    assert "output_1" not in str(jl.draw(model))  # values and mask are one output
    assert jl.graph(model)["lstm"].shape == (None, None, 3)


def test_masks_may_be_fed_to_a_model():
    x = jl.Input((None, 3), name="x")
    model = jl.Model(x, jl.GlobalAveragePooling1D()(x))
    fed = masked((4, 4, 3))
    np.testing.assert_array_equal(run(model, fed), run(jl.GlobalAveragePooling1D(), fed))
    with pytest.raises(ValueError, match=r"expected shape \(None, None, 3\), received"):
        run(model, masked((4, 4, 2)))


def test_a_repeated_layer_that_consumes_the_mask_is_told_so():
    consumes = jl.Repeat(jl.DropMask(), 2)
    with pytest.raises(
        ValueError, match=r"shape and dtype float32.* with mask bool\(4, 4\), received float32"
    ):
        run(consumes, masked((4, 4, 3)))


def test_joint_masks():
    a, b = jnp.array([True, True]), jnp.array([[True, False], [True, True]])
    assert intersection(None, None) is None
    assert intersection(a, None, b).tolist() == b.tolist()
    y = combine(jnp.multiply, jl.Masked(jnp.ones((2, 2)), a), jnp.ones((2, 2)))
    assert y.mask.tolist() == a.tolist()
    assert combine(jnp.add, a, a).tolist() == [True, True]


# ------------------------------------------------------------------------------------------------ training


def trainer_of(model):
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    return jl.compile(model, "sgd", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])


def test_losses_and_metrics_weigh_real_positions_alone():
    model = jl.Sequential(jl.Embedding(7, 4, mask_zero=True), jl.Dense(3))
    params, state = model.init(KEY, IDS)
    y = (IDS % 3).astype(np.int32)
    logits, _ = model.apply(params, state, IDS)
    each = np.asarray(jl.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits.values))
    right = np.asarray(logits.values.argmax(-1)) == y
    real, weight = IDS != 0, np.array([1.0, 3.0, 0.5], np.float32)
    trainer = trainer_of(model)
    other = np.where(real, y, 2)  # what stands in padding does not matter
    for labels in (y, other):
        logs = jl.evaluate(trainer, (params, state), IDS, labels, sample_weight=weight, batch_size=3)
        np.testing.assert_allclose(logs["loss"], (each * weight[:, None])[real].sum() / real.sum(), rtol=1e-5)
        np.testing.assert_allclose(logs["accuracy"], right[real].mean(), rtol=1e-6)
        spread = np.broadcast_to(weight[:, None], real.shape)[real]
        expected = (right[real] * spread).sum() / spread.sum()
        np.testing.assert_allclose(logs["weighted_accuracy"], expected, rtol=1e-6)
    predicted = jl.predict(trainer, (params, state), IDS, batch_size=2)
    assert isinstance(predicted, jl.Masked)
    assert isinstance(predicted.values, np.ndarray)
    np.testing.assert_array_equal(predicted.mask, real)


def test_a_masked_loss_is_that_of_keras():
    from keras.src import backend

    values, real = data((3, 4, 2)), jnp.asarray(IDS != 0)
    y, weight = data((3, 4, 2), seed=1), data((3, 1), seed=2)
    predictions = jnp.asarray(values)
    backend.set_keras_mask(predictions, real)
    promotion, ranks = relaxed()
    with promotion, ranks:
        expected = keras.losses.MeanSquaredError()(y, predictions, sample_weight=weight)
    task = jl.train.objective.Supervised(jl.Identity(), "mse")
    given = jl.Masked(jnp.asarray(values), real)
    loss = task.judge(given, jl.Batch(None, y, jnp.asarray(weight[:, 0])))
    np.testing.assert_allclose(loss.total, expected, rtol=1e-5)


def test_training_under_a_mask():
    norm = jl.BatchNormalization()
    trainer = trainer_of(jl.Sequential(jl.Embedding(7, 4, mask_zero=True), norm, jl.Dense(3)))
    y = (IDS % 3).astype(np.int32)
    seen = [jl.fit(trainer, IDS, labels, batch_size=2)[0] for labels in (y, np.where(IDS, y, 1))]
    a, b = (jax.tree.leaves(state.params) for state in seen)
    for left, right in zip(a, b, strict=True):  # labels of padding do not move weights
        np.testing.assert_array_equal(left, right)


def test_a_loss_that_reduces_masked_positions_is_refused():
    y = np.ones((4, 4), np.float32)
    for loss in ("mse", "dice"):
        task = jl.train.objective.Supervised(jl.Identity(), loss)
        given = masked((4, 4))
        with pytest.raises(ValueError, match="expected a loss with a value per position of the masked"):
            task.judge(given, jl.Batch(None, y))


# ------------------------------------------------------------------------------------------- the law of masks


def broken(apply):
    applies.append(apply)
    return MasksBroken(len(applies) - 1)


applies = []


@jl.layer
def MasksBroken(number: int):
    """The apply at that place of `applies`."""
    return no_params, applies[number]


def loses_the_mask(params, x, *, mask):
    return x


@jl.keeps_mask
def mixes_time(params, x):
    return x + x.sum(1, keepdims=True)


def marks_all_as_real(params, x, *, mask):
    return x if mask is None else jl.Masked(x, jnp.ones_like(mask))


def differs_without_padding(params, x, *, mask):
    return x if mask is None else jl.Masked(2 * x, mask)


def raises_something_else(params, x, *, mask):
    if mask is not None:
        raise TypeError("no")
    return x


OTHERS = {other: "one property at a time" for other in PROPERTIES if other != "mask"}
BROKEN = [
    (loses_the_mask, "for other padding"),
    (mixes_time, "for other padding"),
    (marks_all_as_real, "for other padding"),
    (differs_without_padding, "for a mask without padding"),
    (raises_something_else, "TypeError: no"),
]


@pytest.mark.parametrize(("apply", "words"), BROKEN)
def test_a_layer_that_breaks_the_law_of_masks_is_told_so(apply, words):
    with pytest.raises(AssertionError, match=rf"MasksBroken.*fails 'mask' on float32\(2, 3, 4\): .*{words}"):
        check_layer(broken(apply), (2, 3, 4), skip=OTHERS)


WIDE = {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 2}
LAST = {"return_sequences": True, "go_backwards": True, **FAST}
TRIPLE = ((2, 3, 4), (2, 2, 4), (2, 2, 4))  # query, value, key

# Other arguments than in tests/test_conformance.py, where each layer has its mask checked on one set, and the
# layers that stand there on inputs without a time axis.
LAWFUL = [
    (jl.SimpleRNN(2, zero_output_for_mask=True, stateful=True, **LAST), (2, 3, 2)),
    (jl.LSTM(2, unroll=True, return_state=True, dropout=0.5, recurrent_dropout=0.5, **FAST), (2, 3, 2)),
    (jl.LSTM(2, stateful=True, **LAST), (2, 3, 2)),
    (jl.GRU(3, **LAST), (2, 3, 2)),
    (jl.GRU(2, reset_after=False, return_sequences=True, unroll=True, **FAST), (2, 3, 2)),
    (
        jl.RNN([jl.GRUCell(2, **FAST), jl.LSTMCell(2, **FAST)], return_state=True, go_backwards=True),
        (2, 3, 2),
    ),
    (
        jl.RNN(jl.LSTMCell(2, **FAST), return_sequences=True, zero_output_for_mask=True, unroll=True),
        (2, 3, 2),
    ),
    (jl.ConvLSTM1D(2, 2, dropout=0.5, stateful=True, **LAST), (2, 3, 3, 2)),
    (jl.Bidirectional(jl.SimpleRNN(2, return_sequences=True, **FAST), "sum"), (2, 3, 2)),
    (jl.Bidirectional(jl.GRU(2, return_sequences=True, stateful=True, **FAST), "mul"), (2, 3, 2)),
    (jl.Bidirectional(jl.LSTM(2, return_state=True, **FAST), "ave"), (2, 3, 2)),
    (jl.Bidirectional(jl.SimpleRNN(2, return_sequences=True, return_state=True, **FAST), None), (2, 3, 2)),
    (jl.MinGRU(2, return_sequences=True, go_backwards=True, return_state=True), (2, 3, 2)),
    (jl.LRU(3, 2, return_sequences=True, go_backwards=True), (2, 3, 2)),
    (jl.TimeDistributed(jl.Conv1D(2, 2)), (2, 3, 4, 2)),
    (jl.TimeDistributed(jl.LSTM(2, return_sequences=True, **FAST)), (2, 3, 2, 2)),
    (jl.MultiHeadAttention(2, 2, use_causal_mask=True, return_attention_scores=True), (2, 3, 4)),
    (jl.MultiHeadAttention(2, 2, sliding_window=2, use_gate=True, dropout=0.5), (2, 3, 4)),
    (jl.MultiHeadAttention(2, 2, value_dim=3), *TRIPLE),
    (jl.GroupQueryAttention(**WIDE, use_causal_mask=True, dropout=0.5), (2, 3, 4), (2, 3, 4)),
    (jl.GroupQueryAttention(**WIDE, return_attention_scores=True), *TRIPLE),
    (jl.Attention(use_causal_mask=True, dropout=0.5), *TRIPLE),
    (jl.AdditiveAttention(return_attention_scores=True), (2, 3, 4), (2, 2, 4)),
    (jl.TransformerEncoder(4, 6, 2, normalize_first=False), (2, 3, 4)),
    (jl.TransformerDecoder(4, 6, 2, cross_attention=True), (2, 3, 4), (2, 2, 4)),
    (jl.BatchNormalization(renorm=True, scale=False), (3, 4, 2)),
    (jl.LayerNormalization(axis=(2, 3)), (2, 3, 2, 2)),
    (jl.InstanceNormalization(), (2, 3, 4)),
    (jl.RMSNormalization(), (2, 3, 4)),
    (jl.UnitNormalization(), (2, 3, 4)),
    (jl.SpectralNormalization(jl.LSTM(2, **LAST), 1), (2, 3, 2)),
    (jl.WeightNormalization(jl.Dense(2)), (2, 3, 2)),
    (jl.LoRA(jl.Dense(2), 1, b_initializer="ones"), (2, 3, 2)),
    (jl.Repeat(jl.Residual(jl.Dense(2, activity_regularizer="l2")), 2), (2, 3, 2)),
    (jl.ActivityRegularization(l2=0.1), (2, 3, 4)),
    (jl.Dropout(0.5, noise_shape=(None, 1, None)), (2, 3, 8)),
    (jl.SpatialDropout1D(0.5), (2, 3, 8)),
    (jl.AlphaDropout(0.5), (2, 3, 8)),
    (jl.GaussianDropout(0.5), (2, 3, 2)),
    (jl.GaussianNoise(0.5), (2, 3, 2)),
    (jl.PReLU("ones", shared_axes=(1,)), (2, 3, 2)),
    (jl.Activation("softmax"), (2, 3, 2)),
    (jl.Softmax(1), (2, 3, 4)),
    (jl.Softmax((1, 2)), (2, 3, 4)),
    (jl.GlobalAveragePooling1D(keepdims=True), (2, 3, 2)),
    (jl.GlobalMaxPooling2D(), (2, 3, 2, 2)),
    (jl.GatedDense(2), (2, 3, 2)),
    (jl.EinsumDense("...c,cd->...d", 2, bias_axes="d"), (2, 3, 2)),
    (jl.Concatenate(1), (2, 3, 2), (2, 2, 2)),
    (jl.Add(), (2, 3, 2), (2, 1, 2)),
    (jl.Average(), (2, 3, 2), (2, 3, 2)),
    (jl.Subtract(), (2, 3, 2), (2, 3, 2)),
    (jl.UpSampling2D(2), (2, 3, 2, 2)),
    (jl.ZeroPadding2D(1), (2, 3, 2, 2)),
    (jl.Rescaling(2.0, 1.0), (2, 3, 2)),
]


@pytest.mark.parametrize("row", LAWFUL, ids=lambda row: row[0].spec.name)
def test_layers_keep_the_law_of_masks(row):
    check_layer(*row, skip=OTHERS)
