"""Weights by PyTorch's names and shapes, the same for what PyTorch gave and for the networks here.

Nothing but NumPy is imported, for `tests/recorded/make_torch_applications.py` runs where jlayers is not.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "recorded" / "torch_applications.safetensors"
IMAGES = (2, 67, 83, 3)  # no multiples of the strides
TOKENS = np.array([[101, 7592, 2088, 2003, 2307, 2005, 102], [101, 2748, 999, 102, 0, 0, 0]], np.int32)
TYPES = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]], np.int32)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a trained network's size, which depend on the name only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(1)
    if last == "running_var":
        return rng.uniform(0.6, 1.2, shape).astype(np.float32)
    if last == "weight" and len(shape) == 1:  # small, so that rounding does not grow from block to block
        return rng.uniform(0.2, 0.6, shape).astype(np.float32)
    scale = 0.1 if len(shape) < 2 else np.sqrt(2 / np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def weights_of(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Drawn weights of a network or a layer; of a converged `spectral_norm` with its singular vectors."""
    weights = {n: drawn(n, shape) for n, shape in shapes.items()}
    if "converged" in name:
        find = {role: next(n for n in shapes if n.endswith(role)) for role in ("_u", "_v")}
        kernel = next(array for n, array in weights.items() if n.endswith(("weight_orig", "weight.original")))
        u, _, v = np.linalg.svd(kernel.reshape(len(kernel), -1), full_matrices=False)
        weights |= {find["_u"]: u[:, 0], find["_v"]: v[0]}
    return weights


def images(shape: tuple[int, ...] = IMAGES) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def recorded() -> dict[str, dict[str, Any]]:
    """By network: the shapes of its weights by name in PyTorch's order, its output, and who gave it."""
    from safetensors import safe_open

    found: dict[str, dict[str, Any]] = {}
    with safe_open(FILE, "numpy") as file:
        for name, reference in json.loads(file.metadata()["references"]).items():
            text = zlib.decompress(file.get_tensor(f"{name}/weights").tobytes())
            shapes = {weight: tuple(shape) for weight, shape in json.loads(text)}
            found[name] = {
                "weights": shapes,
                "output": file.get_tensor(f"{name}/output"),
                "reference": reference,
            }
    return found


HUGGING_FACE = {
    "embeddings.word_embeddings.weight": "word_embeddings/embeddings",
    "embeddings.token_type_embeddings.weight": "token_type_embeddings/embeddings",
    "embeddings.position_embeddings.weight": "position_embeddings/embeddings",
    "embeddings.position_ids": None,
    "embeddings.LayerNorm.*": "embeddings_norm/*",
    "encoder.layer.*.attention.self.*.*": "encoder_*/attention/*/*",
    "encoder.layer.*.attention.output.dense.*": "encoder_*/attention/attention_output/*",
    "encoder.layer.*.attention.output.LayerNorm.*": "encoder_*/attention_norm/*",
    "encoder.layer.*.intermediate.dense.*": "encoder_*/intermediate/*",
    "encoder.layer.*.output.dense.*": "encoder_*/output/*",
    "encoder.layer.*.output.LayerNorm.*": "encoder_*/output_norm/*",
    "pooler.**": None,
}

TORCHVISION = {
    "class_token": "class_token/token",
    "conv_proj.*": "patch_embedding/*",
    "encoder.pos_embedding": "position_embedding/embeddings",
    "encoder.layers.encoder_layer_*.ln_1.*": "encoder_*/attention_norm/*",
    "encoder.layers.encoder_layer_*.self_attention.**": "encoder_*/attention/**",
    "encoder.layers.encoder_layer_*.ln_2.*": "encoder_*/output_norm/*",
    "encoder.layers.encoder_layer_*.mlp.0.*": "encoder_*/intermediate/*",
    "encoder.layers.encoder_layer_*.mlp.3.*": "encoder_*/output/*",
    "encoder.ln.*": "norm/*",
    "heads.head.*": "predictions/*",
}


def network(name: str) -> tuple[Any, list[np.ndarray], dict[str, Any]]:
    """The application, its inputs, and how the weights get their names."""
    import jlayers as jl

    make = getattr(jl.applications, name)
    if name in ("BERTBase", "MiniLM"):
        rename = {k: new for k, new in HUGGING_FACE.items() if new}
        return make(token_types=True), [TOKENS, TYPES], {"rename": rename}
    shape = (2, 64, 64, 3) if name == "ViTB16" else IMAGES
    model = make(input_shape=shape[1:], classes=10, classifier_activation=None)
    by = {"rename": TORCHVISION} if name == "ViTB16" else {"by": "order"}
    return model, [images(shape)], by


def difference(name: str, source: Any = None) -> float:
    """The largest difference from PyTorch's output, by the range of it; weights are drawn or from a file."""
    import jax

    import jlayers as jl

    (model, inputs, by), there = network(name), recorded()[name]
    expected = there["output"]
    weights = source or weights_of(name, there["weights"])
    params, state = jl.load_weights(model, weights, inputs, **by)
    output = jax.jit(lambda params, state, *x: model.apply(params, state, *x)[0])(params, state, *inputs)
    if expected.ndim == 3:  # of texts some features, and nothing for padding
        output = output.values[..., : expected.shape[-1]] * output.mask[..., None].astype("float32")
    assert output.shape == expected.shape
    return float(np.abs(np.asarray(output) - expected).max() / np.ptp(expected))
