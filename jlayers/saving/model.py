"""A whole model in a folder: its data form as JSON and its arrays as safetensors. Nothing in it can run."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jlayers.core.calls import taught
from jlayers.core.errors import about, of_file
from jlayers.core.layer import Layer, layers
from jlayers.core.shapes import describe
from jlayers.core.spelling import UnknownNameError
from jlayers.core.tree import map_with_path
from jlayers.interop.safetensors import read_safetensors
from jlayers.saving.files import damaged, read_json, sha256, sweep, write_atomically
from jlayers.saving.weights import arrays_by_path, to_bytes

__all__ = ["load", "rebuilt", "save", "structure_of"]

MODEL = "model.json"
FORMAT = 1


@taught
def save(
    path: str | os.PathLike[str],
    model: Layer,
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Keep a model and its weights in a folder, for `jl.load`.

    `model.json` holds the model as data, the paths of the arrays, and the name of the file of weights, which
    is written first. An existing model is replaced only when the new one is complete.

    Args:
        path: path of the folder; it is made if it is not there.
        model: any layer.
        params: its parameters.
        state: its state.

    Raises:
        TypeError: the model holds something that has no name, such as an unregistered function; or a leaf is
            no array of numbers.
        FileExistsError: there is something else at `path`; nothing is touched.

    >>> import pathlib, tempfile, jlayers as jl, jax
    >>> model = jl.Sequential(jl.Dense(8, activation="relu"), jl.Dense(2))
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "classifier"
    >>> jl.save(folder, model, *model.init(jax.random.key(0), (1, 4)))
    >>> model, params, state = jl.load(folder)
    >>> model.apply(params, state, jax.numpy.ones((3, 4)))[0].shape
    (3, 2)
    """
    if not isinstance(model, Layer):
        raise about(TypeError(f"jl.save: expected a layer as the model, received {model!r}"), model=model)
    folder = pathlib.Path(path)
    tree = {"params": params, "state": state or {}}
    content = to_bytes(tree)
    digest = sha256(content)
    weights = f"weights-{digest[:12]}.safetensors"
    facts = {
        "format": FORMAT,
        "model": model.to_data(),
        "weights": weights,
        "sha256": digest,
        "arrays": structure_of(tree),
    }
    text = (json.dumps(facts, indent=2) + "\n").encode()
    if folder.exists() and not (
        folder.is_dir() and ((folder / MODEL).is_file() or not any(folder.iterdir()))
    ):
        raise FileExistsError(f"{path} exists already and holds no saved model: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / weights, content)
    write_atomically(folder / MODEL, text)
    for old in folder.glob("weights-*.safetensors"):
        if old.name != weights:
            old.unlink()
    sweep(folder)


@taught
def load(path: str | os.PathLike[str]) -> tuple[Layer, dict[str, Any], dict[str, Any]]:
    """The model, the parameters and the state that `jl.save` has kept. Loading runs no code.

    Args:
        path: path of the folder.

    Raises:
        FileNotFoundError: no saved model there.
        ValueError: a file is damaged, or of a later version of jlayers.
        KeyError: a layer, or something in one, is not registered; register your own before you load.
    """
    folder = pathlib.Path(path)
    if not (folder / MODEL).is_file():
        raise FileNotFoundError(f"{path} holds no saved model: expected a folder that jl.save has written")
    facts = read_json(folder / MODEL)
    if facts.get("format") != FORMAT:
        error = ValueError(
            f"{folder / MODEL}: expected format {FORMAT}, received format={facts.get('format')!r}; it was "
            f"saved by another version of jlayers"
        )
        raise of_file(error, folder / MODEL)
    try:
        name, digest, structure, data = (facts[k] for k in ("weights", "sha256", "arrays", "model"))
        if pathlib.PurePath(name).name != name:
            raise ValueError(f"expected the name of a file, received weights={name!r}")
        found = read_safetensors(folder / name)
        if sha256((folder / name).read_bytes()) != digest:
            raise ValueError(f"{name} is not the file that was written")
        tree = rebuilt(structure, found)
        params, state = tree["params"], tree["state"]
    except FileNotFoundError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / MODEL, error) from None
    try:
        model = layers.get(data)
    except UnknownNameError as error:
        error.add_note(f"{path} needs it: register your own layers and functions before you load")
        raise
    if not isinstance(model, Layer):
        raise damaged(folder / MODEL, f"expected a layer, received model={data!r}")
    return model, params, state


def structure_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A nested dict of arrays with a text for each, from which `rebuilt` makes it again.

    >>> structure_of({"dense": {"bias": jnp.zeros(3)}, "flatten": {}})
    {'dense': {'bias': 'float32(3,)'}, 'flatten': {}}
    """
    arrays_by_path(tree)
    return map_with_path(lambda path, leaf: describe(leaf), tree)


def rebuilt(structure: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict that `structure_of` describes, with the arrays under its paths.

    Raises:
        ValueError: an array is missing, of another form, or not in the structure.
    """
    expected = arrays_by_path(structure)
    problems = [
        f"expected {path} as {text}, received {describe(found[path]) if path in found else 'none'}"
        for path, text in expected.items()
        if path not in found or describe(found[path]) != text
    ]
    problems += [f"unknown {path}" for path in found if path not in expected]
    if problems:
        raise ValueError("; ".join(problems[:3]))
    return map_with_path(lambda path, text: jnp.asarray(found[path]), structure)
