"""Numbers outside of an embedding's table are told on the host, wherever they come from."""

import numpy as np
import pytest

import jlayers as jl

X = np.array([[1, 2], [3, 9], [4, 0]])
PAIR = jl.Input((2,), dtype="int32")


def model(ids, rows):
    vectors = jl.Embedding(rows, 3)(ids)
    flat = jl.Flatten()(vectors) if len(vectors.shape) > 2 else vectors
    return jl.Model(PAIR, jl.Dense(1)(flat))


# E, words: an id out of range behind `x[:, 0]`. Any layers without weights may stand before the table.
CASES = {
    "column": (PAIR[:, 1], 5, r"get_item\(x\)\[1\]=9"),
    "as it is": (PAIR, 5, r"x\[1, 1\]=9"),
    "shifted": (PAIR + 4, 12, r"arithmetic\(x\)\[1, 1\]=13"),
    "chain": (jl.Reshape((1, 2))(PAIR)[:, 0, 1] * 2, 12, r"arithmetic\(get_item\(reshape\(x\)\)\)\[1\]=18"),
    "joined": (jl.Concatenate()([PAIR, PAIR]), 5, r"concatenate\(x, x\)\[1, 1\]=9"),
}


@pytest.mark.parametrize("case", CASES)
def test_ids_out_of_range_are_told_before_the_first_step(case, key):
    ids, rows, text = CASES[case]
    text = rf"Embedding: expected whole numbers from 0 to {rows - 1} .*received {text}"
    made = model(ids, rows)
    trainer, weights = jl.compile(made, "sgd", "mse"), made.init(key, X)
    with pytest.raises(ValueError, match=text):
        jl.predict(made, weights, X)
    with pytest.raises(ValueError, match=text):
        jl.fit(trainer, X, np.ones(3))
    with pytest.raises(ValueError, match=text):
        jl.fit(trainer, [(X, np.ones(3))])


def test_ids_that_the_table_has_are_taken(key):
    made = model(PAIR[:, 0], 5)
    assert np.isfinite(jl.predict(made, made.init(key, X), X)).all()
    many = np.zeros((3000, 2), int)
    many[2999, 0] = 7
    with pytest.raises(ValueError, match=r"get_item\(x\)\[2999\]=7"):
        jl.predict(made, made.init(key, X), many)
