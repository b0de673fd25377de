"""Batches: sizes, padding and masks, order, structures, iterables, errors."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jlayers.data.batches import ArrayBatches, Batch, Batches, order, rows_of
from jlayers.data.stream import StreamBatches

X = np.arange(22.0, dtype=np.float32).reshape(11, 2)
Y = np.arange(11)


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), size=st.integers(1, 50), shuffle=st.booleans(), epoch=st.integers(0, 5))
def test_every_row_comes_once_and_the_last_batch_has_the_rest(rows, size, shuffle, epoch):
    y = np.arange(rows)
    data = ArrayBatches(y[:, None], y, batch_size=size, shuffle=shuffle, seed=3)
    batches = list(data.epoch(epoch))
    assert len(batches) == len(data)
    assert [len(b.y) for b in batches[:-1]] == [min(size, rows)] * (len(batches) - 1)
    real = np.concatenate([b.y for b in batches])
    assert sorted(real) == list(range(rows))
    assert all((b.x[:, 0] == b.y).all() for b in batches)
    if not shuffle:
        assert real.tolist() == list(range(rows))


def test_blocks_hold_the_same_batches():
    data = ArrayBatches(X, Y, batch_size=3, shuffle=True)
    for start in range(5):
        batches = list(data.epoch(1, start))
        for size in (1, 2, 5):
            for blocks in (data.blocks(size, 1, start), Batches.blocks(data, size, 1, start)):
                taken = [y[:count] for (_, y, *_), count in blocks]
                assert [y.tolist() for block in taken for y in block] == [b.y.tolist() for b in batches]
    assert [block.batches.y.shape for block in data.blocks(2)] == [(2, 3), (2, 3), (1, 2)]


def test_the_order_follows_from_seed_and_epoch_alone():
    data = ArrayBatches(X, Y, batch_size=4, shuffle=True, seed=7)
    seen = [np.concatenate([b.y for b in data.epoch(e)])[:11] for e in (0, 1, 0)]
    assert (seen[0] == seen[2]).all()
    assert (seen[0] != seen[1]).any()
    assert (seen[0] == Y[order(11, 7, 0)]).all()
    assert (order(11, 7, 0) != order(11, 8, 0)).any()


def test_an_epoch_can_be_taken_up_in_the_middle():
    data = ArrayBatches(X, Y, batch_size=4, shuffle=True)
    rest = list(data.epoch(2, start=1))
    for one, other in zip(list(data.epoch(2))[1:], rest, strict=True):
        assert (one.y == other.y).all()


def test_structures():
    data = ArrayBatches({"a": X, "b": Y}, (Y, X), {"0": X[:, 0]}, batch_size=4)
    batch = data.first()
    assert set(batch.x) == {"a", "b"}
    assert [part.shape for part in batch.y] == [(4,), (4, 2)]
    assert batch.weight["0"].shape == (4,)
    assert len(list(data.epoch())[-1].x["a"]) == 3


def test_unshuffled_batches_are_views():
    assert ArrayBatches(X, Y, batch_size=4).first().x.base is not None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ArrayBatches(X, Y[:10]), "x with 11 rows and y with 10"),
        (lambda: ArrayBatches({"a": X, "b": Y[:3]}), r"x\['b'\] with 3"),
        (lambda: ArrayBatches(X[:0], Y[:0]), "0 rows"),
        (lambda: ArrayBatches(X, Y, batch_size=0), "batch_size=0"),
        (lambda: ArrayBatches(X, Y, batch_size=2.5), "batch_size=2.5"),
        (lambda: ArrayBatches(X, Y, batch_size=True), "batch_size=True"),
        (lambda: ArrayBatches(X, np.float32(3)), "samples first"),
        (lambda: rows_of(x=None), "at least one array"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def stream(*sizes):
    ends = np.cumsum(sizes)
    return [(X[e - s : e], Y[e - s : e]) for s, e in zip(sizes, ends, strict=True)]


def test_batches_of_a_stream_keep_their_sizes():
    data = StreamBatches(stream(4, 4, 3))
    assert [len(b.y) for b in data.epoch()] == [4, 4, 3]
    assert all(b.mask is None for b in data.epoch())
    assert data.steps == 3
    assert [b.y.tolist() for b in data.epoch(1, start=2)] == [[8, 9, 10]]
    assert [count for _, count in StreamBatches(stream(3, 3, 3, 2)).blocks(2)] == [2, 1, 1]


class Endless:
    """0, 1, 2, ... as batches of one row, from 0 again for each iterator."""

    def __iter__(self):
        return (np.array([[i]]) for i in itertools.count())


def test_an_epoch_is_a_number_of_steps_of_an_endless_stream():
    def taken(data, *place):
        return [int(b.x[0, 0]) for b in data.epoch(*place)]

    data = StreamBatches(Endless(), steps=3)
    assert data.steps == 3
    assert taken(data) == [0, 1, 2]
    assert taken(data, 1) == [3, 4, 5]
    assert taken(data, 1, 2) == [5]
    assert taken(data, 0, 1) == [1, 2]
    assert taken(StreamBatches(Endless(), steps=3), 2, 1) == [7, 8]
    generator = StreamBatches(iter(Endless()), steps=2)
    assert int(generator.first().x[0, 0]) == 0
    assert [taken(generator, 0), taken(generator, 1)] == [[0, 1], [2, 3]]
    rounds = StreamBatches([np.array([[0]]), np.array([[1]])], steps=3)
    assert [taken(rounds, 0), taken(rounds, 1)] == [[0, 1, 0], [1, 0, 1]]
    short = StreamBatches(iter([np.array([[0]])]), steps=3)
    with pytest.raises(ValueError, match=r"expected 3 batches in epoch 1, received .* ended after 1"):
        taken(short)


def test_batches_by_number():
    class Sequence:
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X[i : i + 1], Y[i : i + 1]  # does not stop by itself

    data = StreamBatches(Sequence())
    assert data.steps == 2
    assert [b.y.tolist() for b in data.epoch()] == [[0], [1]]


def test_a_generator_serves_one_epoch_and_says_so():
    data = StreamBatches(iter(stream(4, 4)))
    assert data.once
    assert data.first().y.tolist() == [0, 1, 2, 3]
    assert [b.y.tolist() for b in data.epoch()] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="batches in epoch 2, received none: a generator"):
        list(data.epoch(1))


def test_streams_of_lists_weights_and_ready_batches():
    weighted = StreamBatches([([[1.0], [2.0]], [0, 1], [0.5, 2.0])]).first()
    assert weighted.weight.tolist() == [0.5, 2.0]
    ready = StreamBatches([Batch(X[:2], Y[:2], None, np.array([1.0, 0.0], np.float32))])
    assert next(ready.epoch()).mask.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ([(X[:0], Y[:0])], ValueError, "at least one row"),
        ([3], TypeError, "int as batch 0"),
        ([(X[:2], Y[:3])], ValueError, "y with 3"),
        ([], ValueError, "received an empty one"),
    ],
)
def test_stream_errors(source, error, text):
    data = StreamBatches(source)
    with pytest.raises(error, match=text):
        [data.first(), *data.epoch()]
