"""Batches by length: what is in them, their order, and that they bound the number of compilations."""

import numpy as np
import pytest

import jlayers as jl
from jlayers.data import BucketBatches, bucket_lengths

LENGTHS = (3, 5, 8)
RNG = np.random.default_rng(0)
TIMES = RNG.integers(1, 9, 23)
SEQUENCES = [RNG.normal(size=(time, 2)).astype(np.float32) for time in TIMES]
Y = np.arange(23, dtype=np.float32)[:, None]


def batches(**options):
    return BucketBatches(SEQUENCES, Y, **{"lengths": LENGTHS, "batch_size": 4, **options})


def test_lengths_split_the_sequences_evenly():
    lengths = bucket_lengths([np.zeros(n) for n in range(1, 101)], 4)
    assert lengths == (25, 50, 75, 100)
    assert bucket_lengths([np.zeros(7)] * 3, 4) == (7,)
    assert bucket_lengths(SEQUENCES, 1) == (TIMES.max(),)


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_sequence_is_there_once_and_filled_up_to_the_least_length(shuffle):
    data = batches(shuffle=shuffle, fill=-9.0)
    seen = list(data.epoch(1))
    assert len(seen) == len(data)
    real = [(x, y) for b in seen for x, y in zip(b.x, b.y, strict=True)]
    assert sorted(float(y[0]) for _, y in real) == Y[:, 0].tolist()
    for x, y in real:
        sequence = SEQUENCES[int(y[0])]
        assert len(x) == min(length for length in LENGTHS if length >= len(sequence))
        np.testing.assert_array_equal(x[: len(sequence)], sequence)
        assert (x[len(sequence) :] == -9.0).all()
    assert all(b.mask is None for b in seen)


def test_the_order_follows_from_seed_and_epoch():
    def rows(data, epoch, start=0):
        return [b.y[:, 0].tolist() for b in data.epoch(epoch, start)]

    data = batches(shuffle=True)
    assert rows(data, 0) == rows(batches(shuffle=True), 0) != rows(data, 1)
    assert rows(data, 0) != rows(batches(shuffle=True, seed=1), 0)
    assert rows(data, 2, start=3) == rows(data, 2)[3:]
    assert rows(batches(), 0) == rows(batches(), 5)


def test_padding_is_the_share_of_steps_that_are_none():
    data = BucketBatches([np.zeros(2), np.zeros(3)], np.zeros(2), lengths=(4,))
    assert data.padding == 1 - 5 / 8


def test_one_compilation_for_each_length_and_the_loss_of_a_single_length():
    model = jl.Sequential(
        jl.Input((None, 2)), jl.Masking(), jl.LSTM(3, recurrent_initializer="zeros"), jl.Dense(1)
    )
    trainer = jl.compile(model, jl.optimizers.sgd(0.0), "mse", ["mae"])
    data, held_out = batches(lengths=(4, 8), shuffle=True), batches(lengths=(4, 8))
    state, history = jl.fit(trainer, data, epochs=3, validation_data=held_out)
    rows = {(b.x.shape[:2]) for b in batches(lengths=(4, 8)).epoch()}
    assert trainer.train_step.compilations == trainer.eval_step.compilations == len(rows) <= 4
    whole = jl.evaluate(trainer, state, batches(lengths=[8]))
    for key in ("loss", "mae"):  # the weights stay, and so do the numbers, however much is filled up
        np.testing.assert_allclose(history[key], whole[key], rtol=1e-5)
        np.testing.assert_allclose(history[f"val_{key}"], whole[key], rtol=1e-5)


def test_values_are_looked_over_on_the_way():
    model = jl.Sequential(jl.Embedding(5, 2, mask_zero=True), jl.GRU(2), jl.Dense(1))
    words = BucketBatches([np.array([1, 2]), np.array([3, 9, 1])], np.zeros((2, 1), "f"), lengths=(2, 3))
    with pytest.raises(ValueError, match=r"from 0 to 4 .*received x\[0, 1\]=9") as caught:
        jl.fit(jl.compile(model, loss="mse"), words)
    assert "in batch 1 of the iterable" in caught.value.__notes__


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: batches(lengths=(3, 5)),
            r"at most 5 steps, received sequences\[\d+\] with \d; cut it or add",
        ),
        (lambda: batches(lengths=()), r"at least one length, received lengths=\(\)"),
        (lambda: batches(lengths=(0, 8)), "received lengths=0"),
        (lambda: batches(batch_size=0), "received batch_size=0"),
        (lambda: BucketBatches(SEQUENCES, Y[:-1], lengths=LENGTHS), "received 23 sequences and 22 targets"),
        (
            lambda: BucketBatches([np.zeros((2, 3)), np.zeros((2, 4))], np.zeros(2), lengths=[2]),
            r"differ only in time, received sequences\[0\]=float32\(2, 3\), sequences\[1\]=float32\(2, 4\)",
        ),
        (lambda: bucket_lengths(SEQUENCES, 0), "received count=0"),
        (lambda: bucket_lengths([], 2), r"at least one sequence, received sequences=\[\]"),
    ],
)
def test_errors_teach(call, text):
    with pytest.raises(ValueError, match=text):
        call()
