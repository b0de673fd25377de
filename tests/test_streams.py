"""Streams in the forms of other libraries: loaders, named columns, weights, masks, checks as they pass."""

import functools
import itertools

import numpy as np
import pytest

import jlayers as jl
from jlayers.data import columns, named
from jlayers.data.batches import map_arrays
from jlayers.data.stream import StreamBatches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)
W = np.linspace(0.5, 2, 24).astype(np.float32)


@functools.cache
def classifier():
    model = jl.Sequential(jl.Dense(4, "relu"), jl.Dense(2, "softmax"))
    return jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])


def of_arrays(**options):
    return jl.fit(classifier(), X, Y, batch_size=8, epochs=2, shuffle=False, steps_per_call=1, **options)[1]


def of_stream(data, **options):
    return jl.fit(classifier(), data, epochs=2, **options)[1]


def slices(size=8):
    return [slice(i, i + size) for i in range(0, 24, size)]


class Tensor:
    """What an array of PyTorch or TensorFlow shows of itself: no NumPy dtype, but `__array__`."""

    def __init__(self, value):
        self.value = np.asarray(value)
        self.shape, self.dtype = tuple(self.value.shape), f"lib.{self.value.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self.value if dtype is None else self.value.astype(dtype)


class Loader:
    """As PyTorch's: a length, and lists of tensors."""

    def __len__(self):
        return 3

    def __iter__(self):
        return ([Tensor(X[rows]), Tensor(Y[rows])] for rows in slices())


class TensorFlow:
    """As tf.data: tuples of tensors, and a length that may be unknown or infinite."""

    def __init__(self, endless=False):
        self.endless = endless

    def __len__(self):
        raise TypeError(
            "The dataset length is infinite." if self.endless else "The dataset length is unknown."
        )

    def __iter__(self):
        rounds = itertools.repeat(0) if self.endless else range(1)
        return ((Tensor(X[rows]), Tensor(Y[rows])) for _ in rounds for rows in slices())


def test_loaders_of_other_libraries():
    expected = of_arrays(validation_data=(X, Y))
    for data in (Loader(), TensorFlow()):
        history = of_stream(data, validation_data=data)
        assert history["loss"] == expected["loss"]
        np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-6)
    endless = TensorFlow(endless=True)
    history = of_stream(endless, steps_per_epoch=3, validation_data=endless, validation_steps=3)
    assert history["loss"] == expected["loss"]
    state, _ = jl.fit(classifier(), Loader())
    assert jl.evaluate(classifier(), state, Loader()) == jl.evaluate(classifier(), state, X, Y, batch_size=8)
    assert jl.predict(classifier(), state, Loader()).shape == (24, 2)


class Rows:
    """As a Hugging Face `Dataset`: rows by number, as a dict of columns."""

    def __len__(self):
        return 24

    def __getitem__(self, rows):
        return {"pixels": X[rows], "label": Y[rows].tolist(), "weight": W[rows]}


class Streamed:
    """As a Hugging Face `IterableDataset` of batches, in another order in each epoch that it is told."""

    def __init__(self, shuffled=False):
        self.number, self.shuffled = 0, shuffled

    def set_epoch(self, number):
        self.number = number

    def __iter__(self):
        order = np.random.default_rng(self.number).permutation(3) if self.shuffled else range(3)
        return (Rows()[slices()[i]] for i in order)


def test_columns_by_name():
    x, y = columns(Rows(), x="pixels", y="label")
    history = jl.fit(classifier(), x, y, batch_size=8, epochs=2, shuffle=False)[1]
    assert history == of_arrays()
    jl.fit(classifier(), x, y, batch_size=8, validation_split=0.25, class_weight="balanced")
    assert columns(Rows(), ["pixels", "weight"], ["label"])[0]["weight"].shape == (24,)
    assert x.fingerprint() == columns(Rows(), "pixels", "label")[0].fingerprint()
    for kind in (Streamed(), [Rows()[rows] for rows in slices()]):
        data = named(kind, x="pixels", y="label", weight="weight")
        assert of_stream(data) == of_arrays(sample_weight=W)
    with pytest.raises(KeyError, match="no column 'labels': did you mean 'label'"):
        of_stream(named(Streamed(), x="pixels", y="labels"))
    samples = [{"pixels": np.ones(64), "label": 3}, {"pixels": np.ones(64), "label": 4}]
    with pytest.raises(ValueError, match=r"make batches of them \(.batch\(32\)\), or pass \*jl.data.columns"):
        of_stream(samples)
    for refused in (Streamed(), [Rows()[slices()[0]]]):
        with pytest.raises(ValueError, match=r"names 'pixels', 'label', 'weight'; say which.*jl.data.named"):
            of_stream(refused)


@pytest.mark.parametrize("options", [{}, {"steps_per_epoch": 2}])
def test_rounds_have_orders_of_their_own_and_a_run_goes_on_in_them(tmp_path, options):
    data = lambda: named(Streamed(shuffled=True), x="pixels", y="label")  # noqa: E731
    source = StreamBatches(data(), options.get("steps_per_epoch"))
    if not options:
        orders = [[int(batch.x[0, 0] * 1e6) for batch in source.epoch(number)] for number in (0, 1, 2, 0)]
        assert orders[0] == orders[3]
        assert len(set(map(tuple, orders))) > 1

    class Crash(jl.Callback):
        every = 1

        def on_step(self, step, logs, state):
            if step == 3:
                raise OSError("killed")

    expected = of_stream(data(), **options)
    plan = jl.Checkpoint(tmp_path, every_steps=2)
    with pytest.raises(OSError, match="killed"):
        of_stream(data(), checkpoints=plan, callbacks=[Crash()], **options)
    assert of_stream(data(), checkpoints=plan, **options) == expected


class Sequence:
    """As Keras's `PyDataset`: batches by number, and a word at the end of each epoch."""

    def __init__(self):
        self.order = np.arange(24)
        self.rng = np.random.default_rng(7)

    def __len__(self):
        return 3

    def __getitem__(self, i):
        rows = self.order[slices()[i]]
        return X[rows], Y[rows]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


@pytest.mark.parametrize("options", [{}, {"steps_per_epoch": 2}])
def test_batches_by_number_are_shuffled_between_epochs(options, tmp_path):
    source, own = StreamBatches(Sequence()), Sequence()
    for number in range(3):
        taken = np.concatenate([batch.x for batch in source.epoch(number)])
        np.testing.assert_array_equal(taken, X[own.order])
        own.on_epoch_end()
    expected = of_stream(Sequence(), **options)
    plan = jl.Checkpoint(tmp_path)
    jl.fit(classifier(), Sequence(), epochs=1, checkpoints=plan, **options)
    assert of_stream(Sequence(), checkpoints=plan, **options) == expected


def test_class_weights_and_sample_weights():
    batches = [(X[rows], Y[rows], W[rows]) for rows in slices()]
    for factors in ({0: 1.0, 1: 3.0}, [1.0, 3.0]):
        assert of_stream(batches, class_weight=factors) == of_arrays(sample_weight=W, class_weight=factors)
    sorted_ = np.argsort(Y, kind="stable")
    by_class = [(X[sorted_[rows]], Y[sorted_[rows]]) for rows in slices(4)]
    of_stream(by_class, class_weight={1: 2.0})  # the first batch has no such class
    with pytest.raises(ValueError, match="class_weight='balanced'"):
        of_stream(batches, class_weight="balanced")
    with pytest.raises(ValueError, match=r"class_weight\['1'\]"):
        of_stream(batches, class_weight={"1": 2.0})


def test_dicts_and_tuples():
    left, right = jl.Input((2,), name="left"), jl.Input((2,), name="right")
    both = jl.Concatenate()([left, right])
    inputs, outputs = {"left": left, "right": right}, [jl.Dense(2, "softmax")(both), jl.Dense(1)(both)]
    losses = ["sparse_categorical_crossentropy", "mse"]
    x = {"left": X[:, :2], "right": X[:, 2:]}
    y = (Y, X[:, :1])
    for given in (inputs, list(inputs.values())):
        trainer = jl.compile(jl.Model(given, outputs), "adam", losses)
        named_x = x if given is inputs else tuple(x.values())

        def cut(tree, rows):
            return map_arrays(lambda a: a[rows], tree)

        batches = [(cut(named_x, rows), cut(y, rows)) for rows in slices()]
        history = jl.fit(trainer, batches, epochs=2)[1]
        expected = jl.fit(trainer, named_x, y, batch_size=8, epochs=2, shuffle=False, steps_per_call=1)[1]
        assert history == expected


def test_masks():
    ids = np.where(np.arange(5) < RNG.integers(1, 6, (24, 1)), RNG.integers(1, 9, (24, 5)), 0)
    y = (ids % 3).astype(np.int64)
    model = jl.Sequential(
        jl.Embedding(9, 4, mask_zero=True), jl.LSTM(3, return_sequences=True), jl.Dense(3, "softmax")
    )
    trainer = jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])
    history = jl.fit(trainer, [(ids[rows], y[rows]) for rows in slices()], epochs=2)[1]
    expected = jl.fit(trainer, ids, y, batch_size=8, epochs=2, shuffle=False, steps_per_call=1)[1]
    assert history == expected


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, y: (np.where(np.arange(8)[:, None] == 3, np.nan, x), y), r"x\[3, 0\]=nan"),
        (lambda x, y: (x, y + 2), "class numbers from 0 to 1"),
        (lambda x, y: (x[:0], y[:0]), "at least one row"),
        (lambda x, y: (x, y[:5]), "x with 8 rows and y with 5"),
        (lambda x, y: (x.astype(str), y), "expected numbers as x"),
    ],
)
def test_the_checks_of_arrays_hold_for_the_batches_as_they_pass(change, text):
    batches = [(X[rows], Y[rows]) for rows in slices()]
    batches[2] = change(*batches[2])
    with pytest.raises((ValueError, TypeError), match=text) as caught:
        of_stream(batches)
    assert "in batch 2 of the iterable" in caught.value.__notes__
    assert int(caught.value.state.step) == 2
    with pytest.raises((ValueError, TypeError), match=text):
        jl.evaluate(classifier(), caught.value.state, batches)
