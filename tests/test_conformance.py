"""One row per registered layer: the conformance suite over all of them, and over broken ones."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import layers, no_params
from jlayers.testing import check_layer
from jlayers.testing.properties import PROPERTIES


def two_inputs():
    a, b = jl.Input((3,), name="a"), jl.Input((3,), name="b")
    shared = jl.Dense(4, activation="tanh")
    joined = jl.Concatenate()([shared(a), shared(b)])
    return jl.Model([a, b], {"y": jl.Dense(1, name="head")(joined), "code": joined})


def squared(x):
    return jnp.square(x)


TOKENS = np.array([[1, 4, 0], [2, 2, 3]], np.int32)
REAL = np.array([[True, True, False], [True, False, False]])
PAIRS = np.array([[[True, True, False]], [[True, False, True]]])  # (batch, 1, source)
HEADS = (2, 3, 2, 2)
AT = np.array([[0, 1, 2]], np.int32)
FUNCTION = "a plain function has no name in a configuration"
LABELS = np.array([[1, 0, 0], [0, 0.5, 0.5]], np.float32)
PIXELS = {"value_range": (-5, 5)}  # where normal draws lie
STEPS = {"gradient": "piecewise constant in the pixels, with jumps"}
ORTHOGONAL = {"recurrent_initializer": "glorot_uniform"}  # the QR factorisation takes seconds to compile

FIXED = "what is carried from call to call is made for one batch size"
CARRIED = {"rows": FIXED, "empty": FIXED, "symbolic": FIXED, "sizes": FIXED}
AS_LONG = {"sizes": "the axes of its mask are those of its values"}

# Each row: the layer, its inputs, and what it does not hold, with the reason.
ROWS = [
    (jl.Activation("gelu"), (2, 3)),
    (jl.ActivityRegularization(l2=0.1), (2, 3)),
    (jl.AdaptiveAveragePooling1D(2), (2, 3, 2)),
    (jl.AdaptiveAveragePooling2D((2, 1)), (2, 3, 2, 2)),
    (jl.AdaptiveAveragePooling3D(1), (2, 2, 1, 2, 2)),
    (jl.AdaptiveMaxPooling1D(2), (2, 3, 2)),
    (jl.AdaptiveMaxPooling2D((2, 1)), (2, 3, 2, 2)),
    (jl.AdaptiveMaxPooling3D(1), (2, 2, 1, 2, 2)),
    (jl.Add(), (2, 3), (2, 3)),
    (jl.AdditiveAttention(dropout=0.4), (2, 3, 4)),
    (jl.AlphaDropout(0.5), (2, 8)),
    (jl.Attention(score_mode="concat", use_scale=True), (2, 3, 4), (2, 2, 4)),
    (jl.Average(), (2, 3), (2, 3)),
    (jl.Arithmetic("divide"), (2, 3, 2), (2, 1, 2)),
    (jl.Arithmetic("subtract", 2.0, swapped=True), (2, 3, 2)),
    (jl.AttachMask(), (2, 3, 2), REAL, AS_LONG),
    (jl.AveragePooling1D(2), (2, 4, 2)),
    (jl.AveragePooling2D(2, padding="same"), (2, 3, 3, 2)),
    (jl.AveragePooling3D(2), (2, 2, 2, 2, 2)),
    (jl.BatchNormalization(), (4, 3)),
    (jl.CategoryEncoding(5, output_mode="count"), TOKENS),
    (jl.Concatenate(), (2, 3), (2, 2)),
    (jl.Bidirectional(jl.SimpleRNN(2, dropout=0.5, **ORTHOGONAL), None), (2, 3, 4)),
    (jl.Conv1D(2, 2, padding="causal"), (2, 4, 2)),
    (jl.Conv1DTranspose(2, 2, padding="same", strides=2), (2, 3, 2)),
    (jl.Conv2D(2, (2, 3), strides=2, activation="tanh"), (2, 4, 4, 2)),
    (jl.Conv2DTranspose(2, (2, 3), strides=2, activation="tanh"), (2, 2, 2, 2)),
    (jl.Conv3D(2, 2), (2, 2, 2, 2, 2)),
    (jl.Conv3DTranspose(2, 2), (2, 2, 2, 2, 2)),
    (jl.ConvLSTM1D(2, 2, dropout=0.4, **ORTHOGONAL), (2, 2, 3, 4)),
    (jl.ConvLSTM2D(1, 2, **ORTHOGONAL), (2, 2, 3, 3, 1)),
    (jl.ConvLSTM3D(1, 2, padding="same", **ORTHOGONAL), (2, 2, 2, 2, 2, 1)),
    (jl.Cropping1D((1, 2)), (2, 5, 2)),
    (jl.Cropping2D(((1, 0), (0, 2))), (2, 3, 4, 2)),
    (jl.Cropping3D(((1, 0), (0, 2), (0, 0))), (2, 2, 3, 1, 2)),
    (jl.Dense(3, activation="tanh", kernel_regularizer="l2"), (2, 4)),
    (jl.DepthwiseConv1D(2, padding="same", depth_multiplier=2), (2, 4, 2)),
    (jl.DepthwiseConv2D((2, 3), strides=2, activation="tanh"), (2, 4, 4, 2)),
    (jl.Discretization([-0.5, 0.5], output_mode="one_hot"), (2, 3)),
    (jl.Dot(1), (2, 3), (2, 3)),
    (jl.Dropout(0.5), (2, 8)),
    (jl.DropMask(), (2, 3, 2), {"mask": "gives the mask up, knowingly"}),
    (jl.DropPath(0.5), (8, 2)),
    (jl.EinsumDense("abc,cde->abde", (None, 2, 2), bias_axes="de"), (2, 3, 4)),
    (jl.ELU(), (2, 3)),
    (jl.Embedding(5, 3), TOKENS),
    (jl.Flatten(), (2, 3, 2)),
    (jl.GatedDense(3, use_bias=True), (2, 4)),
    (jl.GaussianDropout(0.5), (2, 3)),
    (jl.GRU(3, **ORTHOGONAL), (2, 3, 2)),
    (jl.GRUCell(3, **ORTHOGONAL), (2, 2)),
    (jl.GaussianNoise(0.5), (2, 3)),
    (jl.GetItem([":", 0, "newaxis"]), (2, 3, 2)),
    (jl.GlobalAveragePooling1D(), (2, 3, 2)),
    (jl.GlobalAveragePooling2D(), (2, 2, 3, 2)),
    (jl.GlobalAveragePooling3D(), (2, 2, 2, 2, 2)),
    (jl.GlobalMaxPooling1D(), (2, 3, 2)),
    (jl.GlobalMaxPooling2D(keepdims=True), (2, 2, 3, 2)),
    (jl.GlobalMaxPooling3D(), (2, 2, 2, 2, 2)),
    (jl.GroupNormalization(2), (2, 3, 4)),
    (jl.GroupQueryAttention(2, 4, 2, use_causal_mask=True), (2, 3, 4)),
    (jl.Identity(), (2, 3)),
    (jl.Inference(jl.Sequential(jl.BatchNormalization(), jl.Dropout(0.5))), (4, 3)),
    (jl.InstanceNormalization(), (2, 3, 4)),
    (jl.InputLayer((None, 2)), (2, 3, 2), {"precision": "hands its input on for others to cast"}),
    (jl.LayerScale(0.5), (2, 3)),
    (jl.ClassToken(), (2, 3, 4)),
    (jl.LoRA(jl.Dense(3, activation="tanh"), 2, b_initializer="ones"), (2, 4)),
    (jl.Tap(jl.Sequential(jl.Dense(3, name="inner"), jl.Dense(2)), "inner"), (2, 4)),
    (jl.LRU(3, 2, return_state=True), (2, 3, 2)),
    (jl.LSTM(3, return_sequences=True, return_state=True, **ORTHOGONAL), (2, 3, 2)),
    (jl.LSTMCell(3, dropout=0.4, recurrent_dropout=0.4, **ORTHOGONAL), (2, 4)),
    (jl.KeyValueCache(3), HEADS, HEADS, AT, CARRIED),
    (jl.Lambda(squared), (2, 3), {"data": FUNCTION}),
    (jl.LayerNormalization(), (2, 4)),
    (jl.LeakyReLU(), (2, 3)),
    (jl.Masking(), (2, 3, 2)),
    (jl.MaxPooling1D(2), (2, 4, 2)),
    (jl.MaxPooling2D(2, strides=1), (2, 3, 3, 2)),
    (jl.MaxPooling3D(2), (2, 2, 2, 2, 2)),
    (jl.Maximum(), (2, 3), (2, 3)),
    (jl.Minimum(), (2, 3), (2, 3)),
    (jl.MinGRU(3, return_sequences=True), (2, 3, 2)),
    (jl.MoE(jl.Dense(3), 3, 2), (2, 4, 5)),
    (jl.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 0.5]), (2, 3)),
    (two_inputs(), (2, 3), (2, 3)),
    (jl.MultiHeadAttention(2, 3, dropout=0.4), (2, 3, 4), (2, 3, 4), (2, 3, 4), PAIRS, AS_LONG),
    (jl.Multiply(), (2, 3), (2, 3)),
    (jl.PatchEmbedding((2, 1), 3), (2, 4, 2, 2)),
    (jl.PReLU(alpha_initializer="ones"), (2, 3)),
    (jl.Permute((2, 1)), (2, 3, 4)),
    (jl.PositionEmbedding(5), (2, 3, 4)),
    (jl.Positions(), (2, 3, 4), {"empty": "one row of positions serves the whole batch"}),
    (jl.RMSNormalization(), (2, 4)),
    (jl.RNN([jl.GRUCell(2, **ORTHOGONAL), jl.SimpleRNNCell(3, **ORTHOGONAL)]), (2, 3, 2)),
    (jl.RNN(jl.SimpleRNNCell(2, **ORTHOGONAL), stateful=True), (2, 3, 2), CARRIED),
    (jl.ReLU(negative_slope=0.1), (2, 3)),
    (jl.Remat(jl.Dense(3, activation="tanh")), (2, 4)),
    (jl.Repeat(jl.Dense(3, activation="tanh"), 2), (2, 3)),
    (jl.RepeatVector(2), (2, 3)),
    (jl.Reshape((3, -1)), (2, 6)),
    (jl.Residual(jl.Dense(3)), (2, 3)),
    (jl.ReversibleEmbedding(5, 3), TOKENS),
    (jl.SeparableConv1D(3, 2, depth_multiplier=2), (2, 4, 2)),
    (jl.SeparableConv2D(3, 2, padding="same"), (2, 3, 3, 2)),
    (jl.Sequential(jl.Dense(4, activation="tanh"), jl.Dropout(0.5), jl.BatchNormalization()), (4, 3)),
    (jl.RotaryEmbedding(), (2, 3, 4)),
    (jl.SimpleRNN(3, dropout=0.4, **ORTHOGONAL), (2, 3, 4)),
    (jl.SimpleRNNCell(3, dropout=0.4, **ORTHOGONAL), (2, 4)),
    (jl.SinusoidalPositionEmbedding(), (2, 3, 4)),
    (jl.Softmax(), (2, 3)),
    (jl.SpatialDropout1D(0.5), (2, 2, 8)),
    (jl.SpatialDropout2D(0.5), (2, 2, 2, 8)),
    (jl.SpatialDropout3D(0.5), (2, 1, 2, 2, 8)),
    (jl.SpectralNormalization(jl.Dense(2), 20), (2, 4)),  # converged: the gradient is then exact
    (jl.SqueezeExcite(2), (2, 2, 3, 4)),
    (jl.StackedRNNCells([jl.SimpleRNNCell(2, **ORTHOGONAL), jl.LSTMCell(2, **ORTHOGONAL)]), (2, 3)),
    (jl.Subtract(), (2, 3), (2, 3)),
    (jl.TernaryDense(3), (2, 4), {"gradient": "the gradient passes straight through"}),
    (jl.TimeDistributed(jl.BatchNormalization()), (3, 2, 2)),
    (jl.TransformerDecoder(4, 6, 2, cache_length=4), (2, 3, 4), CARRIED),
    (jl.TransformerEncoder(4, 6, 2, dropout=0.4, activation="gelu"), (2, 3, 4)),
    (jl.UnitNormalization(), (2, 3)),
    (jl.UpSampling1D(2), (2, 3, 2)),
    (jl.UpSampling2D(2), (2, 2, 3, 2)),
    (jl.UpSampling3D((1, 2, 1)), (2, 2, 1, 2, 2)),
    (jl.WeightNormalization(jl.Dense(3)), (2, 4)),
    (jl.ZeroPadding1D((1, 2)), (2, 3, 2)),
    (jl.ZeroPadding2D(((1, 0), (0, 2))), (2, 2, 3, 2)),
    (jl.ZeroPadding3D(((1, 0), (0, 2), (0, 0))), (2, 2, 1, 2, 2)),
    (jl.AugMix(num_chains=2, chain_depth=1, all_ops=False, **PIXELS), (2, 3, 4, 1), STEPS),
    (jl.AutoContrast((-5, 5)), (2, 3, 2, 2)),
    (jl.CenterCrop(2, 3), (2, 3, 2, 1)),
    (jl.ContrastLimitedAdaptiveHistogramEqualization((-5, 5), 2.0, (2, 1)), (2, 3, 4, 2), STEPS),
    (jl.CutMix(), (2, 3, 4, 1), LABELS),
    (jl.Equalization((-5, 5)), (2, 3, 3, 2), STEPS),
    (jl.MelSpectrogram(8, 3, num_mel_bins=2), (2, 12)),
    (jl.MixUp(), (2, 2, 3, 1), LABELS),
    (jl.RandAugment(num_ops=1, **PIXELS), (2, 3, 4, 3), {"gradient": "posterises and equalises, with jumps"}),
    (jl.RandomBrightness(0.3, **PIXELS), (2, 2, 3, 1)),
    (jl.RandomColorDegeneration(0.5, **PIXELS), (2, 2, 3, 3)),
    (jl.RandomColorJitter((-5, 5), 0.1, 0.2), (2, 2, 3, 1)),
    (jl.RandomContrast(0.5, **PIXELS), (2, 3, 2, 2)),
    (jl.RandomCrop(2, 3), (2, 4, 5, 1)),
    (jl.RandomElasticTransform((0.9, 1.0), **PIXELS), (2, 8, 9, 1)),
    (jl.RandomErasing((0.9, 1.0), **PIXELS), (2, 4, 3, 2)),
    (jl.RandomFlip(), (2, 3, 2, 2)),
    (jl.RandomGaussianBlur((0.9, 1.0), 3, **PIXELS), (2, 4, 3, 2)),
    (jl.RandomGrayscale(0.5), (2, 2, 3, 3)),
    (jl.RandomHue(0.5, **PIXELS), (2, 2, 3, 3)),
    (jl.RandomInvert(**PIXELS), (2, 3, 2, 1)),
    (jl.RandomPerspective((0.9, 1.0), 0.5), (2, 4, 5, 1)),
    (jl.RandomPosterization((1, 8), **PIXELS), (2, 3, 2, 1), STEPS),
    (jl.RandomRotation(0.2), (2, 3, 4, 2)),
    (jl.RandomSaturation((0.2, 0.6), **PIXELS), (2, 2, 3, 3)),
    (jl.RandomSharpness(1.0, **PIXELS), (2, 3, 4, 2)),
    (jl.RandomShear(0.5, 0.3), (2, 3, 4, 1)),
    (jl.RandomTranslation(0.3, 0.2, fill_mode="wrap"), (2, 3, 4, 2)),
    (jl.RandomZoom(0.3), (2, 3, 4, 1)),
    (jl.Rescaling((2.0, 0.5), offset=-1.0), (2, 3, 2)),
    (jl.Resizing(3, 5, antialias=True), (2, 4, 3, 2)),
    (jl.STFTSpectrogram("log", 6, 2), (2, 9, 2)),
    (jl.Solarization(0.2, (0.4, 0.8), **PIXELS), (2, 3, 2, 2), STEPS),
]


# What takes a compilation of its own. The members of a rank family share their code: by default these run for
# one member, the one over images, and with `pytest --full` for all.
COMPILED = ("jit", "once", "vmap", "rows", "empty", "gradient", "keys")
SIBLING = re.compile("[13]D")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].spec.name)
def test_layer_conforms(row, request):
    layer, *inputs = row
    skip = inputs.pop() if isinstance(inputs[-1], dict) else {}
    if SIBLING.search(layer.spec.name) and not request.config.option.full:
        skip = dict.fromkeys(COMPILED, "the member over images is checked in full") | skip
    check_layer(layer, *inputs, skip=skip)


def test_one_member_of_each_rank_family_is_checked_in_full():
    named = {layer.spec.name for layer, *_ in ROWS}
    siblings = [name for name in named if SIBLING.search(name)]
    assert len(siblings) > 20
    assert {SIBLING.sub("2D", name) for name in siblings} <= named
    assert PROPERTIES.keys() >= set(COMPILED)


def test_every_layer_has_a_row():
    own = {name for name in layers if layers[name].__module__.startswith("jlayers.")}
    missing = own - {layer.spec.name for layer, *_ in ROWS}
    assert not missing, f"add a row to tests/test_conformance.py for {', '.join(sorted(missing))}"


# ------------------------------------------------------------------------- the suite finds what is broken


def broken(init, apply):
    """A layer of that pair, under one registered name for all."""
    pairs.append((init, apply))
    return Broken(len(pairs) - 1)


pairs = []


@jl.layer
def Broken(number: int):
    """The pair at that place of `pairs`."""
    return pairs[number]


def counter_init(key, x):
    return {}, {"count": jnp.zeros((), jnp.int32)}


@jax.custom_vjp
def wrong_gradient(x):
    return x * x


wrong_gradient.defvjp(lambda x: (x * x, x), lambda x, g: (x * g,))


def batch_mean(params, x):
    return x - jnp.mean(x, axis=0, keepdims=True)


def counts_in_inference(params, x, *, state, train):
    return x, {"count": state["count"] + 1}


def widens_the_state(params, x, *, state, train):
    return x, {"count": state["count"].astype(jnp.float32) if train else state["count"]}


def drops_the_state(params, x, *, state):
    return x, {}


def float32_always(params, x):
    return x.astype(jnp.float32) * 2


def reads_values(params, x):
    return x if x.ravel()[0] > 0 else -x


def draws_in_inference(params, x, *, key):
    return x if key is None else x + jax.random.normal(key, x.shape, x.dtype)


def draws_from_nowhere(params, x, *, key, train):
    key = jax.random.key(0) if key is None else key
    return x + jax.random.normal(key, x.shape, x.dtype) if train else x


def ignores_its_key(params, x, *, key, train):
    return x


def differs_when_compiled(params, x):
    return x + 1 if isinstance(x, jax.core.Tracer) else x


def weak_init(key, x):
    return {}, {"scale": jnp.asarray(1.0)}


def returns_strong(params, x, *, state):
    return x, {"scale": jnp.ones((), jnp.float32)}


@jax.custom_batching.custom_vmap
def wrong_batching(x):
    return x


@wrong_batching.def_vmap
def wrong_rule(size, batched, x):
    return 2 * x, True


def fixed_batch(params, x):
    return x.reshape(int(x.shape[0]), -1)


def one_row_at_least(params, x):
    return x + jnp.broadcast_to(jax.lax.dynamic_slice_in_dim(x, 0, 1), x.shape)


def same(params, x):
    return x


BROKEN = [
    ("init", lambda key, x: {"scale": 2.0}, same, r"expected a dict of arrays, received 2\.0"),
    (
        "init",
        lambda key, x: {"a/b": jnp.ones(2)},
        same,
        r"names without '/'.* received a parameter named 'a/b'",
    ),
    ("state", counter_init, widens_the_state, r"expected int32\(\), received float32\(\)"),
    ("state", counter_init, drops_the_state, "expected the structure"),
    ("jit", no_params, differs_when_compiled, "with train=False.*expected .* received"),
    ("jit", no_params, reads_values, "TracerBoolConversionError"),
    ("once", weak_init, returns_strong, "expected one compilation .* received 2"),
    ("vmap", no_params, lambda params, x: wrong_batching(x), "output under vmap"),
    ("rows", no_params, batch_mean, "first row of the output"),
    ("empty", no_params, one_row_at_least, "slice"),
    ("symbolic", no_params, fixed_batch, "symbolic"),
    ("gradient", no_params, lambda params, x: wrong_gradient(x), "by finite differences, received"),
    ("dtype", no_params, float32_always, r"expected bfloat16\(2, 4\), received float32\(2, 4\)"),
    ("keys", no_params, draws_from_nowhere, "expected a MissingKeyError"),
    ("keys", no_params, ignores_its_key, "expected different outputs for different keys"),
    ("inference", counter_init, counts_in_inference, "state after inference"),
    ("inference", no_params, draws_in_inference, "in inference with a key"),
]


@pytest.mark.parametrize(("name", "init", "apply", "words"), BROKEN)
def test_a_broken_layer_is_told_what_it_breaks(name, init, apply, words):
    layer = broken(init, apply)
    others = {other: "one property at a time" for other in PROPERTIES if other != name}
    with pytest.raises(
        AssertionError, match=rf"(?s)Broken\(\d+\) fails '{name}' on float32\(2, 4\): .*({words})"
    ):
        check_layer(layer, (2, 4), skip=others)


def test_pickle_and_data_notice_a_layer_that_is_made_otherwise():
    numbers = iter(range(9))

    @jl.layer
    def Forgetful():
        """Its weights differ from one making to the next."""
        number = next(numbers)
        return lambda key, x: {"w": jnp.full(4, number, x.dtype)}, lambda params, x: x * params["w"][None, :]

    for name in ("pickle", "data"):
        others = {other: "one property at a time" for other in PROPERTIES if other != name}
        with pytest.raises(AssertionError, match=rf"Forgetful\(\) fails '{name}'.*init"):
            check_layer(Forgetful(), (2, 4), skip=others)


def test_skip_names_a_property_and_a_reason():
    with pytest.raises(ValueError, match=r"no property is named 'row': did you mean 'rows'"):
        check_layer(jl.Identity(), (2, 4), skip={"row": "x"})
    with pytest.raises(ValueError, match=r"expected the reason to skip 'rows', received ''"):
        check_layer(jl.Identity(), (2, 4), skip={"rows": ""})
    with pytest.raises(TypeError, match="expected a layer, received"):
        check_layer(jl.Identity, (2, 4))
