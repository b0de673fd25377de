"""A folder of images larger than the memory that is given to it.

Scikit-learn's digits are written as PNG files, in a folder for each class. Of those to train on, the cache
holds a third: they are read once, the others again in each epoch, in threads, while the device works.

    python examples/image_folder.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import jlayers as jl
from jlayers.data import image_dataset_from_directory


def write_images(folder: Path) -> None:
    """Each digit as `3/0017.png`, 24 by 24 pixels."""
    for number, (pixels, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).astype(np.uint8)).resize((24, 24))
        image.save(folder / str(label) / f"{number:04}.png")


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train on a folder of images that memory does not hold.")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(), "digits")
    write_images(folder)
    data = image_dataset_from_directory(
        folder, color_mode="grayscale", image_size=(24, 24), test_fraction=0.2, cache_bytes=500 * 24 * 24
    )
    print(data)
    model = jl.Sequential([
        jl.Rescaling(1 / 255),
        jl.Conv2D(16, 3, strides=2, activation="relu"),
        jl.Conv2D(32, 3, strides=2, activation="relu"),
        jl.Flatten(),
        jl.Dense(10, activation="softmax"),
    ])  # fmt: skip
    trainer = jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])
    state, _ = jl.fit(trainer, *data.train, epochs=arguments.epochs, callbacks=[jl.ProgressBar()])
    logs = jl.evaluate(trainer, state, *data.test)
    print(f"held out: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}")
    return logs


if __name__ == "__main__":
    main()
