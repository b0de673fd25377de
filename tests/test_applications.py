"""Applications: Keras's weights and numbers by name, arguments, specs, preprocessing, class names."""

import json
import pickle
import re
import runpy
from pathlib import Path

import applications_keras as same
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_values import keras_values

import jlayers as jl
from jlayers import applications, config
from jlayers.cli import main
from jlayers.core.layer import layers
from jlayers.core.spelling import UnknownNameError

NAMES = [name.partition(".")[2] for name in layers.group("applications")]
KERAS_LACKS = ("EfficientNetLite", "SqueezeNet", "ViT", "BERT", "MiniLM")
IN_KERAS = [name for name in NAMES if not name.startswith(KERAS_LACKS)]
FEW = {"VGG16", "MobileNetV2", "EfficientNetB0"}  # one of each kind; the others with --full

# Layers that Keras has besides, because it pads apart from the convolution, and those that are none there.
BESIDES = re.compile(r".*_pad(_.*)?|input_layer|(add|arithmetic)(_\d+)?")


def few_or_all(name, request):
    if name not in FEW and not request.config.option.full:
        pytest.skip("compared with --full")


def keras_of(name, compute):
    """Recorded values of a few, Keras itself for the others."""
    if name in FEW:
        return keras_values(compute)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return compute()


@pytest.mark.parametrize("name", IN_KERAS)
def test_weights_have_keras_names_and_shapes(name, request):
    few_or_all(name, request)
    size = applications.published(name).size

    def theirs():
        model = same.keras_model(name)
        plain = [layer.name for layer in model.layers if not BESIDES.fullmatch(layer.name)]
        return {"weights": same.digest(same.keras_forms(model)), "layers": " ".join(sorted(plain))}

    expected, model = keras_of(name, theirs), same.ours(name)
    assert same.digest(same.forms(model, (1, size, size, 3))) == expected["weights"]
    assert set(expected["layers"].split()) == {n for n in model.children if not BESIDES.fullmatch(n)}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_KERAS)
def test_numbers_are_keras_numbers(name, request):
    few_or_all(name, request)
    size = same.SMALL.get(name, 32)
    options = {"input_shape": (size, size, 3), "classes": 10, "classifier_activation": None}
    x = same.images(size)
    expected = keras_of(name, lambda: same.keras_output(same.keras_model(name, **options), x))
    received = same.output(same.ours(name, **options), x)
    assert np.abs(received - expected).max() <= 1e-4 * (expected.max() - expected.min())


@pytest.mark.slow
def test_features_are_pooled_as_asked():
    x = same.images(32)
    model = jl.applications.MobileNetV2(alpha=0.35, include_top=False)
    features = same.output(model, x)
    assert features.shape == (2, 1, 1, 1280)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = same.output(model.replace(pooling=pooling), x)
        np.testing.assert_allclose(pooled, reduce(features, (1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_any_size_of_image_without_a_shape():
    model = jl.applications.EfficientNetLite0(include_top=False)
    params, state = same.specs(model, (1, 224, 224, 3))
    for size in (33, 97):
        made = jax.eval_shape(model.apply, params, state, jax.ShapeDtypeStruct((1, size, size, 3), "float32"))
        assert made[0].shape == (1, -(-size // 32), -(-size // 32), 1280)


@pytest.mark.parametrize("name", NAMES)
def test_specs(name):
    model = same.ours(name)
    assert repr(model) == f"applications.{name}()"
    assert model.to_data() == f"applications.{name}"
    assert layers.get(model.to_data()).children.keys() == model.children.keys()
    doc = getattr(applications, name).__doc__
    assert "Args:\n" in doc
    assert ">>> " in doc
    assert applications.published(model).size


def test_pickle_and_replace():
    model = jl.applications.MobileNetV2(include_top=False, pooling="avg", alpha=0.35)
    assert repr(pickle.loads(pickle.dumps(model))) == repr(model)
    assert "avg" not in repr(model.replace(pooling=None))


def test_a_base_in_a_model_has_a_short_name_and_can_be_frozen():
    base = jl.freeze(jl.applications.MobileNetV2(include_top=False, pooling="avg", alpha=0.35))
    model = jl.Sequential(base, jl.Dense(3))
    params, _ = same.specs(model, (1, 32, 32, 3))
    assert set(params) == {"mobile_net_v2", "dense"}
    mask = jl.trainable_mask(model, params)
    assert not any(jax.tree.leaves(mask["mobile_net_v2"]))
    assert all(jax.tree.leaves(mask["dense"]))
    assert pickle.loads(pickle.dumps(model)).spec == model.spec


def test_the_graph_inside_can_be_cut():
    base = jl.applications.VGG16(include_top=False, input_shape=(32, 32, 3))
    inner = jl.graph(base)
    model = jl.Model(inner.inputs, jl.GlobalAveragePooling2D()(inner["block2_pool"]))
    assert list(same.specs(model, (1, 32, 32, 3))[0]) == [f"block{i}_conv{j}" for i in (1, 2) for j in (1, 2)]


YAML = """
data: {digits: {}}
model:
  Sequential:
    layers:
      - {Reshape: [8, 8, 1]}
      - {Resizing: {height: 32, width: 32}}
      - applications.MobileNetV2: {input_shape: [32, 32, 1], alpha: 0.35, include_top: false, pooling: avg}
      - Dense: 10
loss: {sparse_categorical_crossentropy: {from_logits: true}}
optimizer: adam
training: {epochs: 1}
"""


def test_yaml_names_applications():
    model = config.loads(YAML).model
    base = model.children["mobile_net_v2"]
    assert base.spec.name == "applications.MobileNetV2"
    assert base.spec.arguments["alpha"] == 0.35
    with pytest.raises(Exception, match=r"did you mean 'applications\.MobileNetV2'"):
        config.loads(YAML.replace("MobileNetV2", "MobileNetV22"))
    with pytest.raises(Exception, match="alpah"):
        config.loads(YAML.replace("alpha", "alpah"))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("VGG16", {"input_shape": (31, 32, 3)}, r"applications\.VGG16: .*32 by 32.*\(31, 32, 3\).*Resizing"),
        ("VGG16", {"input_shape": (32, 32)}, "height, width and channels"),
        ("VGG16", {"input_shape": (None, 64, 3)}, "known height and width"),
        ("VGG16", {"pooling": "mean", "include_top": False}, "'avg', 'max' or None.*'mean'"),
        ("MobileNetV2", {"classes": 0}, "classes of 1 or more.*classes=0"),
        ("EfficientNetB0", {"classifier_activation": "sotfmax"}, "did you mean 'softmax'"),
    ],
)
def test_errors_teach(name, arguments, words):
    with pytest.raises((ValueError, UnknownNameError), match=words):
        getattr(jl.applications, name)(**arguments)


def test_keras_arguments_that_are_said_elsewhere():
    with pytest.raises(TypeError, match=r"weights='imagenet'.*jl\.load_weights"):
        jl.applications.VGG16(weights="imagenet")
    with pytest.raises(AttributeError, match="VGG16"):
        jl.applications.VGG61  # noqa: B018
    with pytest.raises(UnknownNameError, match=r"applications\.VGG16"):
        layers.get("applications.VGG61")


# ------------------------------------------------------------------------------- published facts


def test_official_weights_follow_from_the_call():
    file = applications.weights_file(jl.applications.VGG16())
    assert file.url.endswith("/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5")
    assert file.hash == "64373286793e3c8b2b4e3219cbf3544b"
    assert "notop" in applications.weights_file(jl.applications.EfficientNetB3(include_top=False)).name
    small = jl.applications.MobileNetV2(alpha=0.35, input_shape=(96, 96, 3), include_top=False)
    assert applications.weights_file(small).name.endswith("_0.35_96_no_top.h5")
    with pytest.raises(ValueError, match=r"alpha=0\.4"):
        applications.weights_file(small.replace(alpha=0.4))
    with pytest.raises(ValueError, match=r"classes=10.*include_top=False"):
        applications.weights_file(jl.applications.VGG16(classes=10))
    with pytest.raises(ValueError, match="no official weights are known"):
        applications.weights_file(jl.applications.EfficientNetLite0())
    with pytest.raises(ValueError, match="an application"):
        applications.weights_file(jl.Dense(3))


@pytest.mark.parametrize("name", NAMES)
def test_hashes_are_hashes(name):
    facts = applications.published(name)
    if facts.weights is None:
        return
    for top in (True, False):
        file = applications.weights_file(same.ours(name, include_top=top))
        assert file.url.startswith("https://storage.googleapis.com/")
        assert file.hash is None or (len(file.hash) in (32, 64) and int(file.hash, 16))


VARIANTS = {  # arguments on which the address depends
    "MobileNet": [{"alpha": 0.25, "input_shape": (128, 128, 3)}, {"alpha": 0.75}],
    "MobileNetV2": [{"alpha": 1.4}, {"alpha": 0.35, "input_shape": (96, 96, 3)}],
    "MobileNetV3Large": [{"alpha": 0.75}, {"minimalistic": True}],
    "MobileNetV3Small": [{"alpha": 0.75}, {"minimalistic": True}],
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Keras, about the size of images
@pytest.mark.parametrize("name", IN_KERAS)
def test_addresses_and_hashes_are_those_that_keras_fetches(name, monkeypatch):
    calls = [
        {**arguments, "include_top": top}
        for arguments in [{}, *VARIANTS.get(name, [])]
        for top in (True, False)
    ]

    def theirs():
        import keras

        class FetchedError(Exception):
            pass

        def fetched(fname, origin, cache_subdir=None, file_hash=None, **rest):
            raise FetchedError(origin, file_hash)

        monkeypatch.setattr("keras.src.utils.file_utils.get_file", fetched)
        found = []
        for arguments in calls:
            keras.backend.clear_session()
            with pytest.raises(FetchedError) as stop:
                getattr(keras.applications, name)(weights="imagenet", **arguments)
            found.append(list(stop.value.args))
        return found

    files = [applications.weights_file(same.ours(name, **arguments)) for arguments in calls]
    assert [[file.url, file.hash] for file in files] == keras_values(theirs)


# ------------------------------------------------------------------------- images and class names


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_preprocess_input_is_keras(mode, dtype):
    x = same.images(4).astype(dtype)

    def theirs():
        from keras.applications.imagenet_utils import preprocess_input

        return preprocess_input(np.array(x, "float32"), mode=mode)

    before, expected = x.copy(), keras_values(theirs)
    received = applications.preprocess_input(x, mode)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(
        jax.jit(lambda x: applications.preprocess_input(x, mode))(x), received, 1e-5, 1e-4
    )
    np.testing.assert_array_equal(applications.preprocess_input(x[0], mode), received[0])


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.full((2, 4, 4, 3), 0.5, "float32"), ValueError, "fractions up to 0.5.*255"),
        (np.full((4, 4, 3), -1.0, "float32"), ValueError, "from -1 to -1"),
        (np.full((4, 4, 3), 256, "int32"), ValueError, "from 256 to 256"),
        (np.full((4, 4, 3), np.nan, "float32"), ValueError, "from nan to nan"),
        (np.zeros((4, 4, 1), "uint8"), ValueError, "red, green and blue"),
        (np.zeros((4, 3), "uint8"), ValueError, "red, green and blue"),
        (np.zeros((4, 4, 3), bool), TypeError, "numbers from 0 to 255"),
    ],
)
def test_preprocess_input_looks_at_images(x, error, words):
    with pytest.raises(error, match=words):
        applications.preprocess_input(x)


def test_no_images_and_black_images():
    assert applications.preprocess_input(np.zeros((0, 4, 4, 3), "uint8")).shape == (0, 4, 4, 3)
    assert applications.vgg16.preprocess_input(np.zeros((1, 1, 3), "uint8"))[0, 0, 0] == np.float32(-103.939)
    assert applications.efficientnet.preprocess_input(np.ones((1, 1, 3), "uint8")).sum() == 3
    with pytest.raises(ValueError, match="'torch'"):
        applications.preprocess_input(np.zeros((1, 1, 3)), "troch")


def test_class_names():
    names = applications.class_names()
    assert len(names) == len({key for key, _ in names}) == 1000
    assert [names[i] for i in (0, 281, 999)] == [
        ("n01440764", "tench"),
        ("n02123045", "tabby"),
        ("n15075141", "toilet_tissue"),
    ]
    scores = jnp.zeros((2, 1000)).at[0, 5].set(1.0).at[1, 7].set(0.5).at[1, 3].set(0.4)
    best = applications.decode_predictions(scores, top=2)
    assert [row[0][1] for row in best] == [names[5][1], names[7][1]]
    assert best[1][1] == (*names[3], pytest.approx(0.4))
    with pytest.raises(ValueError, match=r"\(batch, 1000\).*float32\(2, 10\)"):
        applications.decode_predictions(jnp.zeros((2, 10)))
    with pytest.raises(ValueError, match="top=0"):
        applications.decode_predictions(scores, top=0)


# ---------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def maker():
    return runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_applications_page.py"))


def test_the_page_is_up_to_date(maker):
    written = maker["PAGE"].read_text(encoding="utf-8")
    assert written == maker["page"](), "run: python docs/make_applications_page.py"
    assert all(f"| `{name}` |" in written for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_costs(name, maker, request):
    few_or_all(name, request)
    assert maker["count"](name) == applications.costs()[name], "run: ... make_applications_page.py --count"


def test_every_difference_is_small(maker):
    measured = json.loads(maker["MEASURED"].read_text())
    assert set(measured) <= set(NAMES)
    assert all(known["difference"] <= 1e-4 for known in measured.values() if "difference" in known)


def test_the_command_lists_them(capsys):
    main(["list", "applications"])
    shown = capsys.readouterr().out
    assert re.search(r"applications\.VGG16 +138,357,544 +29\.9\d+ +224 +71\.3\n", shown)
    assert all(f"applications.{name} " in shown for name in NAMES)
    assert "Dense(" not in shown
