"""What PyTorch's libraries compute of networks that Keras lacks, for `tests/test_applications_torch.py`.

Weights are drawn by their names, so only names, shapes and outputs are recorded. Beside networks there are
layers with weights that PyTorch keeps in parts. Needs `torch==2.13.0`, `torchvision==0.28.0`, `timm==1.0.31`,
`transformers==5.24.0`, `numpy` and `safetensors`:

    python tests/recorded/make_torch_applications.py [NAME ...]

With names only these are made anew.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from applications_torch import FILE, TOKENS, TYPES, images, weights_of

# The package of torchvision is one for CUDA; without CUDA these operators, which nobody calls, are missing.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from torch.nn.utils import parametrizations, spectral_norm, weight_norm  # noqa: E402

VIT = (2, 64, 64, 3)


def on_images(module: torch.nn.Module, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    x = images(shape) if shape else images()
    return module(torch.from_numpy(x.transpose(0, 3, 1, 2)))


def on_texts(module: torch.nn.Module) -> torch.Tensor:
    """The first features of each token, and of the second text's padding nothing."""
    mask = torch.from_numpy((TOKENS > 0).astype(np.int64))
    tokens, types = (torch.from_numpy(a.astype(np.int64)) for a in (TOKENS, TYPES))
    output = module(tokens, attention_mask=mask, token_type_ids=types).last_hidden_state
    return (output * mask[..., None])[..., :16]


def lite(number: int) -> Callable[[], torch.nn.Module]:
    return lambda: timm.create_model(f"tf_efficientnet_lite{number}", num_classes=10)


def bert(**sizes: int) -> Callable[[], torch.nn.Module]:
    return lambda: transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)


SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
NETWORKS: dict[str, tuple[str, Callable[[], torch.nn.Module], Callable[[Any], torch.Tensor]]] = {
    **{f"EfficientNetLite{n}": ("timm", lite(n), on_images) for n in range(5)},
    "SqueezeNet": ("torchvision", lambda: torchvision.models.squeezenet1_1(num_classes=10), on_images),
    "ViTB16": (
        "torchvision",
        lambda: torchvision.models.vit_b_16(image_size=64, num_classes=10),
        lambda module: on_images(module, VIT),
    ),
    "BERTBase": ("transformers", bert(), on_texts),
    "MiniLM": ("transformers", bert(**SMALL), on_texts),
}
SMALL_IMAGE = (2, 7, 6, 4)


def on_small_image(module: torch.nn.Module) -> torch.Tensor:
    return on_images(module, SMALL_IMAGE)


def on_sequence(module: torch.nn.Module) -> torch.Tensor:
    return module(torch.from_numpy(images((2, 5, 3))))[0]


def on_itself(module: torch.nn.Module) -> torch.Tensor:
    x = torch.from_numpy(images((2, 5, 4)))
    return module(x, x, x)[0]


def both_ways(f: Callable[..., torch.nn.Module]) -> torch.nn.Module:
    lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    return f(f(lstm, "weight_hh_l0"), "weight_ih_l0_reverse")


def attention(f: Callable[..., torch.nn.Module]) -> torch.nn.Module:
    return f(torch.nn.MultiheadAttention(4, 2, batch_first=True), "in_proj_weight")


# The same by PyTorch's older and newer functions; each keeps the weight in parts.
LAYERS: dict[str, tuple[str, Callable[[], torch.nn.Module], Callable[[Any], torch.Tensor]]] = {
    f"{kind}{age}": ("torch", make, run)
    for age, weight, spectral in (
        ("", parametrizations.weight_norm, parametrizations.spectral_norm),
        ("_older", weight_norm, spectral_norm),
    )
    for kind, make, run in (
        ("weight_norm", lambda f=weight: f(torch.nn.Conv2d(4, 3, 3)), on_small_image),
        ("spectral_norm", lambda f=spectral: f(torch.nn.Conv2d(4, 3, (3, 2))), on_small_image),
        (
            "spectral_norm_transposed",
            lambda f=spectral: f(torch.nn.ConvTranspose2d(4, 4, 3, stride=2)),
            on_small_image,
        ),
        (
            "spectral_norm_recurrent",
            lambda f=spectral: f(torch.nn.LSTM(3, 4, batch_first=True), "weight_hh_l0"),
            on_sequence,
        ),
        ("spectral_norm_converged", lambda f=spectral: f(torch.nn.Conv2d(4, 3, (3, 2))), on_small_image),
        ("weight_norm_both_ways", lambda f=weight: both_ways(f), on_sequence),
        ("spectral_norm_both_ways", lambda f=spectral: both_ways(f), on_sequence),
        ("weight_norm_attention", lambda f=weight: attention(f), on_itself),
        ("spectral_norm_attention", lambda f=spectral: attention(f), on_itself),
    )
}


def main() -> None:
    torch.set_num_threads(1)
    values: dict[str, np.ndarray] = {}
    cases = NETWORKS | LAYERS
    asked = sys.argv[1:] or list(cases)
    if sys.argv[1:]:
        values |= load_file(FILE)
    for name in asked:
        _, make, run = cases[name]
        module = make()
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        weights = weights_of(name, shapes)
        module.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
        with torch.no_grad():
            values[f"{name}/output"] = run(module.eval()).contiguous().numpy()
        text = json.dumps([[key, list(shape)] for key, shape in shapes.items()]).encode()
        values[f"{name}/weights"] = np.frombuffer(zlib.compress(text, 9), np.uint8)
        print(name, len(shapes), values[f"{name}/output"].shape, flush=True)
    references = json.dumps({name: reference for name, (reference, *_) in cases.items()})
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm, transformers)}
    save_file(values, FILE, metadata={"references": references, **versions})
    print(f"{FILE.stat().st_size / 1000:.0f} kB in {FILE}")


if __name__ == "__main__":
    main()
