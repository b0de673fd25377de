"""Our weights as the `.weights.h5` that Keras 3 reads into the same architecture.

Keras finds a layer not by its name but by its class and its number among those of its class, in the order in
which Keras sorts a graph; so both are worked out here.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.layer import Layer
from jlayers.core.structure import Chain, Source, Table, Use
from jlayers.core.tree import flatten, join
from jlayers.interop.keras import need_h5py
from jlayers.interop.slots import slots_of

__all__ = ["by_class", "keras_content", "keras_order"]

# By the kind of a layer what Keras calls the layers inside, where it calls them otherwise than we do.
_HEADS = {
    "query": "query_dense",
    "key": "key_dense",
    "value": "value_dense",
    "gate": "gate_dense",
    "attention_output": "output_dense",
}
_INSIDE: dict[str, dict[str, str]] = {
    "Bidirectional": {},
    "GroupQueryAttention": _HEADS,
    "MultiHeadAttention": _HEADS,
    "RNN": {},
    "SpectralNormalization": {},
    "TimeDistributed": {},
}
_WITH_A_CELL = ("SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def keras_content(model: Layer, params: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    """The content of a `.weights.h5` file.

    Raises:
        ValueError: a layer that Keras does not have.
        ImportError: h5py is not installed.
    """
    h5py = need_h5py()
    tree = {"params": params, "state": state}
    arrays = flatten(tree)
    places = dict(_places(model))
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, place in places.items():
            group = file.require_group(join(place, "vars"))
            group.attrs["name"] = path.rpartition("/")[2] or model.name or "model"
        for slot in slots_of(model, tree, list(arrays)):
            kind = slot.layer.spec.name
            if slot.path not in places:
                raise ValueError(
                    f"save_weights: expected layers that Keras has, received {kind} at {slot.path!r}; save "
                    f"as .safetensors"
                )
            inner = "cell/vars" if kind in _WITH_A_CELL else "vars"
            group = file.require_group(join(places[slot.path], inner))
            own = [slot.paths[name] for name in _in_order(slot.wanted)]
            if kind == "SpectralNormalization":  # to Keras the kernel inside is a variable of both
                inside = [f"params/{join(slot.path, 'layer')}/{name}" for name in ("kernel", "embeddings")]
                own = [path for path in inside if path in arrays] + own
            for number, path in enumerate(own):
                _write(group, str(number), np.asarray(arrays[path]))
    return content.getvalue()


def by_class(model: Layer, paths: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """A renaming of arrays that stand under the class and number of their layers, as in Keras's first files.

    Args:
        model: which has the layers.
        paths: paths of its layers with arrays.
        names: names of all arrays. If layers are found under their own names, nothing is to be renamed.
    """
    groups = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2].isdigit()}
    kinds = {path: layer.spec.name for path, layer in model.walk()}
    places = {}
    for path, place in _places(model):
        plain = "/".join(part for part in place.split("/") if part != "layers")
        places[path] = join(plain, "cell") if kinds[path] in _WITH_A_CELL else plain
    if groups & set(paths) or not {places.get(path) for path in paths} <= groups:
        return {}
    return {f"{places[path]}/*": f"{path}/*" for path in paths}


_ORDER = ("depthwise_kernel", "pointwise_kernel", "kernel", "recurrent_kernel", "gamma", "beta", "bias",
          "moving_mean", "moving_variance")  # fmt: skip


def _in_order(names: Mapping[str, Any]) -> list[str]:
    """Keras's order of a layer's variables; a dict that JAX has made has them sorted."""
    known = [name for name in _ORDER if name in names]
    return [*known, *(name for name in names if name not in known)]


def _write(group: Any, name: str, array: np.ndarray) -> None:
    if array.dtype == jnp.bfloat16:  # as Keras does
        group.create_dataset(name, data=array.view(np.dtype("V2"))).attrs["dtype"] = "bfloat16"
    else:
        group.create_dataset(name, data=array)


def _places(layer: Layer, path: str = "", place: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of the path of a layer here and its group in Keras's file."""
    structure = layer.structure
    if isinstance(structure, (Table, Chain)):
        yield path, place
        used: Counter[str] = Counter()
        for child in keras_order(structure):
            inner = layer.children.get(child)
            stem = _snake(_class_of(inner)) if inner else "input_layer"
            number, used[stem] = used[stem], used[stem] + 1
            if inner is not None:
                group = join(place, f"layers/{stem}_{number}" if number else f"layers/{stem}")
                yield from _places(inner, join(path, child), group)
        return
    names = _INSIDE.get(layer.spec.name)
    if names is not None or not layer.children:
        yield path, place
        for child, inner in layer.children.items():
            yield from _places(inner, join(path, child), join(place, (names or {}).get(child, child)))


def _class_of(layer: Layer) -> str:
    if isinstance(layer.structure, Table):
        return "Functional"
    return "Sequential" if isinstance(layer.structure, Chain) else layer.spec.name


def _snake(name: str) -> str:
    """Keras's form of a class name in a path: `Conv2D` is `conv2d`, `ReLU` is `re_lu`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def keras_order(structure: Table | Chain) -> list[str]:
    """The children of a model in the order of Keras's `model.layers`: by depth, then as outputs reach them.

    >>> keras_order(Chain(("conv", "dense", "conv")))
    ['conv', 'dense']
    """
    if isinstance(structure, Chain):
        return list(dict.fromkeys(structure.order))
    order: dict[str, None] = {}  # of nodes, each after those that it reads
    first: dict[str, int] = {}  # of children, as they are reached
    stack = [(ref.partition("[")[0], False) for ref in reversed(jax.tree.leaves(structure.outputs))]
    while stack:
        name, done = stack.pop()
        if done:
            order.setdefault(name)
        elif name not in order:
            first.setdefault(_child(structure, name), len(first))
            stack.append((name, True))
            stack.extend((read, False) for read in reversed(_reads(structure, name)))
    depth: dict[str, int] = {}
    deepest: dict[str, int] = {}  # of the children
    for name in reversed(order):
        child = _child(structure, name)
        depth[name] = deepest[child] = max(depth.get(name, 0), deepest.get(child, 0))
        for read in _reads(structure, name):
            depth[read] = max(depth[name] + 1, depth.get(read, 0))
    return sorted(first, key=lambda child: (-deepest[child], first[child]))


def _child(table: Table, name: str) -> str:
    node = table.nodes[name]
    return node.child if isinstance(node, Use) else name


def _reads(table: Table, name: str) -> list[str]:
    node = table.nodes[name]
    if isinstance(node, Source):
        return []
    return [ref.partition("[")[0] for ref in jax.tree.leaves(node.inputs)]
