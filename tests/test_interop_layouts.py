"""Weights into a model: PyTorch's layouts, names, renaming, order, and what is said of what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from test_torch_values import CASES, CHANNELS_FIRST, VALUES, channels_last, statistics

import jlayers as jl
from jlayers.core.structure import Chain
from jlayers.interop import limits, read

WITH_WEIGHTS = [case for case in CASES if "weights" in VALUES[case]]


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def inputs_of(case):
    inputs = [VALUES[case]["inputs"][name] for name in sorted(VALUES[case]["inputs"])]
    return [channels_last(x) for x in inputs] if case.startswith(CHANNELS_FIRST) else inputs


@pytest.mark.parametrize("case", WITH_WEIGHTS)
def test_layouts_of_pytorch(case):
    """The converters of `test_torch_values.py`, which PyTorch's own outputs prove, give the same arrays."""
    layer, convert = CASES[case]
    rename = {"output.**": "attention_output.**"} if case == "attention_grouped" else {}
    if isinstance(layer.structure, Chain):
        rename = {"*": "conv.*"}
    buffers = VALUES[case].get("buffers", {})
    count = {"num_batches_tracked": np.array(3)} if buffers else {}
    source = {**VALUES[case]["weights"], **buffers, **count}
    params, state = jl.load_weights(layer, source, inputs_of(case), rename=rename)
    same(params, jax.tree.map(np.asarray, convert(VALUES[case]["weights"])))
    same(state, statistics(buffers) if buffers else {})


MODEL = jl.Sequential(
    jl.Input((8, 8, 3)),
    jl.Conv2D(4, 3, name="conv"),
    jl.BatchNormalization(name="norm"),
    jl.GlobalAveragePooling2D(),
    jl.Dense(4, name="dense"),
    jl.Dense(4, name="head"),
)


def torch_weights(**changes):
    rng = np.random.default_rng(0)
    shapes = {
        "conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "norm.weight": (4,), "norm.bias": (4,),
        "norm.running_mean": (4,), "norm.running_var": (4,), "dense.weight": (4, 4), "dense.bias": (4,),
        "head.weight": (4, 4), "head.bias": (4,),
    }  # fmt: skip
    arrays = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def by_hand(w):
    params = {
        "conv": {"kernel": w["conv.weight"].transpose(2, 3, 1, 0), "bias": w["conv.bias"]},
        "norm": {"gamma": w["norm.weight"], "beta": w["norm.bias"]},
        "dense": {"kernel": w["dense.weight"].T, "bias": w["dense.bias"]},
        "head": {"kernel": w["head.weight"].T, "bias": w["head.bias"]},
    }
    state = {"norm": {"moving_mean": w["norm.running_mean"], "moving_variance": w["norm.running_var"]}}
    return params, state


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_names_at_any_depth(prefix):
    source = torch_weights()
    loaded = jl.load_weights(MODEL, {prefix + name: array for name, array in source.items()})
    same(loaded, by_hand(source))
    deeper = jl.Sequential(jl.Input((8, 8, 3)), jl.Sequential(list(MODEL.children.values()), name="base"))
    params, state = jl.load_weights(deeper, source)
    same((params["base"], state["base"]), by_hand(source))


def test_renamed_and_by_order():
    source = torch_weights()
    other = {"conv": "stem.0", "norm": "stem.1", "dense": "fc1", "head": "fc2"}
    moved = {other[name.split(".")[0]] + "." + name.split(".")[1]: a for name, a in source.items()}
    rename = {"stem.0.*": "conv.*", "stem.1.*": "norm.*", "fc1.*": "dense.*", "fc2.*": "head.*"}
    same(jl.load_weights(MODEL, moved, rename=rename), by_hand(source))
    same(jl.load_weights(MODEL, moved, by="order"), by_hand(source))
    same(
        jl.load_weights(MODEL, {**moved, "extra.x": np.ones(1)}, by="order", rename={"extra.*": None}),
        by_hand(source),
    )
    flat = {
        f"arr_{i}": a
        for i, a in enumerate(jax.tree.leaves([list(d.values()) for d in by_hand_in_order(source)]))
    }
    same(jl.load_weights(MODEL, flat, by="order"), by_hand(source))


def by_hand_in_order(source):
    params, state = by_hand(source)
    return [params["conv"], {**params["norm"], **state["norm"]}, params["dense"], params["head"]]


def test_what_does_not_fit_is_listed():
    source = torch_weights(
        **{"conv.bias": None, "head.weight": np.ones((5, 4), np.float32), "haed.x": np.ones(2)}
    )
    with pytest.raises(ValueError, match="does not fit the model") as error:
        jl.load_weights(MODEL, source)
    lines = str(error.value).splitlines()[1:]
    assert lines[0] == "  missing params/conv/bias", (
        "what is left over is not spelled like it, and stands below"
    )
    assert lines[1] == "  expected params/head/kernel as float32(4, 4), head.weight gives float32(4, 5)"
    assert lines[2] == "  unused haed.x"
    with pytest.raises(ValueError, match="expected a key to draw what is not in the source"):
        jl.load_weights(MODEL, source, strict=False)
    params, _, report = jl.load_weights(MODEL, source, strict=False, key=jax.random.key(0))
    assert report.missing == ("params/conv/bias",)
    assert report.extra == ("haed.x",)
    assert len(report.misshapen) == 1
    assert report.sources["params/dense/kernel"] == ("dense.weight",)
    fresh, _ = MODEL.init(jax.random.key(0), (1, 8, 8, 3))
    np.testing.assert_array_equal(params["head"]["kernel"], fresh["head"]["kernel"])
    np.testing.assert_array_equal(params["dense"]["kernel"], source["dense.weight"].T)


def test_dtypes():
    half = {name: array.astype(jnp.bfloat16) for name, array in torch_weights().items()}
    params, _ = jl.load_weights(MODEL, half)
    assert params["dense"]["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(params["dense"]["kernel"], half["dense.weight"].T.astype(np.float32))
    whole = torch_weights(**{"dense.weight": np.ones((4, 4), np.int32)})
    with pytest.raises(
        ValueError, match=r"expected params/dense/kernel as float32\(4, 4\), dense.weight gives int32"
    ):
        jl.load_weights(MODEL, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"haed.*": "head.*"}}, r"an array of the source, received rename='haed.\*'"),
        ({"rename": {"dense.*": "head.*"}}, "expected one array for each name"),
        ({"rename": {"dense.weight": "head.*"}}, r"expected a new name with the same '\*'"),
        ({"by": "shape"}, "expected 'names' or 'order', received by='shape'"),
        ({"inputs": (1, 8, 8, 4)}, r"expected shape \(None, 8, 8, 3\)"),
    ],
)
def test_what_is_asked_wrongly(options, message):
    with pytest.raises(ValueError, match=message):
        jl.load_weights(MODEL, torch_weights(), **options)


def test_another_architecture_in_bounded_words():
    many = {f"layers.{i}.weight": np.zeros((2, 2), np.float32) for i in range(3000)}
    with pytest.raises(ValueError, match="holds no array that fits the model") as error:
        jl.load_weights(MODEL, many)
    assert len(str(error.value)) < 5000


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_out_and_in_again(suffix, tmp_path):
    params, state = jl.load_weights(MODEL, torch_weights())
    jl.save_weights(tmp_path / f"w{suffix}", params, state)
    same(jl.load_weights(MODEL, tmp_path / f"w{suffix}"), (params, state))
    if suffix == ".safetensors":
        found = safetensors.numpy.load_file(tmp_path / "w.safetensors")  # as for users of PyTorch
        np.testing.assert_array_equal(found["params/dense/kernel"], params["dense"]["kernel"])
    if suffix == ".npz":
        with np.load(tmp_path / "w.npz", allow_pickle=False) as found:
            np.testing.assert_array_equal(found["params/dense/kernel"], params["dense"]["kernel"])
        with pytest.raises(TypeError, match="expected a dtype of NumPy"):
            jl.save_weights(tmp_path / "h.npz", {"k": jnp.ones(2, jnp.bfloat16)})
    with pytest.raises(ValueError, match="and the model, whose layers Keras counts"):
        jl.save_weights(tmp_path / "w.weights.h5", params, state)


def rng_arrays(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("names", [("weight_g", "weight_v"), ("parametrizations.weight.original{}",) * 2])
def test_weight_norm_of_pytorch(names):
    """The weight is the direction `v` of each output, at the length `g`."""
    g, v = (name.format(number) for number, name in enumerate(names))
    source = {f"conv.{g}": np.full((4, 1, 1, 1), 2.0, np.float32), **rng_arrays(**{"conv.bias": (4,)})}
    source |= rng_arrays(**{f"conv.{v}": (4, 3, 3, 3)})
    model = jl.Sequential(jl.Input((8, 8, 3)), jl.Conv2D(4, 3, name="conv"))
    params, _, report = jl.load_weights(model, source, strict=False)
    kernel = np.asarray(params["conv"]["kernel"])
    np.testing.assert_allclose(np.sqrt((kernel**2).sum((0, 1, 2))), 2.0, rtol=1e-6)
    direction = source[f"conv.{v}"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(
        kernel / direction, np.broadcast_to((kernel / direction)[0, 0, 0], kernel.shape), rtol=1e-5
    )
    assert set(report.sources["params/conv/kernel"]) == {f"conv.{g}", f"conv.{v}"}
    assert not report.extra


def test_weight_norm_of_a_recurrent_layer():
    arrays = rng_arrays(weight_ih_l0_v=(8, 3), weight_hh_l0=(8, 2), bias_ih_l0=(8,), bias_hh_l0=(8,))
    length = np.sqrt((arrays["weight_ih_l0_v"] ** 2).sum(1, keepdims=True))
    whole = {"weight_ih_l0": arrays["weight_ih_l0_v"], **arrays}
    del whole["weight_ih_l0_v"]
    lstm = jl.Sequential(jl.Input((5, 3)), jl.LSTM(2, name="lstm"))
    loaded, expected = (
        jl.load_weights(lstm, {f"lstm.{name}": array for name, array in source.items()})[0]
        for source in ({**arrays, "weight_ih_l0_g": length}, whole)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), loaded, expected)


@pytest.mark.parametrize("names", [("depthwise", "pointwise"), ("0", "1")])
@pytest.mark.parametrize("by", ["names", "order"])
def test_a_separable_convolution_from_two_of_pytorch(names, by):
    """The bias of the first goes through the second."""
    first, second = names
    shapes = {f"{first}.weight": (6, 1, 3, 3), f"{first}.bias": (6,), f"{second}.weight": (4, 6, 1, 1)}
    shapes |= {f"{second}.bias": (4,)}
    arrays = rng_arrays(**shapes)
    separable = jl.SeparableConv2D(4, 3, depth_multiplier=2, name="sep")
    model = jl.Sequential(jl.Input((5, 5, 3)), separable, jl.ReLU())
    params, _ = jl.load_weights(model, {f"sep.{name}": array for name, array in arrays.items()}, by=by)
    x = np.random.default_rng(1).standard_normal((2, 5, 5, 3)).astype(np.float32)
    pair = [jl.DepthwiseConv2D(3, depth_multiplier=2, name="a"), jl.Conv2D(4, 1, name="b")]
    both = jl.Sequential(jl.Input((5, 5, 3)), *pair, jl.ReLU())
    rename = {f"{first}.*": "a.*", f"{second}.*": "b.*"}
    weights, _ = jl.load_weights(both, arrays, rename=rename)
    expected = both.apply(weights, {}, x)[0]
    np.testing.assert_allclose(model.apply(params, {}, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_numbered_blocks_into_a_repeat():
    block = jl.Sequential(jl.Dense(3, name="dense"), jl.BatchNormalization(name="norm"))
    model = jl.Sequential(jl.Input((3,)), jl.Repeat(block, 2, name="blocks"), jl.Dense(1, name="head"))
    shapes = {"head.weight": (1, 3), "head.bias": (1,)}
    for i in (0, 1):
        shapes |= {f"body.blocks.{i}.dense.weight": (3, 3), f"body.blocks.{i}.dense.bias": (3,)}
        shapes |= {
            f"body.blocks.{i}.norm.{n}": (3,) for n in ("weight", "bias", "running_mean", "running_var")
        }
    source = rng_arrays(**shapes)
    params, state, report = jl.load_weights(model, source, strict=False)
    kernels = np.stack([source[f"body.blocks.{i}.dense.weight"].T for i in (0, 1)])
    np.testing.assert_array_equal(params["blocks"]["layer"]["dense"]["kernel"], kernels)
    means = np.stack([source[f"body.blocks.{i}.norm.running_mean"] for i in (0, 1)])
    np.testing.assert_array_equal(state["blocks"]["layer"]["norm"]["moving_mean"], means)
    assert not report.missing
    assert not report.extra
    assert len(report.sources["params/blocks/layer/dense/kernel"]) == 2
    odd = {**source, "body.blocks.1.dense.weight": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"blocks\.1\.dense\.weight gives"):
        jl.load_weights(model, odd)
    with pytest.raises(ValueError, match="does not fit the model"):
        jl.load_weights(model, {n: a for n, a in source.items() if not n.startswith("body.blocks.1")})


def test_numbered_blocks_into_a_repeat_by_order():
    """Run by run, in the order of the layers and not of their names; and all runs in one, as we save them."""
    block = jl.Sequential(jl.Dense(3, name="z"), jl.BatchNormalization(name="b"), jl.Dense(3, name="a"))
    stem, head = jl.Dense(3, name="stem"), jl.Dense(1, name="head")
    model = jl.Sequential(jl.Input((3,)), stem, jl.Repeat(block, 2, name="blocks"), head)
    shapes = {"first.weight": (3, 3), "first.bias": (3,)}
    for i in (0, 1):
        for part in ("up", "down"):
            shapes |= {f"{i}.{part}.weight": (3, 3), f"{i}.{part}.bias": (3,)}
            names = ("weight", "bias", "running_mean", "running_var") if part == "up" else ()
            shapes |= {f"{i}.norm.{name}": (3,) for name in names}
    source = rng_arrays(**shapes, **{"last.weight": (1, 3), "last.bias": (1,)})
    params, state, report = jl.load_weights(model, source, by="order", strict=False)
    inside = params["blocks"]["layer"]
    for name, part in (("z", "up"), ("a", "down")):
        expected = np.stack([source[f"{i}.{part}.weight"].T for i in (0, 1)])
        np.testing.assert_array_equal(inside[name]["kernel"], expected)
    variances = np.stack([source[f"{i}.norm.running_var"] for i in (0, 1)])
    np.testing.assert_array_equal(state["blocks"]["layer"]["b"]["moving_variance"], variances)
    assert report.sources["params/blocks/layer/a/kernel"] == ("0.down.weight", "1.down.weight")
    assert not report.missing
    assert not report.extra
    ours = {"params": params, "state": state}
    stacked = {f"x{n}.{a}": w for n, slot in enumerate(in_our_order(ours)) for a, w in slot.items()}
    same(jl.load_weights(model, stacked, by="order"), (params, state))
    flat = {f"arr_{n}": w for n, w in enumerate(w for slot in in_our_order(ours) for w in slot.values())}
    same(jl.load_weights(model, flat, by="order"), (params, state))
    short = {name: array for name, array in source.items() if not name.startswith("1.")}
    with pytest.raises(ValueError, match="missing params/head/kernel"):
        jl.load_weights(model, short, by="order")


def in_our_order(tree):
    """The arrays of each layer of the model above."""
    params, inside, state = tree["params"], tree["params"]["blocks"]["layer"], tree["state"]
    norm = {name: inside["b"][name] for name in ("gamma", "beta")} | state["blocks"]["layer"]["b"]
    two = [{name: layer[name] for name in ("kernel", "bias")} for layer in (inside["z"], inside["a"])]
    ends = [{name: params[end][name] for name in ("kernel", "bias")} for end in ("stem", "head")]
    return [ends[0], two[0], norm, two[1], ends[1]]


def test_by_order_a_layer_without_parameters_stands_where_it_runs():
    norm = jl.BatchNormalization(center=False, scale=False, name="norm")
    model = jl.Sequential(jl.Input((3,)), jl.Dense(3, name="a"), norm, jl.Dense(3, name="b"))
    source = rng_arrays(**{"x.weight": (3, 3), "x.bias": (3,), "y.running_mean": (3,), "y.running_var": (3,)})
    source |= rng_arrays(**{"z.weight": (3, 3), "z.bias": (3,)})
    params, state = jl.load_weights(model, source, by="order")
    np.testing.assert_array_equal(params["b"]["kernel"], source["z.weight"].T)
    np.testing.assert_array_equal(state["norm"]["moving_mean"], source["y.running_mean"])


def test_axes_of_length_1_in_front_go_away():
    """PyTorch's class tokens and positions are written with an axis for the batch."""
    positions = np.ones((1, 4, 3), np.float32)
    params, _ = jl.load_weights(jl.PositionEmbedding(4), {"embeddings": positions}, (2, 4, 3))
    assert params["embeddings"].shape == (4, 3)
    with pytest.raises(ValueError, match=r"gives float32\(2, 4, 3\)"):
        jl.load_weights(jl.PositionEmbedding(4), {"embeddings": np.repeat(positions, 2, 0)}, (2, 4, 3))


@pytest.mark.parametrize(
    "layer", [jl.Conv2D(4, 3), jl.DepthwiseConv2D(3), jl.Dense(4), jl.LSTM(4), jl.GRU(4)]
)
@pytest.mark.parametrize("shape", [(), (4,)])
def test_arrays_of_too_few_axes_are_told_by_order(layer, shape):
    names = ["weight", "bias"] if "kernel_size" in layer.spec.arguments or "Dense" in repr(layer) else []
    names = names or ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    shape_of_input = (1, 8, 8, 4) if "Conv" in repr(layer) else (1, 8, 4)
    source = {f"x.{name}": np.ones(shape, np.float32) for name in names}
    with pytest.raises(ValueError, match=r"holds no array that fits|does not fit the model"):
        jl.load_weights(layer, source, shape_of_input, by="order")


def test_a_packed_file_may_hold_what_the_model_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_AT_LEAST", 2**16)
    model = jl.Sequential(jl.Input((256,)), jl.Dense(512, name="dense"))
    zeros = {"dense/kernel": np.zeros((256, 512), np.float32), "dense/bias": np.zeros(512, np.float32)}
    np.savez_compressed(tmp_path / "w.npz", **zeros)
    params, _ = jl.load_weights(model, tmp_path / "w.npz")
    assert params["dense"]["kernel"].shape == (256, 512)
    with pytest.raises(ValueError, match="asks for 524,416 bytes, in a file of"):
        read(tmp_path / "w.npz")
    small = jl.Sequential(jl.Input((2,)), jl.Dense(2, name="dense"))
    with pytest.raises(ValueError, match="asks for 524,416 bytes, in a file of"):
        jl.load_weights(small, tmp_path / "w.npz")
