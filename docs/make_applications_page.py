"""Writes `docs/applications.md`: every application with its parameters, FLOPs, and what it was compared with.

    python docs/make_applications_page.py                 # the page, from what was counted and measured
    python docs/make_applications_page.py --count         # count parameters and FLOPs anew
    python docs/make_applications_page.py --measure NAME  # compare with Keras anew; no name means all
    python docs/make_applications_page.py --time NAME     # beside Keras, in turns; no name means a few

What was counted goes into `jlayers/applications/costs.json`, where `jlayers list applications` finds it, and
what was measured into `docs/applications_measured.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np

import jlayers as jl
from jlayers.applications import costs, published
from jlayers.core.layer import layers

HERE = Path(__file__).resolve().parent
PAGE = HERE / "applications.md"
MEASURED = HERE / "applications_measured.json"
COUNTED = Path(jl.applications.__file__).parent / "costs.json"
NAMES = [name.partition(".")[2] for name in layers.group("applications")]

HEAD = """# Applications

Made by `python docs/make_applications_page.py`; do not edit it by hand.

Parameters include those that are not trained. FLOPs are those of one forward pass of one image of the given
size, or of one text of 128 tokens; a multiply-add counts as two. Top-1 is the accuracy on ImageNet, in
percent, that Keras or the authors report for their weights. The difference is the largest one between the
outputs here and in Keras on JAX, with the same random weights in float32 and images of 32 by 32
(InceptionV3 75, Xception 71), divided by the range of the output. The formats are those in which Keras
wrote these weights and jlayers read them unchanged. Where Keras lacks a network, the reference is the
PyTorch library in brackets, on images of 67 by 83 (ViTB16 64 by 64) or two short texts, with its weights in
its layouts and names (`pytest --full tests/test_applications_torch.py`). An empty cell was not measured.

Times are milliseconds for a training step and for inference, here and in Keras on JAX. Both are measured in
one process and in turns, with a batch of 4 images of the given size on two CPU cores (`--time`); networks for
the largest images take one at a time, as marked. Most were taken before large convolutions were left to XLA:
those of DenseNet169 and 201, ConvNeXtBase, EfficientNetB3 to B7, V2B2 to V2L, VGG16 and VGG19 after it.

Where Keras has the network, a test compares the name and shape of every weight with Keras's (`pytest
--full tests/test_applications.py`). The 7 statistics of colors that Keras counts in an EfficientNet are
arguments here and are not counted.

"""
FEW = ("MobileNetV2", "ResNet50", "EfficientNetB0", "VGG16", "DenseNet121")  # one of each kind, for --time
OTHER_FORMATS = {
    "EfficientNetLite0": "`.pth`; names real photographs",
    "SqueezeNet": "pickled dict; names real photographs",
    "MiniLM": "Hugging Face's safetensors, real weights",
}


def inputs_of(name: str) -> jax.ShapeDtypeStruct:
    size = published(name).size
    text = name in ("BERTBase", "MiniLM")
    return (
        jax.ShapeDtypeStruct((1, size), "int32")
        if text
        else jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    )


def count(name: str) -> dict[str, int]:
    """Parameters and FLOPs; nothing is computed."""
    model, x = getattr(jl.applications, name)(), inputs_of(name)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    parameters = sum(leaf.size for leaf in jax.tree.leaves((params, state)))
    return {"parameters": parameters, "flops": jl.flops(lambda *a: model.apply(*a)[0], params, state, x)}


def measure(name: str) -> dict[str, Any]:
    """The difference from Keras, and the formats in which Keras's weights arrive."""
    import applications_keras as same
    import h5py
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    size = same.SMALL.get(name, 32)
    options = {"input_shape": (size, size, 3), "classes": 10, "classifier_activation": None}
    x, theirs, ours = same.images(size), same.keras_model(name, **options), same.ours(name, **options)
    expected, received = same.keras_output(theirs, x), same.output(ours, x)
    difference = float(np.abs(received - expected).max() / (expected.max() - expected.min()))
    params, state = same.filled(ours, x.shape)
    formats = []
    with tempfile.TemporaryDirectory() as folder:
        files = {name: f"{folder}/a{name}" for name in (".weights.h5", ".h5", ".keras")}
        theirs.save_weights(files[".weights.h5"])
        with h5py.File(files[".h5"], "w") as file:  # as Keras wrote it before version 3
            legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
        theirs.save(files[".keras"])
        for kind, path in files.items():
            try:
                read = jl.load_weights(ours, path, x.shape)
            except (ValueError, KeyError) as error:
                print(f"{name}, {kind}: {str(error)[:400]}", flush=True)
                continue
            if all(map(np.array_equal, jax.tree.leaves(read), jax.tree.leaves((params, state)))):
                formats.append(kind)
    keras.backend.clear_session()
    jax.clear_caches()
    return {"difference": difference, "formats": formats}


def measure_with_torch(name: str) -> dict[str, Any]:
    """The difference from what a library of PyTorch gave."""
    import applications_torch as theirs

    return {"difference": theirs.difference(name), "reference": theirs.recorded()[name]["reference"]}


def timed(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name the times beside Keras's."""
    sys.path.insert(0, str(HERE.parent))
    from benchmarks.applications import times_of

    for name in names:
        yield name, {"times": times_of(name)}


def milliseconds(times: dict[str, Any], what: str) -> str:
    if not times:
        return ""
    both = f"{times[what]['jlayers']:,.0f}, Keras {times[what]['keras']:,.0f}"
    return f"{both} (1 image)" if times["batch"] == 1 else both


def page() -> str:
    counted, measured = costs(), json.loads(MEASURED.read_text())
    rows = []
    for name in NAMES:
        facts, cost, known = published(name), counted[name], measured.get(name, {})
        difference, formats = "", OTHER_FORMATS.get(name, "")
        if "difference" in known:
            reference = f" ({known['reference']})" if "reference" in known else ""
            difference = f"{known['difference']:.0e}{reference}"
        if "formats" in known:
            formats = ", ".join(f"`{kind}`" for kind in known["formats"])
        rows.append(
            [
                f"`{name}`",
                str(facts.size),
                f"{cost['parameters']:,}",
                f"{cost['flops'] / 1e9:.2f}",
                "" if facts.top1 is None else f"{facts.top1:.1f}",
                difference,
                formats,
                *(milliseconds(known.get("times", {}), what) for what in ("step", "inference")),
            ]
        )
    titles = [
        "Application",
        "Size",
        "Parameters",
        "GFLOPs",
        "Top-1",
        "Difference",
        "Formats",
        "Step",
        "Inference",
    ]
    return HEAD + table(titles, rows)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["---:"] * 4, "---", "---", "---:", "---:"], *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def write(path: Path, value: dict[str, Any]) -> None:
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value))
    path.write_text("{\n" + rows + "\n}\n")


def note(found: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Keep each thing measured as soon as it is there."""
    for name, facts in found:
        known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        write(MEASURED, {**known, name: known.get(name, {}) | facts})
        print(name, facts, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--measure", nargs="*", metavar="NAME")
    parser.add_argument("--time", nargs="*", metavar="NAME")
    given = parser.parse_args()
    if given.count:
        write(COUNTED, {name: count(name) for name in NAMES})
    if given.measure is not None:
        sys.path.insert(0, str(HERE.parent / "tests"))
        applications = __import__("keras").applications
        for name in given.measure or NAMES:
            note([(name, (measure if hasattr(applications, name) else measure_with_torch)(name))])
    if given.time is not None:
        note(timed(given.time or FEW))
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
