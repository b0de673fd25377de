"""Lookups, hashing and text vectorization.

Keras's own need TensorFlow. What is expected here is what Keras documents or its tests record, or was worked
out by hand from its definitions.
"""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import jlayers as jl
from jlayers import preprocessing
from jlayers.cli import main
from jlayers.config import ConfigError, loads
from jlayers.core.spec import to_data
from jlayers.data import hold_out
from jlayers.preprocessing.fingerprint import farmhash, siphash
from jlayers.runs import Run, predict_run

# --------------------------------------------------------------------------------------------- hashes

FARMHASH = {  # of the reference implementation, one for each way through it
    "": 0x9AE16A3B2F90404F,
    "ab": 0xAA8D6E5242ADA51E,
    "abcdefg": 0x3C40C92B1CCB7355,
    "0123456789": 0xAD052244B781C4EB,
    "0123456789@0123": 0x5361EAE17C1FF6BC,
    "0123456789*01234567": 0xCF1C7D3AD54F9215,
    "C is as portable as Stonehedge!!": 0xB944F8A16261E414,
    "Discard medicine more than two years old.": 0xE8F89AB6DF9BDD25,
    "He who has a shady past knows that nice guys finish last.": 0x786D7E1987023CA9,
    "For every action there is an equal and opposite government program.": 0x55182F8859ECA4CE,
    "Even if I could be Shakespeare, I think I should still choose to be Faraday. - A. Huxley": (
        0x5A05644EB66E435E
    ),
    "The fugacity of a constituent in a mixture of gases at a given temperature is proportional to its mole "
    "fraction.  Lewis-Randall Rule": 0x098EFF6958C5E91A,
}


def test_fingerprints_are_those_of_the_reference():
    assert {text: farmhash(text.encode()) for text in FARMHASH} == FARMHASH
    # The example of SipHash's paper, appendix A.
    assert siphash(bytes(range(15)), (0x0706050403020100, 0x0F0E0D0C0B0A0908)) == 0xA129CA6149BE45E5


NAMES = [["omar"], ["stringer"], ["marlo"], ["wire"], ["skywalker"]]


@pytest.mark.parametrize(
    ("hashing", "inputs", "bins"),
    [
        (jl.Hashing(3), [["A"], ["B"], ["C"], ["D"], ["E"]], [1, 0, 1, 1, 2]),
        (jl.Hashing(3, mask_value=""), [["A"], ["B"], [""], ["C"], ["D"]], [1, 1, 0, 2, 2]),
        (jl.Hashing(3, salt=[133, 137]), [["A"], ["B"], ["C"], ["D"], ["E"]], [1, 2, 1, 0, 2]),
        (jl.Hashing(3, salt=133), [["A"], ["B"], ["C"], ["D"], ["E"]], [0, 0, 2, 1, 0]),
        (jl.Hashing(1), NAMES, [0, 0, 0, 0, 0]),
        (jl.Hashing(2), NAMES, [0, 0, 1, 0, 0]),
        (jl.Hashing(3, mask_value="omar"), NAMES, [0, 1, 2, 1, 1]),
        (jl.Hashing(2, salt=[211, 137]), NAMES, [1, 0, 1, 0, 1]),
        (jl.Hashing(3), np.arange(5)[:, None], [1, 0, 1, 0, 2]),
        (jl.Hashing(3, salt=[133, 137]), np.arange(5)[:, None], [1, 1, 2, 0, 1]),
    ],
)
def test_hashing_has_the_bins_that_keras_records(hashing, inputs, bins):
    found = hashing(inputs)
    assert found.dtype == np.int32
    assert found[:, 0].tolist() == bins


def test_hashing_into_vectors():
    ids = np.array([[0, 1, 2, 3, 4]])
    assert jl.Hashing(3, output_mode="count")(ids).tolist() == [[2.0, 2.0, 1.0]]
    assert jl.Hashing(3, output_mode="multi_hot")(ids).tolist() == [[1.0, 1.0, 1.0]]
    assert jl.Hashing(3, output_mode="one_hot")(ids.T).argmax(-1).tolist() == [1, 0, 1, 0, 2]


@pytest.mark.slow
def test_hashes_are_the_same_in_another_process():
    code = "import jlayers as jl; print(jl.Hashing(10**6)(['naïve', '水']).tolist())"
    command = [sys.executable, "-c", code]
    here = jl.Hashing(10**6)(["naïve", "水"]).tolist()
    assert here == [farmhash(t.encode()) % 10**6 for t in ("naïve", "水")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert ran.stdout.strip() == str(here)


def test_hashed_crossing_has_the_bins_that_keras_records():
    pairs = (np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102]))
    assert jl.HashedCrossing(5)(pairs).tolist() == [1, 4, 1, 1, 3]
    assert jl.HashedCrossing(5, "one_hot")(pairs).argmax(-1).tolist() == [1, 4, 1, 1, 3]
    assert jl.HashedCrossing(10)((["A"], [101])).tolist() == [1]


# -------------------------------------------------------------------------------------------- lookups


def test_the_vocabulary_is_in_keras_order():
    lookup = jl.adapt(jl.StringLookup(), ["a", "b", "é", "b", "a", "c", "z", "b"])
    # By frequency, then what sorts last first; the unknown token is never learned.
    assert lookup.get_vocabulary() == ["[UNK]", "b", "a", "é", "z", "c"]
    assert lookup.get_vocabulary(include_special_tokens=False) == ["b", "a", "é", "z", "c"]
    assert lookup.vocabulary_size() == 6
    ids = lookup([["b", "c"], ["q", "[UNK]"]])
    assert ids.dtype == np.int32
    assert ids.tolist() == [[1, 5], [0, 0]]
    assert jl.adapt(jl.StringLookup(max_tokens=3), ["a", "b", "b"]).get_vocabulary() == ["[UNK]", "b", "a"]
    streamed = jl.adapt(jl.StringLookup(), (part for part in (["a", "b"], ["b", "[UNK]"])))
    assert streamed.get_vocabulary() == ["[UNK]", "b", "a"]


def test_mask_and_unknown_tokens_take_the_first_numbers():
    lookup = jl.StringLookup(mask_token="", num_oov_indices=2, vocabulary=["a", "b"])
    assert lookup.get_vocabulary() == ["", "[UNK]", "[UNK]", "a", "b"]
    bucket = farmhash(b"zebra") % 2
    assert lookup(["", "a", "b", "zebra"]).tolist() == [0, 3, 4, 1 + bucket]
    salted = jl.StringLookup(num_oov_indices=50, vocabulary=["a"], salt=9)
    assert salted(["zebra"]).tolist() == [siphash(b"zebra", (9, 9)) % 50]
    given = jl.StringLookup(mask_token="", vocabulary=["", "[UNK]", "a"])
    assert given(["a"]).tolist() == [2]
    vectors = jl.StringLookup(mask_token="", vocabulary=["a", "b"], output_mode="count")
    assert vectors([["a", "", "q", "a"]]).tolist() == [[1.0, 2.0, 0.0]]  # the mask is left out


def test_lookups_invert():
    lookup = jl.StringLookup(mask_token="", vocabulary=["a", "b"], invert=True)
    assert lookup([[0, 1], [3, 99]]).tolist() == [["", "[UNK]"], ["b", "[UNK]"]]
    numbers = jl.IntegerLookup(vocabulary=[10, 20], invert=True)([1, 2, 0])
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [10, 20, -1]


def test_integer_lookup():
    learned = jl.adapt(jl.IntegerLookup(), np.array([[7, 3, -1], [3, 40, 40]]))
    assert learned.get_vocabulary() == [-1, 40, 3, 7]
    codes = jl.IntegerLookup(num_oov_indices=3, vocabulary=[12])
    assert codes([[12, 1000, 1001]]).tolist() == [[3, 1, 2]]  # the remainder
    hashed = jl.IntegerLookup(num_oov_indices=3, vocabulary=[12], oov_method="farmhash")
    assert hashed([1000]).tolist() == [farmhash(b"1000") % 3]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("one_hot", None), ("multi_hot", [[1, 1, 0, 0], [0, 0, 1, 0]]), ("count", [[1, 2, 0, 0], [0, 0, 3, 0]])],
)
def test_lookup_into_vectors(mode, expected):
    lookup = jl.StringLookup(max_tokens=4, vocabulary=["a", "b"], output_mode=mode, pad_to_max_tokens=True)
    found = lookup([["a", "q", "a"], ["b", "b", "b"]])
    assert found.dtype == np.float32
    if mode == "one_hot":
        assert found.argmax(-1).tolist() == [[1, 0, 1], [2, 2, 2]]
        assert lookup([["a"], ["b"]]).shape == (2, 4)
    else:
        assert found.tolist() == expected


def test_tf_idf_as_keras_defines_it():
    lookup = jl.adapt(jl.StringLookup(output_mode="tf_idf"), [["a", "a", "b"], ["b", "c", "b"]])
    assert lookup.get_vocabulary() == ["[UNK]", "b", "a", "c"]
    b, a = math.log(1 + 2 / (1 + 2)), math.log(1 + 2 / (1 + 1))
    assert lookup.spec.arguments["idf_weights"] == pytest.approx([b, a, a])
    unknown = (b + a + a) / 3
    assert lookup([["a", "a", "q"], ["b", "c", "c"]]).tolist() == [
        pytest.approx([unknown, 0, 2 * a, 0]), pytest.approx([0, b, 0, 2 * a]),
    ]  # fmt: skip
    padded = jl.StringLookup(
        5, vocabulary=["x"], idf_weights=[0.5], output_mode="tf_idf", pad_to_max_tokens=True
    )
    assert padded([["x", "x"]]).tolist() == [[0, 1.0, 0, 0, 0]]


# ------------------------------------------------------------------------------------------------ text


def test_text_vectorization_as_keras_documents():
    vectorize = jl.adapt(
        jl.TextVectorization(max_tokens=5000, output_sequence_length=4),
        ["foo bar", "bar baz", "baz bada boom"],
    )
    assert vectorize.get_vocabulary() == ["", "[UNK]", "baz", "bar", "foo", "boom", "bada"]
    assert vectorize([["foo qux bar"], ["qux baz"]]).tolist() == [[4, 1, 3, 0], [1, 2, 0, 0]]
    given = jl.TextVectorization(vocabulary=["earth", "wind", "and", "fire"])
    assert given.get_vocabulary() == ["", "[UNK]", "earth", "wind", "and", "fire"]
    assert given(["earth", "wind and more fire"]).tolist() == [[2, 0, 0, 0], [3, 4, 1, 5]]  # to the longest


@pytest.mark.parametrize(
    ("options", "text", "tokens"),
    [
        ({}, "The CAT, isn't -- here!", ["the", "cat", "isnt", "here"]),
        ({"standardize": "lower"}, " A-b\tC\n", ["a-b", "c"]),
        ({"standardize": "strip_punctuation"}, "[A] {b}~`", ["A", "b"]),
        ({"standardize": None}, "A, b", ["A,", "b"]),
        ({"split": "character", "standardize": None}, "añ b", ["a", "ñ", " ", "b"]),
        ({"split": None}, "New York!", ["new york"]),
        ({"ngrams": 2}, "a b c", ["a", "b", "c", "a b", "b c"]),
        ({"ngrams": (3, 1)}, "a b c d", ["a b c", "b c d", "a", "b", "c", "d"]),
        ({"ngrams": (3,)}, "a b", []),
        ({"standardize": str.upper, "split": lambda text: text.split("-")}, "x-y", ["X", "Y"]),
        ({}, "ÜBER\u00a0Äpfel", ["über", "äpfel"]),  # Keras changes the case of ASCII alone
        ({}, "", []),
    ],
)
def test_text_to_tokens(options, text, tokens):
    assert jl.TextVectorization(**options).tokens([text]) == [tokens]


def test_text_into_vectors():
    texts = ["a b b", "b c", ""]
    expected = {"multi_hot": [0, 1, 1, 0], "count": [0, 1, 2, 0]}
    for mode, row in expected.items():
        vectorize = jl.TextVectorization(
            vocabulary=["a", "b"], output_mode=mode, max_tokens=4, pad_to_max_tokens=True
        )
        assert vectorize(texts)[0].tolist() == row
        assert vectorize(texts)[1:].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]
    weighed = jl.adapt(jl.TextVectorization(output_mode="tf_idf"), texts)
    assert weighed.get_vocabulary() == ["[UNK]", "b", "c", "a"]
    assert weighed(["b b"]).tolist() == [[0, pytest.approx(2 * math.log(1 + 3 / 3)), 0, 0]]


def test_bytes_and_tokens_already_split():
    assert jl.StringLookup(vocabulary=["é"])(np.array(["é".encode(), b"x"])).tolist() == [1, 0]
    assert jl.StringLookup(vocabulary=["é"], encoding="latin-1")([b"\xe9"]).tolist() == [1]
    whole = jl.TextVectorization(split=None, vocabulary=["a", "b"])
    assert whole([["A", "b"], ["b", "q"]]).tolist() == [[2, 3], [3, 1]]


# ---------------------------------------------------------------------------------- kept, and written down

THINGS = [
    jl.adapt(jl.StringLookup(num_oov_indices=2, salt=[1, 2]), ["b", "a", "b"]),
    jl.adapt(jl.IntegerLookup(output_mode="multi_hot"), np.array([[3, 1], [1, 2]])),
    jl.adapt(jl.TextVectorization(output_mode="tf_idf", ngrams=2), ["to be, or not to be"]),
    jl.Hashing(5, mask_value="", salt=3),
    jl.HashedCrossing(5),
]


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.spec.name)
def test_what_was_learned_outlives_pickle_and_json(thing):
    inputs = {"IntegerLookup": [[1, 9]], "HashedCrossing": (["a"], ["b"])}.get(thing.spec.name, ["to", "b"])
    data = json.loads(json.dumps(to_data(thing)))
    for again in (pickle.loads(pickle.dumps(thing)), preprocessing.get(data)):
        assert again.spec == thing.spec
        assert np.array_equal(again(inputs), thing(inputs))


def test_the_repr_of_a_large_vocabulary_is_short():
    words = [f"word{i}" for i in range(20_000)]
    assert repr(jl.StringLookup(vocabulary=words)) == (
        "StringLookup(vocabulary=[" + ", ".join(repr(f"word{i}") for i in range(12)) + ", ... 20,000 in all])"
    )


def test_a_file_of_tokens_is_read_once(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("b\r\nnaïve word\na\n".encode())
    lookup = jl.StringLookup(vocabulary=path)
    path.unlink()
    assert lookup.spec.arguments["vocabulary"] == ["b", "naïve word", "a"]
    assert lookup(["naïve word", "b"]).tolist() == [2, 1]
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"StringLookup: .*words\.txt: expected one token per line in UTF-8"):
        jl.StringLookup(vocabulary=str(path))


# ------------------------------------------------------------------------------------------------ errors

WRONG = [
    (lambda: jl.StringLookup()(["a"]), ValueError, r"received vocabulary=None: .*jl\.adapt"),
    (lambda: jl.TextVectorization()(["a"]), ValueError, r"TextVectorization: expected a vocabulary"),
    (lambda: jl.StringLookup(vocabulary=["a", "b", "a"]), ValueError, r"each token once .* \['a'\]"),
    (lambda: jl.StringLookup(vocabulary=[]), ValueError, r"at least one token"),
    (lambda: jl.StringLookup(mask_token="m", vocabulary=["a", "m"]), ValueError, r"'m' is reserved"),
    (lambda: jl.StringLookup(vocabulary=["a", "[UNK]"], invert=True), ValueError, r"'\[UNK\]' is reserved"),
    (lambda: jl.StringLookup(2, vocabulary=["a", "b"]), ValueError, r"at most max_tokens=2 .* received 3"),
    (lambda: jl.StringLookup(1), ValueError, r"max_tokens=1"),
    (lambda: jl.StringLookup(2, 2), ValueError, r"max_tokens above 2"),
    (lambda: jl.StringLookup(num_oov_indices=-1), ValueError, r"num_oov_indices=-1"),
    (lambda: jl.StringLookup(pad_to_max_tokens=True), ValueError, r"max_tokens with pad_to_max_tokens"),
    (lambda: jl.StringLookup(invert=True, output_mode="count"), ValueError, r"output_mode='int' with invert"),
    (lambda: jl.StringLookup(idf_weights=[1.0]), ValueError, r"idf_weights='some'|idf_weights=some"),
    (lambda: jl.StringLookup(vocabulary=["a"], output_mode="tf_idf"), ValueError, r"expected idf_weights"),
    (lambda: jl.StringLookup(output_mode="hot"), ValueError, r"received output_mode='hot'"),
    (
        lambda: jl.StringLookup(vocabulary=["a"], idf_weights=[1.0, 2.0], output_mode="tf_idf"),
        ValueError,
        r"for each of the 1 tokens .*\(2,\)",
    ),
    (
        lambda: jl.StringLookup(num_oov_indices=0, vocabulary=["a"])(["b"]),
        ValueError,
        r"'b' is not in the vocab",
    ),
    (
        lambda: jl.StringLookup(vocabulary=["a"])([["a"], ["b", "c"]]),
        TypeError,
        r"fill lists up to one length",
    ),
    (lambda: jl.StringLookup(vocabulary=["a"])(["a", None]), TypeError, r"received None in place 1"),
    (lambda: jl.StringLookup(vocabulary=["a"])([1, 2]), TypeError, r"expected texts, received 1"),
    (
        lambda: jl.StringLookup(vocabulary=["a"], output_mode="count")(["a"]),
        ValueError,
        r"\[\[value\], \.\.\.\]",
    ),
    (lambda: jl.IntegerLookup(vocabulary=[1])([0.5]), TypeError, r"expected whole numbers"),
    (lambda: jl.IntegerLookup(vocabulary=["a"]), TypeError, r"vocabulary: expected whole numbers"),
    (lambda: jl.IntegerLookup(salt=3), ValueError, r"oov_method='floormod', salt=3"),
    (lambda: jl.Hashing(0), ValueError, r"num_bins=0"),
    (lambda: jl.Hashing(2, salt=[1]), ValueError, r"salt=\[1\]"),
    (lambda: jl.Hashing(2)([0.5]), TypeError, r"Hashing: expected texts"),
    (lambda: jl.HashedCrossing(2)(["a"]), ValueError, r"two features"),
    (lambda: jl.HashedCrossing(2)((["a"], ["b", "c"])), ValueError, r"\(1,\), \(2,\)"),
    (lambda: jl.TextVectorization(standardize="upper"), ValueError, r"standardize='upper'"),
    (lambda: jl.TextVectorization(split="words"), ValueError, r"split='words'"),
    (lambda: jl.TextVectorization(ngrams=0), ValueError, r"ngrams=0"),
    (
        lambda: jl.TextVectorization(ngrams=10**8),
        ValueError,
        r"at most 100 tokens.*ngrams=100000000",
    ),
    (lambda: jl.TextVectorization(ngrams=(1, 10**8)), ValueError, r"at most 100 tokens"),
    (
        lambda: jl.IntegerLookup(vocabulary=[1])(np.array([2**63 + 5], np.uint64)),
        ValueError,
        "9223372036854775813",
    ),
    (
        lambda: jl.TextVectorization(output_mode="count", output_sequence_length=3),
        ValueError,
        r"only with output_mode='int'",
    ),
    (lambda: jl.TextVectorization(vocabulary=["a"])([["a", "b"]]), ValueError, r"shape \(1, 2\)"),
    (lambda: jl.adapt(jl.TextVectorization(), []), ValueError, r"received 0 samples"),
    (lambda: jl.adapt(jl.TextVectorization(), ["", " !"]), ValueError, r"received 2 samples without any"),
    (lambda: jl.adapt(jl.TextVectorization(), "one text"), TypeError, r"received 'one text'"),
    (lambda: jl.adapt(jl.Hashing(3), ["a"]), TypeError, r"learns nothing"),
    (
        lambda: jl.Sequential(jl.StringLookup()),
        TypeError,
        r"expected a layer, received the preprocessor StringLookup",
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), WRONG)
def test_what_is_wrong_is_told(make, error, words):
    with pytest.raises(error, match=words):
        make()


# ------------------------------------------------------------------------------------------ in a run

GOOD, BAD = ["good", "fine", "lovely"], ["bad", "poor", "awful"]


def write_reviews(path):
    rng = np.random.default_rng(0)
    lines = ["review,stars,liked"]
    for i in range(60):
        words = rng.choice(BAD if i % 2 else GOOD, 3).tolist()
        lines.append(
            f'"It was {words[0]}, {words[1]} and {words[2]}.",{i % 2 + rng.random():.3f},{1 - i % 2}'
        )
    path.write_text("\n".join(lines) + "\n")


CONFIG = """
data: {csv: {path: reviews.csv, target: liked, labels: true, text: [review], test_fraction: 0.2, FEATURES}}
preprocess: PREPROCESS
model: MODEL
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: {learning_rate: 0.05}}
training: {epochs: 4, batch_size: 16, validation: 0.25}
"""
ONE = {
    "FEATURES": "features: [review]",
    "PREPROCESS": "{review: {TextVectorization: {max_tokens: 50, output_sequence_length: 6}}}",
    "MODEL": "{Sequential: [{Embedding: {input_dim: 50, output_dim: 4}}, GlobalAveragePooling1D, "
    "{Dense: {units: 2, activation: softmax}}]}",
}
TWO = {
    "FEATURES": "seed: 1",
    "PREPROCESS": "{review: {TextVectorization: {output_mode: tf_idf, max_tokens: 20, "
    "pad_to_max_tokens: true}}, stars: Normalization}",
    "MODEL": "{Model: {inputs: [review, stars], nodes: {review: {input: [20]}, stars: {input: [1]}, "
    "joined: {layer: Concatenate, inputs: [review, stars]}, "
    "out: {layer: {Dense: {units: 2, activation: softmax}}, inputs: joined}}, outputs: out}}",
}


def config_of(parts):
    text = CONFIG
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("parts", [ONE, TWO], ids=["one", "two"])
def test_a_run_predicts_from_raw_text(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    (tmp_path / "config.yaml").write_text(config_of(parts))
    assert main(["train", "config.yaml", "--run", "run"]) == 0
    trained = Run.open("run").results()
    assert trained["test"]["accuracy"] == 1.0
    assert main(["evaluate", "run"]) == 0
    assert repr(trained["test"]["loss"]) in capsys.readouterr().out  # to the last digit
    header = "review,stars" if parts is TWO else "review"
    rows = ["good and lovely", "a POOR, awful one"]
    more = [",0.1", ",1.9"] if parts is TWO else ["", ""]
    lines = [f'"{row}"{rest}' for row, rest in zip(rows, more, strict=True)]
    (tmp_path / "new.csv").write_text("\n".join([header, *lines]) + "\n")
    (tmp_path / "reviews.csv").unlink()  # what was learned is in the run
    assert main(["predict", "run", "new.csv", "--output", "out.npy"]) == 0
    assert np.load("out.npy").argmax(-1).tolist() == [1, 0]
    if parts is ONE:
        assert np.array_equal(predict_run(Run.open("run"), rows), np.load("out.npy"))


def test_held_out_and_validation_texts_are_not_learned_from(tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    text = config_of({**ONE, "PREPROCESS": "{review: {StringLookup: {output_mode: int}}}"})
    experiment = loads(text, base=tmp_path)
    known = set(experiment.preprocess["review"].get_vocabulary(include_special_tokens=False))
    (x, _), (validation, _) = hold_out(*experiment.source.train, 0.25, 0)
    assert known == set(x["review"])
    unseen = {t for t in [*validation["review"], *experiment.source.test[0]["review"]] if t not in known}
    assert unseen
    assert experiment.data.test[0].min() == 0  # the unknown


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"PREPROCESS": "{}"}, r"preprocess: expected numbers in the input 'review', received text"),
        ({"PREPROCESS": "{revue: {TextVectorization: {}}}"}, r"no input 'revue': did you mean 'review'"),
        (
            {"PREPROCESS": "{review: {TextVectorization: {}}}"},
            r"expected an output_sequence_length for 'review'",
        ),
        (
            {"PREPROCESS": "{review: {TextVectorizer: {}}}"},
            r"unknown preprocessor 'TextVectorizer': did you mean",
        ),
        ({"FEATURES": "features: [stars]"}, r"text columns among those of x"),
        (
            {"PREPROCESS": "{review: {Hashing: {num_bins: 3}}, stars: {Dense: 3}}", "FEATURES": "seed: 1"},
            "weights",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(parts, words, tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    with pytest.raises(ConfigError, match=words):
        _ = loads(config_of({**ONE, **parts}), base=tmp_path).data


def test_a_damaged_preprocess_file_is_told(tmp_path):
    run = Run(tmp_path)
    for text in (
        '{"x": 3}',
        '{"x": {"kind": "os", "made": "system"}}',
        '{"x": {"kind": "preprocessor", "made": "eval"}}',
    ):
        (tmp_path / "preprocess.json").write_text(text)
        with pytest.raises(ValueError, match=r"preprocess\.json is damaged \(expected preprocessors"):
            run.preprocess()


@pytest.mark.parametrize("text", ["the\n\ncat\n", "the\ncat\n\n"])
def test_a_blank_line_in_a_vocabulary_is_told_with_its_number(tmp_path, text):
    path = tmp_path / "words.txt"
    path.write_text(text)
    line = text.split("\n").index("") + 1
    with pytest.raises(ValueError, match=rf"words\.txt, line {line}: .*blank line; remove it"):
        jl.TextVectorization(vocabulary=path)
    path.write_text("\n[UNK]\nthe\n")  # as get_vocabulary gives it
    assert jl.TextVectorization(vocabulary=path).get_vocabulary() == ["", "[UNK]", "the"]
