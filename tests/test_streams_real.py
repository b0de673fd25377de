"""Data of other libraries, as they are; each test runs where its library is installed."""

import numpy as np
import pytest

import jlayers as jl

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)
FIT = {"epochs": 3}

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def trainer():
    model = jl.Sequential(jl.Dense(8, "relu"), jl.Dense(2, "softmax"))
    return jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])


@pytest.fixture(scope="module")
def expected():
    return jl.fit(trainer(), X, Y, batch_size=16, shuffle=False, **FIT)[1]


class End(jl.Callback):
    every = 1

    def on_step(self, step, logs, state):
        if step == 10:
            raise InterruptedError


def test_tensorflow(expected, tmp_path):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16).prefetch(2)
    assert jl.fit(trainer(), data, **FIT)[1] == expected
    endless = jl.fit(trainer(), data.repeat(), steps_per_epoch=7, validation_data=data, **FIT)[1]
    assert endless["loss"] == expected["loss"]
    assert len(endless["val_loss"]) == 3
    with pytest.raises(InterruptedError):
        jl.fit(trainer(), data, checkpoints=tmp_path, callbacks=[End()], **FIT)
    assert jl.fit(trainer(), data, checkpoints=tmp_path, **FIT)[1] == expected


def test_pytorch(expected):
    pytest.importorskip("torch")
    from torch import tensor
    from torch.utils.data import DataLoader, TensorDataset

    data = DataLoader(TensorDataset(tensor(X), tensor(Y)), batch_size=16)
    assert jl.fit(trainer(), data, **FIT)[1] == expected


def test_hugging_face(expected):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"x": X, "y": Y}).with_format("numpy")
    x, y = jl.data.columns(data, x="x", y="y")
    assert jl.fit(trainer(), x, y, batch_size=16, shuffle=False, **FIT)[1] == expected
    for batches in (data.batch(16), data.to_iterable_dataset().batch(16)):
        assert jl.fit(trainer(), jl.data.named(batches, x="x", y="y"), **FIT)[1] == expected
    with pytest.raises(ValueError, match=r"pass \*jl.data.columns"):
        jl.fit(trainer(), data)
