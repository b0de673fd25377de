"""Folders of images and of texts by class: what becomes of each file, its label, errors, training, YAML."""

import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

import jlayers as jl
from jlayers.cli import main
from jlayers.data.folders import files_in
from jlayers.data.images import ImageFiles, ImageForm, read_image
from jlayers.data.lazy import LazyArray
from jlayers.data.texts import TextForm, read_text

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (6, 4), np.uint8)
COLOR = RNG.integers(0, 256, (6, 4, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 4, 4), np.uint8)


def form(**options):
    return ImageForm(**{"image_size": (6, 4), **options})


def saved(tmp_path, image, name="one.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


# ------------------------------------------------------------------------------------------ one image


@pytest.mark.parametrize("name", ["one.png", "one.bmp", "one.webp", "ONE.PNG"])
def test_color(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(COLOR), name, **({"lossless": True} if "webp" in name else {}))
    np.testing.assert_array_equal(read_image(path, form()), COLOR)
    gray = np.asarray(Image.fromarray(COLOR).convert("L"))
    np.testing.assert_array_equal(read_image(path, form(color_mode="grayscale")), gray[..., None])
    np.testing.assert_array_equal(read_image(path, form(color_mode="rgba"))[..., 3], 255)


def test_jpeg(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 4, dtype=np.uint8)[None, :, None], (6, 1, 3))
    path = saved(tmp_path, Image.fromarray(smooth), "one.jpg", quality=95)
    np.testing.assert_allclose(read_image(path, form()).astype(int), smooth, atol=8)


def test_gray(tmp_path):
    path = saved(tmp_path, Image.fromarray(GRAY))
    np.testing.assert_array_equal(read_image(path, form()), np.repeat(GRAY[..., None], 3, 2))
    path = saved(tmp_path, Image.fromarray(GRAY > 99), "bits.png")
    np.testing.assert_array_equal(read_image(path, form(color_mode="grayscale"))[..., 0], 255 * (GRAY > 99))


def test_transparency_is_dropped_or_kept(tmp_path):
    path = saved(tmp_path, Image.fromarray(ALPHA))
    np.testing.assert_array_equal(read_image(path, form()), ALPHA[..., :3])
    np.testing.assert_array_equal(read_image(path, form(color_mode="rgba")), ALPHA)
    gray_alpha = Image.fromarray(ALPHA).convert("LA")
    expected = np.asarray(gray_alpha)[..., 0]
    path = saved(tmp_path, gray_alpha, "la.png")
    np.testing.assert_array_equal(read_image(path, form(color_mode="grayscale"))[..., 0], expected)


@pytest.mark.parametrize("mode", ["grayscale", "rgb", "rgba"])
@pytest.mark.parametrize("size", [(6, 4), (3, 2)])
def test_gray_of_sixteen_bits_keeps_its_fractions(tmp_path, mode, size):
    deep = np.full((6, 4), 1000, np.uint16)
    deep[0, 0] = 65535 if size == (6, 4) else 1000
    path = saved(tmp_path, Image.fromarray(deep))
    pixels = read_image(path, form(color_mode=mode, image_size=size))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[1, 1, 0], 1000 / 257, rtol=1e-6)
    assert pixels.shape == (*size, {"grayscale": 1, "rgb": 3, "rgba": 4}[mode])
    assert mode != "rgba" or (pixels[..., 3] == 255).all()
    assert size == (3, 2) or pixels[0, 0, 0] == 255


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.new("P", (4, 6))
    image.putdata((GRAY % 4).ravel().tolist())
    colors = RNG.integers(0, 256, (4, 3), np.uint8)
    image.putpalette(colors.ravel().tolist())
    for options in ({}, {"transparency": 2}):
        path = saved(tmp_path, image, **options)
        np.testing.assert_array_equal(read_image(path, form()), colors[GRAY % 4])
        alpha = read_image(path, form(color_mode="rgba"))[..., 3]
        np.testing.assert_array_equal(alpha == 0, (GRAY % 4 == 2) & bool(options))


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (4, 6), value) for value in (10, 200)]
    path = saved(tmp_path, frames[0], "one.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path, form()), 10)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(COLOR), exif=exif.tobytes())
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    flipped = COLOR[:, ::-1] if orientation in (2, 4, 5, 7) else COLOR
    expected = np.rot90(flipped, turns)
    pixels = read_image(path, ImageForm(image_size=expected.shape[:2]))
    np.testing.assert_array_equal(pixels, expected)


# ----------------------------------------------------------------------------------------------- sizes


def test_sizes(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOR))
    for name in ("nearest", "bilinear", "bicubic", "area", "lanczos3"):
        pixels = read_image(path, ImageForm(image_size=(9, 7), interpolation=name))
        assert pixels.shape == (9, 7, 3)
    area = read_image(path, ImageForm(image_size=(3, 2), interpolation="area"))
    np.testing.assert_allclose(area, COLOR.reshape(3, 2, 2, 2, 3).mean((1, 3)), atol=1)
    np.testing.assert_array_equal(
        read_image(path, ImageForm(image_size=(12, 8), interpolation="nearest")),
        COLOR.repeat(2, 0).repeat(2, 1),
    )


def test_cropped_and_padded(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOR))
    cropped = read_image(path, ImageForm(image_size=(4, 4), crop_to_aspect_ratio=True))
    np.testing.assert_array_equal(cropped, COLOR[1:5])
    padded = read_image(path, ImageForm(image_size=(6, 6), pad_to_aspect_ratio=True))
    np.testing.assert_array_equal(padded[:, 1:5], COLOR)
    assert not padded[:, [0, 5]].any()
    wide = read_image(path, ImageForm(image_size=(3, 4), crop_to_aspect_ratio=True))
    np.testing.assert_array_equal(wide.shape, (3, 4, 3))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"image_size": (0, 4)}, r"image_size=\(0, 4\)"),
        ({"color_mode": "cmyk"}, "'rgba'.*color_mode='cmyk'"),
        ({"interpolation": "gaussian"}, "interpolation='gaussian'"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "to crop or to pad"),
    ],
)
def test_forms_that_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        form(**options)


# --------------------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    """Dark and light images, of odd sizes and several kinds, among files that do not count."""
    root = tmp_path / "pictures"
    for number in range(24):
        light = number % 3 == 0
        inside = root / ("light" if light else "dark") / ("more" if number % 4 == 0 else "")
        inside.mkdir(parents=True, exist_ok=True)
        size = (5 + number % 3, 4 + number % 2)
        pixels = RNG.integers(160 if light else 0, 255 if light else 90, (*size, 3), np.uint8)
        image = Image.fromarray(pixels).convert(["RGB", "L", "RGBA"][number % 3])
        image.save(inside / f"{number:02}.{['png', 'jpg', 'png'][number % 3 if number % 3 else 0]}")
    (root / "dark" / "notes.md").write_text("no image")
    (root / "dark" / ".hidden.png").write_bytes(b"?")
    (root / ".git").mkdir()
    (root / "readme.png").write_bytes(b"outside of all classes")
    return root


def load(folder, **options):
    options = {"image_size": (6, 5), "test_fraction": 0.25, **options}
    return jl.data.image_dataset_from_directory(folder, **options)


def test_classes_and_split(folder):
    data = load(folder)
    assert data.class_names == ("dark", "light")
    assert data.sizes == (18, 6)
    assert np.bincount(data.train[1]).tolist() == [12, 6]
    assert np.bincount(data.test[1]).tolist() == [4, 2]
    x, y = data.train
    assert isinstance(x, LazyArray)
    assert x[:].mean((1, 2, 3)).shape == y.shape
    np.testing.assert_array_equal(x[:].mean((1, 2, 3)) > 125, y == 1)
    other = load(folder, seed=1)
    assert (other.train[1] != y).any()
    assert load(folder).fingerprint() == data.fingerprint() != other.fingerprint()
    turned = load(folder, class_names=["light", "dark"])
    assert turned.class_names == ("light", "dark")
    assert str(data) == "pictures: 18 for training, 6 held out; x float32(6, 5, 3), y int32(), 2 classes"


def test_label_modes_and_a_test_directory(folder):
    assert load(folder, label_mode="binary").train[1].shape == (18, 1)
    hot = load(folder, label_mode="categorical")
    assert hot.test[1].shape == (6, 2)
    assert hot.test[1].sum() == 6
    data = load(folder, test_directory=folder, test_fraction=0.0)
    assert data.sizes == (24, 24)
    assert data.test[1].tolist() == [0] * 16 + [1] * 8


def test_the_fingerprint_sees_names_sizes_and_content(folder):
    files = files_in(folder, (".png",))
    before = ImageFiles(files, form()).fingerprint()
    path = folder / files.names[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert ImageFiles(files, form()).fingerprint() != before
    path.write_bytes(content)
    assert ImageFiles(files, form()).fingerprint() == before
    path.rename(path.with_name("zz.png"))
    assert ImageFiles(files_in(folder, (".png",)), form()).fingerprint() != before


def test_memory_is_bounded_by_the_cache(folder, monkeypatch):
    files = files_in(folder / "dark", (".png", ".jpg"))
    reads = []
    monkeypatch.setattr(
        "jlayers.data.images.read_image",
        lambda path, form: reads.append(path) or np.zeros(form.shape, np.uint8),
    )
    images = ImageFiles(files, form(), cache_bytes=5 * 72 + 10)
    first = images[:]
    assert len(reads) == 16
    np.testing.assert_array_equal(images[:], first)
    assert len(reads) == 16 + 11
    assert sum(image.nbytes for image in images._kept.values()) == 5 * 72


def damage(folder, what):
    path = folder / "dark" / "more" / "04.jpg"
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif what == "text":
        path.write_bytes(b"%!PS-Adobe: no image")
    elif what == "empty":
        path.write_bytes(b"")
    else:
        path = folder / "light"
        for file in sorted(path.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    return path


@pytest.mark.parametrize("what", ["truncated", "text", "empty", "nothing"])
def test_a_broken_file_is_named(folder, what):
    path = damage(folder, what)
    with pytest.raises(ValueError, match=str(path)):
        load(folder, test_fraction=0.0).train[0][:]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"class_names": ["dark", "bright"]}, ValueError, "no folder for the class 'bright'"),
        ({"class_names": ["dark", "dark"]}, ValueError, "names that differ"),
        ({"class_names": ["dark"], "label_mode": "binary"}, ValueError, "expected 2 classes, received 1"),
        ({"label_mode": "one_hot"}, ValueError, "label_mode='one_hot'"),
        ({"test_directory": "x"}, ValueError, "received both"),
        ({"cache_bytes": -1}, ValueError, "cache_bytes=-1"),
    ],
)
def test_arguments_that_are_refused(folder, options, error, text):
    with pytest.raises(error, match=text):
        load(folder, **options)


def test_no_folder(folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="received nothing"):
        load(tmp_path / "none")
    with pytest.raises(NotADirectoryError, match="received a file"):
        load(folder / "readme.png")
    with pytest.raises(ValueError, match="a folder for each class"):
        load(folder / "dark" / "more")


@functools.cache
def classifier():
    model = jl.Sequential(jl.Rescaling(1 / 255), jl.Flatten(), jl.Dense(2, "softmax"))
    return jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])


@pytest.mark.slow
def test_training_on_a_folder_is_training_on_its_arrays(folder):
    x, y = load(folder).train
    options = {
        "batch_size": 4,
        "epochs": 2,
        "validation_split": 0.25,
        "class_weight": "balanced",
        "steps_per_call": 1,
    }
    lazy, history = jl.fit(classifier(), x, y, **options)
    whole, expected = jl.fit(classifier(), x[:], y, **options)
    assert history == expected
    np.testing.assert_array_equal(lazy.params["dense"]["kernel"], whole.params["dense"]["kernel"])
    assert jl.evaluate(classifier(), lazy, x, y) == jl.evaluate(classifier(), lazy, x[:], y)
    np.testing.assert_array_equal(jl.predict(classifier(), lazy, x), jl.predict(classifier(), lazy, x[:]))
    together, _ = jl.fit(classifier(), x, y, **{**options, "steps_per_call": 2})
    np.testing.assert_array_equal(lazy.params["dense"]["kernel"], together.params["dense"]["kernel"])


def test_one_image_as_several_inputs(folder):
    data = jl.data.parts(load(folder), axis=2, names=["a", "b", "c", "d", "e"])
    assert isinstance(data.train[0]["b"], LazyArray)
    np.testing.assert_array_equal(data.train[0]["b"][:2], load(folder).train[0][:2][:, :, 1:2])
    assert jl.data.one_hot(load(folder)).train[1].shape == (18, 2)


def test_a_broken_file_ends_the_run_with_its_path_and_the_last_step(folder):
    data = load(folder, test_fraction=0.0)
    path = damage(folder, "truncated")
    data.train[0].whole._kept.clear()
    with pytest.raises(ValueError, match=str(path)) as caught:
        jl.fit(classifier(), *data.train, batch_size=2, shuffle=False)
    row = [str(data.train[0].whole.path(i)) for i in data.train[0].rows].index(str(path))
    assert int(caught.value.state.step) == row // 2


YAML = """
data:
  image_dataset_from_directory: {directory: pictures, image_size: [6, 5], test_fraction: 0.25}
model: {Sequential: [Flatten, Dense: {units: 2, activation: softmax}]}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
training: {epochs: 2, batch_size: 4, validation: 0.2, checkpoint: {every_steps: 2}}
"""


@pytest.mark.slow
def test_from_yaml(folder, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(YAML)
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--run", str(run)]) == 0
    capsys.readouterr()
    assert 0 <= json.loads((run / "results.json").read_text())["waited_for_data"] < 1
    assert main(["evaluate", str(run)]) == 0
    assert "accuracy" in capsys.readouterr().out
    one = next((folder / "light").glob("*.png"))
    for given, rows in ((folder / "dark", 16), (one, 1)):
        assert main(["predict", str(run), str(given)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == rows
        assert lines[0].startswith(("01.jpg  ", "light", "dark"))
    assert main(["predict", str(run), str(folder / "dark" / "notes.md")]) == 2
    assert ".jpeg" in capsys.readouterr().err
    next((folder / "dark").glob("*.jpg")).unlink()
    assert main(["evaluate", str(run)]) == 0
    assert "data have changed" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- texts


@pytest.fixture
def texts(tmp_path):
    for number in range(20):
        folder = tmp_path / "mail" / ("spam" if number % 2 else "ham")
        folder.mkdir(parents=True, exist_ok=True)
        words = "buy now cheap offer" if number % 2 else "dear friend see you"
        (folder / f"{number:02}.txt").write_text(f"{words} {number} é", encoding="utf-8")
        (folder / f"{number:02}.json").write_text("{}")
    return tmp_path / "mail"


def test_texts(texts):
    data = jl.data.text_dataset_from_directory(texts, test_fraction=0.2, max_length=7)
    assert data.sizes == (16, 4)
    x, y = data.train
    assert set(x[:]) == {"dear fr", "buy now"}
    np.testing.assert_array_equal(x[:] == "buy now", y == 1)
    with pytest.raises(TypeError, match="make numbers of text"):
        jl.fit(classifier(), x, y)


def test_texts_that_are_none(texts):
    path = texts / "ham" / "00.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"00.txt: expected text in utf-8.*latin-1"):
        read_text(path, TextForm())
    assert read_text(path, TextForm(encoding="latin-1")) == "café"
    with pytest.raises(ValueError, match="encoding='utf-9'"):
        TextForm(encoding="utf-9")


def test_texts_from_yaml(texts, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("""
data: {text_dataset_from_directory: {directory: mail, test_fraction: 0.2}}
preprocess:
  x: {TextVectorization: {output_mode: multi_hot, max_tokens: 30}}
model: {Sequential: [Dense: {units: 2, activation: softmax}]}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: 0.1}
training: {epochs: 4, batch_size: 4}
""")
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert "1.0" in capsys.readouterr().out
    assert main(["predict", str(run), str(texts / "spam" / "01.txt")]) == 0
    assert capsys.readouterr().out.startswith("spam")


# ----------------------------------------------------------------------------------------- lazy arrays


class Counted(LazyArray):
    def __init__(self, rows, chunks=None):
        super().__init__((rows, 2), np.float64)
        self.reads = 0
        if chunks:
            self.chunks, self.together = np.array(chunks), 2

    def read(self, rows):
        self.reads += 1
        return np.stack([rows, -rows], 1).astype(np.float64)

    def fingerprint(self):
        return "counted"


def test_rows_of_lazy_arrays():
    lazy = Counted(10)
    assert lazy[3].tolist() == [3, -3]
    assert lazy[[1, 2]].shape == lazy[4:6].shape == (2, 2)
    assert lazy.take(np.array([[1, 2], [3, 4]])).shape == (2, 2, 2)
    chosen = lazy.select(np.arange(10) % 2 == 1).select([0, 2])
    assert chosen[:][:, 0].tolist() == [1, 5]
    assert chosen.map(lambda a: a[:, :1] * 2)[:].tolist() == [[2], [10]]
    assert [len(part) for part in Counted(2500).parts()] == [1024, 1024, 452]
    assert np.asarray(lazy).shape == (10, 2)
    with pytest.raises(IndexError):
        lazy[10]


def test_shuffling_keeps_to_a_few_chunks_at_a_time():
    from jlayers.data.batches import ArrayBatches

    lazy = Counted(12, [3, 6, 9, 12])
    data = ArrayBatches(lazy, batch_size=2, shuffle=True)
    for epoch in range(3):
        rows = np.concatenate([batch.x[:, 0] for batch in data.epoch(epoch)]).astype(int)
        assert sorted(rows) == list(range(12))
        assert all(len({row // 3 for row in half}) == 2 for half in (rows[:6], rows[6:]))
    assert data.first().x.dtype == np.float32
    kept = lazy.select(np.arange(12) != 4)
    assert kept.chunks.tolist() == [3, 5, 8, 11]
    assert lazy.select([5, 2]).chunks is None


def test_values_are_looked_over_as_they_are_read():
    class Bad(Counted):
        def read(self, rows):
            return np.where(rows[:, None] == 5, np.nan, super().read(rows))

    with pytest.raises(ValueError, match=r"x\[1, 0\]=nan") as caught:
        jl.fit(jl.compile(jl.Dense(1), loss="mse"), Bad(8), np.zeros((8, 1)), batch_size=2, shuffle=False)
    assert caught.value.__notes__ == ["in batch 2 of the iterable"]
    with pytest.raises(ValueError, match="nan"):
        jl.predict(jl.Dense(1), jl.Dense(1).init(jax.random.key(0), (1, 2)), Bad(8))
