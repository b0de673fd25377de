"""Batches: sizes, padding and masks, order, structures, iterables, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jlayers.data.batches import ArrayBatches, Batch, StreamBatches, order, rows_of

X = np.arange(22.0, dtype=np.float32).reshape(11, 2)
Y = np.arange(11)


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), size=st.integers(1, 50), shuffle=st.booleans(), epoch=st.integers(0, 5))
def test_every_row_comes_once_and_batches_are_of_one_size(rows, size, shuffle, epoch):
    y = np.arange(rows)
    data = ArrayBatches(y[:, None], y, batch_size=size, shuffle=shuffle, seed=3)
    batches = list(data.epoch(epoch))
    assert len(batches) == len(data)
    assert {len(b.y) for b in batches} == {min(size, rows)}
    real = np.concatenate([b.y[b.mask > 0] for b in batches])
    assert sorted(real) == list(range(rows))
    assert all((b.x[:, 0] == b.y).all() for b in batches)
    if not shuffle:
        assert real.tolist() == list(range(rows))


def test_the_last_batch_is_filled_up_with_its_own_rows():
    *_, last = ArrayBatches(X, Y, batch_size=4).epoch()
    assert last.y.tolist() == [8, 9, 10, 8]
    assert last.mask.tolist() == [1, 1, 1, 0]
    assert last.mask.dtype == np.float32


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
    assert len(list(data.epoch())[-1].x["a"]) == 4


def test_unshuffled_batches_are_views():
    assert ArrayBatches(X, Y, batch_size=4).first().x.base is not None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ArrayBatches(X, Y[:10]), "x with 11 and y with 10"),
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


def test_a_stream_is_filled_up_to_its_first_size():
    data = StreamBatches(stream(4, 4, 3))
    batches = list(data.epoch())
    assert [b.mask.tolist() for b in batches] == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert len(data) == 3
    assert [b.y.tolist() for b in data.epoch(1, start=2)] == [[8, 9, 10, 8]]


def test_a_generator_serves_one_epoch_and_says_so():
    data = StreamBatches(iter(stream(4, 4)))
    assert data.once
    assert data.first().y.tolist() == [0, 1, 2, 3]
    assert [b.y.tolist() for b in data.epoch()] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="no batches in epoch 2: a generator"):
        list(data.epoch(1))


def test_streams_of_lists_weights_and_ready_batches():
    weighted = StreamBatches([([[1.0], [2.0]], [0, 1], [0.5, 2.0])]).first()
    assert weighted.weight.tolist() == [0.5, 2.0]
    ready = StreamBatches([Batch(X[:2], Y[:2], None, np.array([1.0, 0.0], np.float32))])
    assert next(ready.epoch()).mask.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (stream(3, 4), ValueError, "first batch be the largest"),
        ([X], TypeError, "ndarray as batch 0"),
        ([(X[:2], Y[:3])], ValueError, "y with 3"),
        ([], ValueError, "without any batch"),
    ],
)
def test_stream_errors(source, error, text):
    data = StreamBatches(source)
    with pytest.raises(error, match=text):
        [data.first(), *data.epoch()]


def test_pad_keeps_a_full_batch():
    batch = pad(Batch(X[:3], Y[:3]), 3)
    assert batch.mask.tolist() == [1, 1, 1]
    assert (batch.x == X[:3]).all()
