"""Summary: what a trace says, added up by hand; nothing computed; the table as a user sees it."""

import jax
import jax.numpy as jnp
import pytest

import jlayers as jl
from jlayers.core.wiring import routed
from jlayers.inspect.flops import flops
from jlayers.inspect.observed import given_inputs
from jlayers.inspect.summary import summary


def classifier():
    return jl.Sequential(
        jl.Input((28, 28, 1)),
        jl.Conv2D(32, (3, 3), activation="relu"),
        jl.BatchNormalization(),
        jl.MaxPooling2D((2, 2)),
        jl.Flatten(),
        jl.Dense(10, activation="softmax"),
    )


def nested():
    encoder = jl.Sequential(jl.Dense(32, activation="relu", name="wide"), jl.Dense(16), name="encoder")
    return jl.Sequential(encoder, jl.Dense(2))


def dense_flops(batch, inputs, units):
    return 2 * batch * inputs * units + batch * units


@jl.layer
def SummarySquare():
    return (lambda key, x: {}), (lambda params, x: x * x)


@jl.layer
def SummaryTwice(layer: jl.Layer):
    def route(call, x):
        return call("layer", call("layer", x)) + x

    return routed({"layer": layer}, route)


@jl.layer
def SummaryParts(units: int = 3):
    """Parameters in a tree of its own."""

    def init(key, x):
        return {name: {"kernel": jnp.ones((x.shape[-1], units))} for name in "qk"}

    def apply(params, x):
        return x @ params["q"]["kernel"] + x @ params["k"]["kernel"]

    return init, apply


def test_numbers_of_an_image_classifier():
    report = summary(classifier(), (8, 28, 28, 1))
    assert [row.path for row in report.rows] == [
        "", "input_layer", "conv2d", "batch_normalization", "max_pooling2d", "flatten", "dense"
    ]  # fmt: skip
    assert report["conv2d"].params == 3 * 3 * 1 * 32 + 32
    assert report["conv2d"].output.shape == (8, 26, 26, 32)
    outputs = 8 * 26 * 26 * 32
    assert report["conv2d"].flops == 2 * outputs * 9 + outputs + outputs  # product, bias, relu
    assert report["batch_normalization"].trainable == 2 * 32
    assert report["batch_normalization"].state == 2 * 32
    assert report["batch_normalization"].bytes == 4 * 4 * 32
    assert report["max_pooling2d"].flops == 3 * 8 * 13 * 13 * 32
    assert report["flatten"].flops == 0
    assert report["dense"].params == 13 * 13 * 32 * 10 + 10
    assert report.params == 320 + 64 + 54090
    assert report.output_bytes == 4 * 8 * (784 + 2 * 26 * 26 * 32 + 2 * 13 * 13 * 32 + 10)


def test_numbers_are_those_of_init():
    model = classifier()
    params, state = model.init(jax.random.key(0), (2, 28, 28, 1))
    report = summary(model, (2, 28, 28, 1))
    leaves = jax.tree.leaves(params)
    assert report.params == sum(leaf.size for leaf in leaves)
    assert report.state == sum(leaf.size for leaf in jax.tree.leaves(state))
    assert report.bytes == sum(leaf.nbytes for leaf in jax.tree.leaves((params, state)))


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 7])
def test_rows_add_up_to_the_whole_at_any_depth(depth):
    model = nested()
    report = summary(model, (4, 100), depth=depth)
    params, state = jax.eval_shape(lambda key: model.init(key, (4, 100)), jax.random.key(0))
    assert report.flops == flops(model.apply, params, state, (4, 100))
    assert report.params == 100 * 32 + 32 + 32 * 16 + 16 + 16 * 2 + 2
    assert len(report.rows) == {0: 1, 1: 3}.get(depth, 5)
    assert [row.folded for row in report.rows if row.path in ("", "encoder")] == {
        0: [True], 1: [False, True]
    }.get(depth, [False, False])  # fmt: skip


def test_lstm_counts_every_step():
    batch, steps, features, units = 2, 50, 12, 16
    report = summary(jl.LSTM(units), (batch, steps, features))
    product = 2 * batch * (features + units) * 4 * units
    bias, gates, cell, output = 4 * units * batch, 4 * units * batch, 4 * units * batch, units * batch
    assert report.params == 4 * units * (features + units + 1)
    assert report.flops == steps * (product + bias + gates + cell + output)
    assert not report.caveats


def test_several_outputs_of_a_layer_are_all_shown():
    report = summary(jl.LSTM(4, return_sequences=True, return_state=True), (2, 5, 3))
    assert [spec.shape for spec in report[""].output] == [(2, 5, 4), (2, 4), (2, 4)]
    assert str(report).count("(2, 4)") == 2


def test_nothing_is_allocated():
    report = summary(jl.Dense(1_000_000), (1, 1_000_000))
    assert report.params == 10**12 + 10**6
    assert "3.64 TiB" in str(report)


def test_shared_layers_count_once_and_say_so():
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    encode = jl.Dense(8, name="encode")
    report = summary(jl.Model([a, b], jl.Concatenate()([encode(a), encode(b)])), (3, 4), (3, 4))
    assert report.params == 4 * 8 + 8
    assert report["encode"].calls == 2
    assert report["encode"].flops == 2 * dense_flops(3, 4, 8)
    assert report.output_bytes == 4 * 3 * (8 + 8 + 16)
    assert "encode (shared, 2 calls)" in str(report)


def test_frozen_layers_are_counted_apart_and_marked():
    report = summary(jl.freeze(nested(), "encoder/wide"), (4, 100))
    assert (report.trainable, report.frozen) == (32 * 16 + 16 + 34, 3232)
    assert report["encoder/wide"].is_frozen
    assert not report["encoder"].is_frozen
    assert "wide (frozen)" in str(report)
    folded = summary(jl.freeze(nested(), "encoder/wide"), (4, 100), depth=0)
    assert (folded.trainable, folded.frozen) == (report.trainable, report.frozen)
    whole = summary(jl.freeze(nested()), (4, 100))
    assert (whole.trainable, whole.frozen) == (0, report.params)
    assert all(row.is_frozen for row in whole.rows)


def test_custom_layers_appear_alike():
    report = summary(jl.Sequential(SummarySquare(), SummaryTwice(jl.Dense(5)), SummaryParts()), (2, 5))
    assert report["summary_square"].flops == 10
    assert report["summary_twice/layer"].calls == 2
    assert report["summary_twice"].flops == 2 * 5  # its own addition
    assert report["summary_parts"].params == 2 * 5 * 3
    assert report.flops == 10 + 2 * dense_flops(2, 5, 5) + 10 + 2 * (2 * 2 * 5 * 3) + 2 * 3


def test_repeated_layers_count_as_often_as_they_run():
    block = jl.Residual(jl.Sequential(jl.LayerNormalization(), jl.Dense(16, activation="relu")))
    model = jl.Sequential(jl.Dense(16), jl.Repeat(block, 6))
    report = summary(model, (2, 16))
    params, state = jax.eval_shape(lambda key: model.init(key, (2, 16)), jax.random.key(0))
    assert report.flops == flops(model.apply, params, state, (2, 16))
    dense = report["repeat/layer/layer/dense"]
    assert (dense.times, dense.params) == (6, 6 * (16 * 16 + 16))
    assert dense.flops == 6 * (dense_flops(2, 16, 16) + 2 * 16)
    assert dense.output_bytes == 6 * 4 * 2 * 16
    assert "dense (6 times)" in str(report)


def test_wrapped_layers_add_up():
    model = jl.Sequential(jl.Remat(jl.Dense(8)), jl.Residual(jl.Dense(8)))
    report = summary(model, (2, 4))
    params, state = jax.eval_shape(lambda key: model.init(key, (2, 4)), jax.random.key(0))
    assert report.flops == flops(model.apply, params, state, (2, 4))
    assert report["remat/layer"].flops == dense_flops(2, 4, 8)


def test_inputs_are_read_off_the_model():
    x, n = jl.Input((4,), name="x"), jl.Input((2,), dtype="int32", name="n")
    model = jl.Model({"x": x, "n": n}, jl.Concatenate()([x, jl.Lambda(lambda n: n.astype(jnp.float32))(n)]))
    report = summary(model)
    (given,) = report.inputs
    assert given["n"].dtype == jnp.int32
    assert report.rows[0].output.shape == (1, 6)
    inner = jl.Sequential(jl.Input((7,)), jl.Dense(2))
    assert summary(jl.Sequential(inner, jl.Dense(3))).inputs[0].shape == (1, 7)
    assert summary(jl.LoRA(inner, 2)).inputs[0].shape == (1, 7)


def test_bare_shapes_take_the_declared_dtype():
    model = jl.Sequential(jl.Input((6,), dtype="int32"), jl.Embedding(10, 3))
    assert summary(model, (5, 6)).rows[0].output.shape == (5, 6, 3)


def test_arrays_and_structs_are_inputs():
    assert given_inputs(nested(), (jnp.ones((2, 3)),)) == (jax.ShapeDtypeStruct((2, 3), jnp.float32),)
    report = summary(SummarySquare(), jax.ShapeDtypeStruct((4, 8), jnp.bfloat16))
    assert report.output_bytes == 2 * 4 * 8
    assert "(4, 8) bfloat16" in str(report)


def test_missing_inputs_teach():
    with pytest.raises(TypeError, match=r"does not say what it takes: expected its inputs.*received none"):
        summary(nested())


def test_open_sizes_are_assumed_and_said():
    model = jl.Sequential(jl.Input((None, 3)), jl.Dense(2))
    assert "Sizes that the model leaves open are 64 here" in str(summary(model))
    assert summary(model)["dense"].output.shape == (1, 64, 2)
    assert "leaves open" not in str(summary(model, (1, 5, 3)))


def test_unfit_inputs_name_the_layer():
    with pytest.raises(ValueError, match="expected shape") as caught:
        summary(classifier(), (8, 28, 28, 3))
    assert any("input_layer" in note for note in caught.value.__notes__)


def test_unknown_paths_list_the_known():
    with pytest.raises(KeyError, match="no layer 'dens'"):
        summary(nested(), (1, 4))["dens"]


def test_unknown_costs_are_named_once_with_their_layer():
    @jl.layer
    def SummaryHalve():
        def apply(params, x):
            return jax.lax.while_loop(lambda x: jnp.sum(x) > 1, lambda x: x / 2, x)

        return (lambda key, x: {}), apply

    report = summary(jl.Sequential(jl.Sequential(SummaryHalve()), jl.Dense(2)), (1, 4))
    assert report.caveats == (
        "sequential/summary_halve: while: the number of rounds is not known, counted as one",
    )
    assert "lower bound: sequential/summary_halve" in str(report)


def test_the_table():
    assert str(summary(jl.freeze(nested(), "encoder/wide"), (32, 100))) == TABLE
    folded = repr(summary(nested(), (32, 100), depth=0)).splitlines()
    assert folded[4].startswith("│ sequential │ Sequential (folded)")


def test_table_lines_are_equally_wide():
    for model in (classifier(), jl.Sequential(jl.Input((9, 3)), jl.LSTM(4, return_state=True))):
        table = [line for line in str(summary(model)).splitlines() if line[0] in "╭│├╰"]
        assert len({len(line) for line in table}) == 1


TABLE = """\
Sequential, input (32, 100)
╭─────────────────┬──────────────────────────────┬──────────┬────────────┬────────┬──────────╮
│ Layer           │ Made by                      │ Output   │ Parameters │  FLOPs │   Memory │
├─────────────────┼──────────────────────────────┼──────────┼────────────┼────────┼──────────┤
│ encoder         │ Sequential                   │ (32, 16) │            │        │          │
│   wide (frozen) │ Dense(32, activation='relu') │ (32, 32) │      3,232 │  207 k │ 12.6 KiB │
│   dense         │ Dense(16)                    │ (32, 16) │        528 │ 33.3 k │ 2.06 KiB │
│ dense           │ Dense(2)                     │ (32, 2)  │         34 │ 2.11 k │    136 B │
╰─────────────────┴──────────────────────────────┴──────────┴────────────┴────────┴──────────╯
Parameters    3,794  14.8 KiB
  trainable     562
  frozen      3,232
FLOPs       242,240  242 kFLOPs in one forward pass
Outputs     6.25 KiB, those of all layers together"""
