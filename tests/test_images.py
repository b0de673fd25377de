"""Image layers: against Keras where nothing is drawn, ranges and independence where something is, mixing."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import zlib

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import relaxed
from keras_values import keras_values

import jlayers as jl
from jlayers.core.spelling import snake_case
from jlayers.layers.image._colors import contrast, hsv, rgb, smooth
from jlayers.layers.image._sampling import affine, blurred, gaussian, homography, sampled
from jlayers.layers.image.rand_augment import augmentations
from jlayers.testing.case import jitted
from jlayers.train import Batch, TrainState, compile, fit, make_train_step

RNG = np.random.default_rng(0)
PHOTO = RNG.uniform(0, 255, (2, 7, 6, 3)).astype(np.float32)
BYTES = RNG.integers(0, 256, (2, 5, 8, 3)).astype(np.uint8)


def ours(layer, *x, train=True):
    return jitted(lambda x, key: layer.apply({}, {}, *x, key=key, train=train)[0])(x, jax.random.key(0))


def both(name, x, train=True, tol=1e-3, **arguments):
    """The layer and Keras's with those arguments agree on `x`, in values and dtype."""
    expected = keras_values(lambda: getattr(keras.layers, name)(**arguments)(x, training=train))
    received = ours(getattr(jl, name)(**arguments), x, train=train)
    assert (received.shape, str(received.dtype)) == (expected.shape, str(expected.dtype))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=tol, err_msg=f"{name} {arguments}")


def first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


# ------------------------------------------------------------------------------------- single images


@pytest.mark.parametrize("x", [PHOTO[0], BYTES[0]], ids=["float32", "uint8"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Resizing", {"height": 3, "width": 9}),
        ("CenterCrop", {"height": 4, "width": 3}),
        ("RandomBrightness", {"factor": (0.0, 0.0)}),
        ("RandomGrayscale", {"factor": 1.0}),
        ("AutoContrast", {}),
    ],
)
def test_a_single_image_is_taken_as_by_keras(name, arguments, x):
    with relaxed()[0], relaxed()[1]:
        expected = np.asarray(getattr(keras.layers, name)(**arguments)(x))
    received = ours(getattr(jl, name)(**arguments), x, train=name == "RandomGrayscale")
    assert received.shape == expected.shape
    if name != "RandomGrayscale":  # which Keras draws
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("layer", [jl.RandomFlip(), jl.RandomCrop(3, 4), jl.RandomRotation(0.2)])
def test_a_single_image_is_a_batch_of_one(layer):
    np.testing.assert_allclose(ours(layer, BYTES[0]), ours(layer, BYTES[:1])[0], rtol=1e-6)
    first_axis = np.moveaxis(BYTES[0], -1, 0)
    changed = ours(layer.replace(data_format="channels_first"), first_axis)
    np.testing.assert_allclose(np.moveaxis(changed, 0, -1), ours(layer, BYTES[0]), rtol=1e-6)


# -------------------------------------------------------------------------------------- no draws


@pytest.mark.parametrize("method", ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"])
def test_resizing(method):
    both("Resizing", PHOTO, height=3, width=9, interpolation=method, antialias=method == "lanczos3")
    if method == "bilinear":
        both("Resizing", PHOTO, height=14, width=4, antialias=True)


@pytest.mark.parametrize("size", [(4, 4), (9, 3), (3, 10)])
@pytest.mark.parametrize("way", ["crop_to_aspect_ratio", "pad_to_aspect_ratio"])
def test_resizing_keeps_the_aspect_ratio(way, size):
    both("Resizing", PHOTO, height=size[0], width=size[1], fill_value=7.0, **{way: True})
    if size == (9, 3):
        both("Resizing", first(PHOTO), height=9, width=3, data_format="channels_first", **{way: True})


@pytest.mark.parametrize("name", ["Resizing", "CenterCrop"])
def test_whole_numbers_stay_in_resizing_and_become_floats_elsewhere(name):
    both(name, BYTES, height=3, width=4)
    both(name, BYTES.astype(np.int32), height=7, width=4)


@pytest.mark.parametrize("size", [(7, 6), (4, 3), (1, 2), (9, 4), (20, 20)])
def test_center_crop(size):
    both("CenterCrop", PHOTO, height=size[0], width=size[1])
    if size == (4, 3):
        both("CenterCrop", first(PHOTO), height=4, width=3, data_format="channels_first")
        crop = jl.CenterCrop(4, 3, "channels_first")
        eager, _ = crop.apply({}, {}, first(PHOTO))  # of a NumPy array, which is not a shape
        np.testing.assert_array_equal(eager, ours(crop, first(PHOTO)))


def test_rescaling():
    both("Rescaling", PHOTO, scale=1 / 127.5, offset=-1.0)
    both("Rescaling", BYTES, scale=1 / 255)
    both("Rescaling", PHOTO, scale=(1.0, 0.5, 2.0), offset=(0.0, 1.0, -1.0))


def test_random_crop_has_one_shape_in_training_and_inference():
    """Keras 3.15 returns images unchanged in inference, and distorts those that are too small in training;
    its documentation says what we do."""
    crop = jl.RandomCrop(4, 3)
    assert ours(crop, PHOTO).shape == ours(crop, PHOTO, train=False).shape == (2, 4, 3, 3)
    resized = ours(jl.Resizing(4, 3, crop_to_aspect_ratio=True), PHOTO, train=False)
    np.testing.assert_array_equal(ours(crop, PHOTO, train=False), resized)
    small = ours(jl.Resizing(9, 12, crop_to_aspect_ratio=True), PHOTO)
    np.testing.assert_array_equal(ours(jl.RandomCrop(9, 12), PHOTO), small)
    assert keras_values(lambda: keras.layers.RandomCrop(4, 3)(PHOTO, training=False)).shape == PHOTO.shape


# ------------------------------------------------------------------------------------- fixed draws


@pytest.mark.parametrize(
    ("fill_mode", "interpolation"),
    [
        ("reflect", "bilinear"),
        ("wrap", "bilinear"),
        ("constant", "bilinear"),
        ("nearest", "nearest"),
    ],
)
def test_moves_turns_and_zooms_of_a_fixed_size(fill_mode, interpolation):
    common = {"fill_mode": fill_mode, "interpolation": interpolation, "fill_value": 9.0}
    cases = [
        ("RandomTranslation", {"height_factor": (0.31, 0.31), "width_factor": (-0.9, -0.9)}),
        ("RandomRotation", {"factor": (0.07, 0.07)}),
        ("RandomZoom", {"height_factor": (-0.37, -0.37), "width_factor": (0.43, 0.43)}),
    ]
    for name, arguments in cases:
        both(name, PHOTO, **arguments, **common, tol=0.02)


def test_channels_first_and_whole_numbers_move_alike():
    both("RandomRotation", first(PHOTO), factor=(-0.2, -0.2), data_format="channels_first", tol=0.02)
    both("RandomZoom", BYTES, height_factor=(0.3, 0.3), tol=0.02)
    for layer in (jl.RandomFlip(), jl.RandomContrast(0.5)):
        there = ours(layer.replace(data_format="channels_first"), first(BYTES))
        np.testing.assert_array_equal(there, first(np.asarray(ours(layer, BYTES))), err_msg=repr(layer))


def test_affine_is_keras_affine_transform():
    matrix, offset = ((0.9, 0.3), (-0.2, 1.1)), (0.7, -1.3)
    transform = np.array([1.1, -0.2, -1.3, 0.3, 0.9, 0.7, 0, 0], np.float32)
    transformed = keras.ops.image.affine_transform
    expected = keras_values(lambda: transformed(PHOTO[0], transform, "bilinear", "reflect"))
    received = affine(jnp.asarray(PHOTO[0]), matrix, offset, "reflect", "bilinear", 0.0)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=0.01)


def test_shear_is_one_of_two_fixed_ones():
    fixed = jl.RandomShear((0.4, 0.4), (0.2, 0.2))
    photo = jnp.asarray(PHOTO[0])
    both_ways = [affine(photo, ((1, y), (x, 1)), (0, 0), "reflect", "bilinear", 0.0)
                 for x, y in ((0.4, 0.2), (-0.4, -0.2))]  # fmt: skip
    found = {
        int(np.argmin([np.abs(image - way).max() for way in both_ways]))
        for image in ours(fixed, np.tile(PHOTO[:1], (12, 1, 1, 1)))
    }
    assert found == {0, 1}


def test_colors_of_fixed_strength():
    both("RandomBrightness", PHOTO, factor=(-0.3, -0.3))
    both("RandomBrightness", PHOTO / 255, factor=(0.2, 0.2), value_range=(0, 1))
    both("RandomColorDegeneration", PHOTO, factor=(0.6, 0.6))
    both("RandomPosterization", PHOTO, factor=(3, 3))
    both("RandomInvert", PHOTO, factor=(1.0, 1.0))
    both("RandomGrayscale", PHOTO, factor=1.0)
    both("Solarization", PHOTO)
    both("AutoContrast", PHOTO, train=False)
    both("RandomSaturation", PHOTO / 255, factor=(0.3, 0.3), value_range=(0, 1))
    both("RandomGrayscale", PHOTO[..., :1], factor=1.0)


def test_contrast_is_keras_with_the_same_factor():
    factor = {"contrast_factor": np.float32(0.6)}
    expected = keras_values(lambda: keras.layers.RandomContrast(0.5).transform_images(PHOTO, factor))
    received = jax.vmap(lambda image: contrast(image, 0.6, (0, 255)))(PHOTO)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-3)


def test_hue_and_sharpness_are_keras_with_the_same_factor():
    unit = PHOTO / 255

    def run_keras():
        hue, sharp = keras.layers.RandomHue(0.5, value_range=(0, 1)), keras.layers.RandomSharpness(0.5)
        factors = [{"factor": np.full(2, factor, np.float32)} for factor in (0.2, 0.0)]
        return hue.transform_images(unit, factors[0]), sharp.transform_images(PHOTO, factors[1])

    hue, sharp = keras_values(run_keras)
    planes = hsv(jnp.asarray(unit))
    np.testing.assert_allclose(rgb(planes[0] + 0.2, *planes[1:]), hue, atol=1e-5)
    np.testing.assert_allclose(rgb(*planes), unit, atol=1e-5)
    # Keras puts zeros around the image, which draws a frame; we repeat its border.
    smoothed = jax.vmap(smooth)(PHOTO)
    np.testing.assert_allclose(smoothed[:, 1:-1, 1:-1], sharp[:, 1:-1, 1:-1], rtol=1e-5)
    flat = jnp.full((1, 4, 4, 1), 100.0)
    np.testing.assert_allclose(ours(jl.RandomSharpness((0.0, 0.0)), flat), flat, rtol=1e-6)


def test_equalization_of_each_image_and_channel():
    """Keras takes one histogram over the batch, so it is asked for one image."""
    whole = np.floor(PHOTO)
    expected = keras_values(lambda: keras.layers.Equalization(bins=16)(whole[1:, :, :, 2:]))
    received = ours(jl.Equalization(bins=16), whole)
    np.testing.assert_allclose(received[1:, :, :, 2:], expected, atol=1e-3)
    flat = jnp.full((1, 3, 3, 1), 40.0)
    np.testing.assert_array_equal(ours(jl.Equalization(), flat), flat)
    np.testing.assert_array_equal(ours(jl.AutoContrast(), flat), flat)


def test_solarization_scales_both_ends_of_its_factors():
    """Keras takes the low end for a pixel value: 0.5 of 255 there is 0.5."""
    x = np.array([10.0, 120.0, 140.0], np.float32).reshape(1, 1, 3, 1)
    y = ours(jl.Solarization((0.1, 0.1), (0.5, 0.5)), x).ravel()
    np.testing.assert_allclose(y, [35.5, 255 - 145.5, 255 - 165.5], rtol=1e-5)


def test_invert_and_posterise_other_ranges():
    """Keras inverts as if the range began at 0, and never draws the upper number of bits."""
    x = np.linspace(-1, 1, 9, dtype=np.float32).reshape(1, 3, 3, 1)
    np.testing.assert_allclose(ours(jl.RandomInvert((1.0, 1.0), (-1, 1)), x), -x, atol=1e-6)
    batch = np.tile(np.linspace(0, 255, 256, dtype=np.float32).reshape(1, 16, 16, 1), (30, 1, 1, 1))
    levels = {len(np.unique(image)) for image in ours(jl.RandomPosterization((1, 3)), batch)}
    assert levels == {2, 4, 8}


# ------------------------------------------------------------------------------------------ draws


def scalar_draws(layer, value, count=400):
    """What the layer makes of many equal images of one pixel pair."""
    x = np.tile(np.asarray(value, np.float32).reshape(1, 1, -1, 1), (count, 1, 1, 1))
    return np.asarray(ours(layer, x)).reshape(count, -1)


def test_factors_are_drawn_from_their_whole_range():
    brighter = scalar_draws(jl.RandomBrightness(0.2), [100.0]) - 100
    assert 49 < np.abs(brighter).max() <= 51.01
    assert abs(brighter.mean()) < 5
    spread = np.ptp(scalar_draws(jl.RandomContrast(0.5), [110.0, 130.0]), axis=1) / 20
    assert 0.4999 <= spread.min() < 0.55
    assert 1.45 < spread.max() <= 1.5001
    assert abs(spread.mean() - 1) < 0.05
    uneven = np.ptp(scalar_draws(jl.RandomContrast((0.4, 0.1)), [110.0, 130.0]), axis=1) / 20
    assert 0.5999 <= uneven.min() < 0.65
    assert 1.05 < uneven.max() <= 1.1001
    flipped = scalar_draws(jl.RandomFlip("horizontal"), [1.0, 2.0])[:, 0] == 2
    assert 0.4 < flipped.mean() < 0.6
    covered = scalar_draws(jl.RandomErasing(1.0, (1.0, 1.0), 0.0), [1.0])[:, 0] == 0
    assert 0.4 < covered.mean() < 0.6  # the probability itself is drawn from (0, 1), as in Keras


def test_flips_both_ways_are_drawn_apart():
    """Keras flips both ways or not at all."""
    corners = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    flipped = ours(jl.RandomFlip(), np.tile(corners, (40, 1, 1, 1))).reshape(40, 4)
    assert {tuple(map(int, row)) for row in flipped} == {
        (0, 1, 2, 3),
        (1, 0, 3, 2),
        (2, 3, 0, 1),
        (3, 2, 1, 0),
    }


def test_crops_reach_every_place_and_differ_between_images():
    """Keras draws one window for the batch."""
    numbered = np.tile(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1), (60, 1, 1, 1))
    corners = ours(jl.RandomCrop(2, 4), numbered)[:, 0, 0, 0]
    assert set(corners.tolist()) == {0.0, 4.0}  # Keras does not draw where one side fits exactly
    corners = ours(jl.RandomCrop(2, 3), numbered)[:, 0, 0, 0]
    assert set(corners.tolist()) == {0.0, 1.0, 4.0, 5.0}


def test_erased_boxes_have_the_area_that_was_asked_for():
    x = np.ones((30, 40, 40, 1), np.float32)
    areas = 1 - np.asarray(ours(jl.RandomErasing((1.0, 1.0), (0.1, 0.3), 0.0), x)).mean(axis=(1, 2, 3))
    assert 0.08 < areas.min() < 0.16
    assert 0.22 < areas.max() < 0.33
    assert len(set(areas.tolist())) > 10
    noise = ours(jl.RandomErasing((1.0, 1.0), (1.0, 1.0), value_range=(0, 1)), x)
    low, *between, high = np.unique(noise)
    assert (low, high) == (0, 1)
    assert len(between) > 100


DRAWING = [
    jl.RandomCrop(4, 4),
    jl.RandomColorJitter((0, 255), 0.2, hue_factor=0.2),
]


@pytest.mark.parametrize("layer", DRAWING, ids=lambda layer: layer.spec.name)
def test_an_image_has_draws_of_its_own(layer):
    """They follow from the key and its place, not from the other images; mapped is looped."""
    apply = lambda x, key: layer.apply({}, {}, x, key=key, train=True)[0]  # noqa: E731
    run = jitted(apply)
    equal = np.tile(PHOTO[:1], (4, 1, 1, 1))
    whole = run(equal, jax.random.key(1))
    assert len({image.tobytes() for image in np.asarray(whole)}) > 1
    np.testing.assert_allclose(whole[:2], run(equal[:2], jax.random.key(1)), rtol=1e-5, atol=1e-3)
    keys = jax.random.split(jax.random.key(2), 2)
    mapped = jitted(jax.vmap(apply))(np.stack([equal, equal[::-1]]), keys)
    np.testing.assert_allclose(mapped[1], run(equal[::-1], keys[1]), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("factor", [0.5, (0.1, 0.7)])
def test_rand_augment_has_the_strengths_of_keras(factor):
    theirs = keras.layers.RandAugment(factor=factor, value_range=(0, 1))
    members = augmentations(theirs.factor, (0, 1), "bilinear")
    assert {snake_case(member.spec.name) for member in members} == set(theirs._AUGMENT_LAYERS)
    plain = lambda value: tuple(value) if isinstance(value, list) else value  # noqa: E731
    for member in members:
        config = getattr(theirs, snake_case(member.spec.name)).get_config()
        shared = (config.keys() & member.spec.arguments.keys()) - {"name", "data_format"}
        assert shared
        for argument in shared:
            assert plain(config[argument]) == member.spec.arguments[argument], (member, argument)


def test_rand_augment_chooses_for_each_image():
    """Keras chooses once for a batch."""
    apply = jitted(lambda x: jl.RandAugment(num_ops=1).apply({}, {}, x, key=KEY, train=True)[0])
    x = np.tile(PHOTO[:1], (60, 1, 1, 1))
    once = np.asarray(apply(x))
    assert once.min() >= 0
    assert once.max() <= 255
    x[0] = 0
    np.testing.assert_array_equal(apply(x)[1:], once[1:])
    fixed = [ours(layer, PHOTO[:1])[0] for layer in (jl.AutoContrast(), jl.Equalization())]
    assert all(any(np.allclose(image, known, atol=1e-2) for image in once) for known in fixed)
    np.testing.assert_allclose(ours(jl.RandAugment(factor=0.3), PHOTO, train=False), PHOTO)


# ----------------------------------------------------------------------------------------- mixing


KEY = jax.random.key(0)
IMAGES = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((8, 9, 7, 2), np.float32)
LABELS = np.eye(8, dtype=np.float32)


@pytest.mark.parametrize("layer", [jl.MixUp(1.0), jl.CutMix()], ids=["MixUp", "CutMix"])
def test_labels_are_mixed_as_the_images_are(layer):
    images, labels = (np.asarray(part) for part in ours(layer, IMAGES, LABELS))
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    # Image i is i everywhere, so the mean of a mixed image is what its label says.
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels @ np.arange(8), rtol=1e-4, atol=1e-5)
    assert ((labels > 0).sum(axis=1) <= 2).all()
    assert ((labels > 0.01).sum(axis=1) == 2).any()
    if layer.spec.name == "CutMix":  # boxes of the other image
        assert all(set(np.unique(image)) <= set(range(8)) for image in images)
    else:  # blended all over
        assert all(np.ptp(image) < 1e-5 for image in images)
    untouched = ours(layer, IMAGES, LABELS, train=False)
    np.testing.assert_array_equal(untouched[0], IMAGES)
    np.testing.assert_array_equal(untouched[1], LABELS)


X, Y = jl.Input((9, 7, 2), name="x"), jl.Input((8,), name="y")
NOISY = jl.Model([X, Y], [jl.GaussianNoise(1.0)(X), Y])


def softmax_of_images():
    return jl.Sequential(jl.Flatten(), jl.Dense(8, activation="softmax"))


def test_a_step_with_augmentation_is_the_step_on_augmented_data():
    model = softmax_of_images()
    create = lambda: TrainState.create(model, "sgd", jax.random.key(0), IMAGES)  # noqa: E731
    augmented = make_train_step(model, "categorical_crossentropy", "sgd", augment=NOISY)
    key = jax.random.fold_in(jax.random.fold_in(create().key, 0), zlib.crc32(b"augment"))
    changed = NOISY.apply({}, {}, IMAGES, LABELS, key=key, train=True)[0]
    plain = make_train_step(model, "categorical_crossentropy", "sgd")
    received, logs = augmented(create(), Batch(IMAGES, LABELS))
    expected, expected_logs = plain(create(), Batch(*changed))
    np.testing.assert_allclose(logs["loss"], expected_logs["loss"], rtol=1e-5)
    kernels = (moved.params["dense"]["kernel"] for moved in (received, expected))
    np.testing.assert_allclose(*kernels, rtol=1e-4, atol=1e-5)


def test_fit_augments_in_training_alone():
    """Evaluation and validation see the data as they are."""
    trainer = compile(softmax_of_images(), jl.optimizers.sgd(0.0), "categorical_crossentropy", augment=NOISY)
    _, history = fit(trainer, IMAGES, LABELS, epochs=2, batch_size=8, validation_data=(IMAGES, LABELS))
    assert history["loss"][0] != history["loss"][1]  # other draws, with weights that do not move
    assert history["val_loss"][0] == history["val_loss"][1]


# ------------------------------------------------------------------------------------------ errors

ERRORS = [
    (lambda: jl.Resizing(0, 3), "Resizing: expected height to be a positive whole number, received height=0"),
    (lambda: jl.Resizing(2, 2, "cubic"), "interpolation='cubic': did you mean 'bicubic'"),
    (
        lambda: jl.Resizing(2, 2, "nearest", True, True),
        "only one of the two, received crop_to_aspect_ratio=True",
    ),
    (lambda: jl.CenterCrop(2, 2.5), "received width=2.5"),
    (lambda: jl.RandomRotation(40), "as a number, or two of them .* from -1 to 1, received factor=40"),
    (lambda: jl.RandomZoom(-1), "above -1, at which nothing of the image is left"),
    (lambda: jl.RandomTranslation((0, 1, 2), 0), r"received height_factor=\(0, 1, 2\)"),
    (lambda: jl.RandomShear(0.1, fill_mode="mirror"), "fill_mode='mirror'"),
    (lambda: jl.RandomFlip("both"), "mode='both'"),
    (lambda: jl.RandomContrast("0.5"), "received factor='0.5'"),
    (lambda: jl.RandomBrightness(0.1, (1, 0)), r"low below high, received value_range=\(1, 0\)"),
    (lambda: jl.RandomPosterization(9), "from 1 to 8, received factor="),
    (lambda: jl.RandomPosterization((1.5, 3)), "in whole numbers of bits"),
    (lambda: jl.RandomColorJitter(), "at least one factor, received brightness_factor=None"),
    (lambda: jl.RandAugment(num_ops=0), "received num_ops=0"),
    (lambda: jl.MixUp(0), "expected alpha to be a positive number, received alpha=0"),
    (lambda: jl.CutMix(2.0), "from 0 to 1, received factor=2.0"),
    (lambda: ours(jl.RandomFlip(), PHOTO[0, 0]), r"4 dimensions .* received float32\(6, 3\)"),
    (lambda: ours(jl.RandomFlip(), PHOTO[..., 0].repeat(5, 2)), r"at most 4 channels.* x\[..., None\]"),
    (lambda: jl.RandomFlip()(jl.Input((6, 5))), r"float32\(None, 6, 5\); if the channels are missing"),
    (lambda: ours(jl.RandomHue(0.1), PHOTO[..., :2]), "3 channels .*received 2 channels"),
    (lambda: ours(jl.RandomErasing(fill_value=(0.0, 1.0)), PHOTO), r"3 channels, received fill_value=\(0.0"),
    (lambda: ours(jl.Rescaling((1.0, 2.0)), PHOTO), r"one for each channel .* received scale=\(1.0, 2.0\)"),
    (lambda: ours(jl.MixUp(), IMAGES, np.arange(8)), "jax.nn.one_hot"),
    (lambda: ours(jl.MixUp(), IMAGES, LABELS[:4]), "as many labels as images"),
    (lambda: jl.RandomFlip().apply({}, {}, PHOTO, train=True), "expected a PRNG key"),
    (lambda: compile(jl.Dense(2), loss="mse", augment="MixUp"), "received augment='MixUp'"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors_teach(number):
    wrong, words = ERRORS[number]
    with pytest.raises((ValueError, TypeError), match=words):
        wrong()


A, B = jl.Input((3,), name="a"), jl.Input((3,), name="b")


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (jl.Concatenate(), "to return .x, y. in the shapes of"),
        (jl.RandomFlip(), "takes 1 input"),
        (jl.Model([A, B], [jl.Dense(3)(A), B]), "without parameters and state"),
    ],
)
def test_an_augmentation_must_keep_x_and_y(augment, words):
    step = make_train_step(jl.Dense(3), "mse", "sgd", augment=augment)
    x = np.ones((2, 3), np.float32)
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        step(TrainState.create(jl.Dense(3), "sgd", KEY, x), Batch(x, x))
    assert any("augment" in note for note in caught.value.__notes__)


# ------------------------------------------------------------------------- tiles, blurs, bends and slants


@pytest.mark.parametrize(
    "arguments",
    [
        {"tile_grid_size": (2, 3)},
        {"tile_grid_size": (3, 2), "clip_limit": 1.5},
        {"tile_grid_size": (1, 4), "clip_limit": 0.0},
        {"value_range": (0, 300)},
    ],
)
def test_histograms_of_tiles_are_those_of_keras(arguments):
    both("ContrastLimitedAdaptiveHistogramEqualization", PHOTO, train=False, **arguments)


def test_a_blur_is_that_of_keras_inside_the_border():
    sharp = np.random.default_rng(1).uniform(0, 255, (1, 9, 8, 3)).astype(np.float32)
    expected = keras_values(
        lambda: keras.ops.image.gaussian_blur(
            sharp, kernel_size=(3, 5), sigma=(0.7, 1.3), data_format="channels_last"
        )
    )
    across, down = (gaussian(n, jnp.float32(s), jnp.float32) for n, s in ((3, 0.7), (5, 1.3)))
    np.testing.assert_allclose(blurred(sharp[0], down, across), expected[0], rtol=1e-5, atol=1e-3)
    repeated = blurred(sharp[0], down, across, mode="edge")
    np.testing.assert_allclose(repeated[2:-2, 1:-1], expected[0, 2:-2, 1:-1], rtol=1e-5, atol=1e-3)
    assert gaussian(5, jnp.float32(0), jnp.float32).tolist() == [0, 0, 1, 0, 0]


def test_blurring_keeps_flat_images_and_the_mean_of_others():
    flat = np.full((2, 6, 5, 3), 130, np.float32)
    blur = jl.RandomGaussianBlur((1.0, 1.0), (3, 5), (0.5, 2.0))
    np.testing.assert_allclose(ours(blur, flat), flat, rtol=1e-6)
    soft = ours(blur, PHOTO)
    assert np.all(soft.std((1, 2)) < PHOTO.std((1, 2)))
    np.testing.assert_array_equal(ours(jl.RandomGaussianBlur(0.0), PHOTO), PHOTO)
    np.testing.assert_allclose(ours(jl.RandomGaussianBlur((1.0, 1.0), sigma=0.0), PHOTO), PHOTO, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_a_perspective_is_that_of_keras(interpolation):
    start = np.array([[0, 0], [5, 0], [0, 6], [5, 6]], np.float32)
    end = start * (1 + np.random.default_rng(3).uniform(-0.4, 0.4, (4, 2)).astype(np.float32))
    expected = keras_values(
        lambda: keras.ops.image.perspective_transform(
            PHOTO[:1], start[None], end[None], interpolation=interpolation, fill_value=3.0,
            data_format="channels_last",
        )
    )  # fmt: skip
    places = homography(jnp.asarray(end), jnp.asarray(start), 7, 6)
    received = sampled(jnp.asarray(PHOTO[0]), places, "constant", interpolation, 3.0)
    np.testing.assert_allclose(received, expected[0], rtol=1e-4, atol=0.05)


def test_perspectives_are_drawn_for_each_image():
    x = np.repeat(PHOTO[:1], 6, 0)
    y = ours(jl.RandomPerspective((1.0, 1.0), 0.8), x)
    assert len({image.tobytes() for image in y}) == 6
    np.testing.assert_allclose(y[:, 0, 0], x[:, 0, 0], rtol=1e-4)  # the corner that stays
    np.testing.assert_allclose(ours(jl.RandomPerspective(scale=0.0), x), x, rtol=1e-4, atol=1e-2)
    line = x[:, :1]
    np.testing.assert_array_equal(ours(jl.RandomPerspective((1.0, 1.0)), line), line)


@pytest.mark.parametrize("fill_mode", ["reflect", "mirror", "nearest"])
def test_elastic_images_bend_smoothly_and_both_ways(fill_mode):
    rows, columns = np.meshgrid(np.arange(40.0), np.arange(40.0), indexing="ij")
    x = np.stack([rows, columns], -1)[None].astype(np.float32)
    bend = jl.RandomElasticTransform((1.0, 1.0), (1.0, 1.0), fill_mode=fill_mode)
    moved = (ours(bend, x) - x)[0, 8:-8, 8:-8]  # what each pixel moved by, away from the border
    assert np.abs(moved).max() > 0.2
    assert np.abs(np.diff(moved, axis=0)).max() < np.abs(moved).max(), "neighbors move alike"
    assert abs(np.corrcoef(moved[..., 0].ravel(), moved[..., 1].ravel())[0, 1]) < 0.9, "independent fields"
    np.testing.assert_allclose(ours(jl.RandomElasticTransform(scale=0.0), x), x, rtol=1e-6)
    np.testing.assert_array_equal(ours(jl.RandomElasticTransform(0.0), x), x)


def test_aug_mix_stays_in_range_and_draws_for_each_image():
    x = np.repeat(PHOTO[:1], 3, 0)
    mix = jl.AugMix(num_chains=2, chain_depth=2, all_ops=False)
    y = ours(mix, x)
    assert y.min() >= 0
    assert y.max() <= 255
    assert len({image.tobytes() for image in y}) == 3
    np.testing.assert_array_equal(ours(mix, x, train=False), x)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: jl.RandomGaussianBlur(kernel_size=4), "odd whole number.*kernel_size=4"),
        (lambda: jl.RandomGaussianBlur(sigma=-1.0), "sigma"),
        (lambda: jl.RandomElasticTransform(fill_mode="edge"), "fill_mode='edge'"),
        (lambda: jl.RandomPerspective(scale=2.0), "scale=2.0"),
        (lambda: jl.AugMix(alpha=0.0), "alpha=0.0"),
        (lambda: jl.AugMix(num_chains=0), "num_chains=0"),
        (
            lambda: jl.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(0, 2)),
            "tile_grid_size=0",
        ),
    ],
)
def test_distortions_refuse(make, text):
    with pytest.raises(ValueError, match=text):
        make()
