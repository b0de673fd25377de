"""Weights into a model, from a file of any kind, a name, or a dict of arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from jlayers.core.errors import about, concerning, part_of, refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import is_shape
from jlayers.core.tree import above, flatten, map_with_path, match_layers
from jlayers.inspect.observed import given_inputs
from jlayers.interop.keras_file import by_class
from jlayers.interop.matching import Matched, by_names, by_order
from jlayers.interop.names import Rename, groups_of, renamed
from jlayers.interop.packages import PREFIX, in_package
from jlayers.interop.reading import read
from jlayers.interop.slots import Slot, fixed_of, initial, slots_of
from jlayers.saving.weights import WeightsReport, load_exactly

__all__ = ["Weights", "load_weights"]

Source = str | os.PathLike[str] | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Weights:
    """The source of weights, and the layers they are for: an entry of a list for `jl.load_weights`.

    Args:
        source: a file; "imagenet", for a model of `jl.applications`; `"package:name/file"` for a file that an
            installed package ships; or arrays by name.
        to: a pattern of the layers that get them, with all inside, such as "base"; all layers if not given.
        by: as in `jl.load_weights`.
        rename: as in `jl.load_weights`.
        strict: every array of these layers must be in the source and the other way round.

    >>> import jlayers as jl
    >>> jl.Weights("imagenet", to="base").strict
    True
    """

    source: Source
    to: str = "**"
    by: Literal["names", "order"] = "names"
    rename: Mapping[str, str | None] | None = None
    strict: bool = True


@overload
def load_weights(
    model: Layer,
    source: Source,
    inputs: Any = (),
    *,
    rename: Rename | None = None,
    by: Literal["names", "order"] = "names",
    to: str = "**",
    strict: Literal[True] = True,
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]: ...
@overload
def load_weights(
    model: Layer,
    source: Source,
    inputs: Any = (),
    *,
    rename: Rename | None = None,
    by: Literal["names", "order"] = "names",
    to: str = "**",
    strict: Literal[False],
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, Any], WeightsReport]: ...
@overload
def load_weights(
    model: Layer,
    source: Sequence[Weights],
    inputs: Any = (),
    *,
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, Any], WeightsReport]: ...
@overload
def load_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    *,
    partial: Literal[False] = False,
) -> tuple[dict[str, Any], dict[str, Any]]: ...
@overload
def load_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    *,
    partial: Literal[True],
) -> tuple[dict[str, Any], dict[str, Any], WeightsReport]: ...
def load_weights(*args: Any, **options: Any) -> Any:  # noqa: D417
    """Parameters and state of a model, from a file of any kind, a name, or a dict of arrays.

    `load_weights(model, source)` takes weights of jlayers, Keras, PyTorch and others into a model, in the
    model's layouts and dtypes. `load_weights(path, params, state)` reads a file that `jl.save_weights` has
    written and expects exactly the arrays that are given, dtypes included.

    The kind of a file is recognized by its content: safetensors, `.npz`, Keras's `.weights.h5`, `.h5` and
    `.keras`, PyTorch's `.pth`, pickled dicts of arrays. Nothing in a file can run.

    A layer finds its arrays by its name: the group of the same path, or the only one whose path ends as the
    layer's does. Within the group `kernel`, `gamma` and the like are taken as they are. `weight`,
    `running_mean`, `weight_ih` and the like are PyTorch's and are brought to the layout of the layer: `(out,
    in)` kernels, `OIHW` windows, depthwise and transposed convolutions, the order of the gates, two biases,
    one matrix for queries, keys and values, `weight_norm`, `spectral_norm`, two convolutions for a separable
    one. Numbered blocks go into a `Repeat`.

    Args:
        model: any layer.
        source: a file; a name such as "imagenet", for a model of `jl.applications`; `"package:name/file"` for
            a file that an installed package ships; or arrays by name. Or a list of `jl.Weights`, each for a
            part of the model; the other layers are drawn.
        inputs: what the model will see, as for `init`: an array, a shape with the batch, or a list of them. A
            model that begins with `jl.Input` needs none.
        rename: new names by patterns, such as `{"blocks.*.**": "block*/**"}`, applied before names are
            compared. `*` stands for any characters but `/` and `.`, `**` for any. None leaves arrays out:
            `{"head.**": None}`.
        by: "names", or "order": the layers of the model in the order in which they run take the groups of
            the source in the order of the file, a `Repeat` those of all its runs; shapes must fit.
        to: a pattern of the layers that get the weights, with all inside, such as "base"; all if not given.
        strict: every array of these layers must be in the source and the other way round. False loads what
            fits and returns a report.
        key: draws what is not in the source; needed only there.
        path: path of a file that `jl.save_weights` has written.
        params: what is expected: arrays, or the `jax.ShapeDtypeStruct`s of `jax.eval_shape(model.init, ...)`.
        state: the same for the state.
        partial: load the arrays whose path, shape and dtype fit, and keep the given ones elsewhere.

    Returns:
        `(params, state)`; with `strict=False`, `partial=True` or a list of sources `(params, state, report)`.

    Raises:
        ValueError: arrays that are missing, that the model does not have, or that do not fit; all are listed
            with the nearest names. Or a file that is damaged or asks for more than arrays.
        FileNotFoundError: no such file.
        ImportError: the package that reads this kind is not installed; the text says what to install.
        ConnectionError: the file that a name stands for cannot be fetched; the text says what to do. It is
            kept in `~/.cache/jlayers/weights`. The variable `JLAYERS_WEIGHTS` names a mirror or a folder.

    Example: a linear layer of PyTorch, and a new head on trained features.

    >>> import jlayers as jl, jax, numpy as np
    >>> model = jl.Sequential(jl.Input((4,)), jl.Dense(8, name="base"), jl.Dense(5, name="head"))
    >>> trained = {"base.weight": np.ones((8, 4)), "base.bias": np.zeros(8)}
    >>> params, state, report = jl.load_weights(model, trained, strict=False, key=jax.random.key(0))
    >>> params["base"]["kernel"].shape
    (4, 8)
    >>> print(report)
    2 of 4 arrays loaded
      missing params/head/kernel
      missing params/head/bias
    """
    first = args[0] if args else options.get("model")
    return (_load_into if isinstance(first, Layer) else load_exactly)(*args, **options)


def _load_into(
    model: Layer,
    source: Source | Weights | Sequence[Weights],
    inputs: Any = (),
    *,
    key: jax.Array | None = None,
    **options: Any,
) -> Any:
    several = isinstance(source, (list, tuple))
    entries = [_entry(source, options)] if not several else [_entry(each, options) for each in source]
    specs = given_inputs(model, _several(inputs))
    tree, order = initial(model, specs)
    slots = slots_of(model, tree, order)
    found = []
    for number, entry in enumerate(entries):
        with part_of(number, source=source) if several else contextlib.nullcontext():
            found.append(_match(model, slots, entry))
    whole = _in_one(found, slots)
    loaded = _with_drawn(model, specs, tree, whole, key)
    if not several and entries[0].strict:
        return loaded["params"], loaded["state"]
    report = WeightsReport(
        tuple(whole.arrays),
        tuple(whole.missing),
        tuple(whole.misshapen.values()),
        tuple(whole.extra),
        whole.sources,
    )
    return loaded["params"], loaded["state"], report


def _entry(source: Any, options: Mapping[str, Any]) -> Weights:
    if not isinstance(source, Weights):
        return Weights(source, **options)
    if options:
        error = TypeError(
            f"load_weights: expected {sorted(options)} as arguments of jl.Weights, received both"
        )
        raise about(error, **options)
    return source


def _match(model: Layer, slots: Sequence[Slot], entry: Weights) -> Matched:
    """A plan that says which array of a source goes where."""
    if entry.by not in ("names", "order"):
        raise refused(ValueError, "expected 'names' or 'order'", raised_by="load_weights", by=entry.by)
    source: Any = entry.source
    with concerning(to=entry.to):
        roots = match_layers(entry.to, [path for path, _ in model.walk()])
    own = [slot for slot in slots if slot.path in roots or any(path in roots for path in above(slot.path))]
    wanted = [spec for slot in own for spec in slot.wanted.values()]
    needed = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in wanted)
    with concerning(source=source):
        if isinstance(source, str) and source == "imagenet":
            source = _published_file(model, roots)
        elif isinstance(source, str) and source.startswith(PREFIX):
            source = in_package(source)
        arrays, where = _arrays(source, needed)
    entries = renamed(arrays, entry.rename or by_class(model, [slot.path for slot in own], arrays))
    with concerning(source=entry.source):
        root = groups_of(entries)
    matched = by_order(own, entries, root) if entry.by == "order" else by_names(own, root, fixed_of(model))
    problems = matched.problems()
    if problems and (entry.strict or not matched.arrays):
        fit = "holds no array that fits the model" if not matched.arrays else "does not fit the model"
        error = ValueError(
            f"{where} {fit}; rename= gives arrays other names, by='order' goes by the order, strict=False "
            f"takes what fits:\n  " + "\n  ".join(problems)
        )
        raise about(error, source=entry.source)
    return matched


def _in_one(found: Sequence[Matched], slots: Sequence[Slot]) -> Matched:
    """The arrays of several sources in one; where two have an array, the later one counts."""
    whole = Matched()
    for matched in found:
        whole.arrays |= matched.arrays
        whole.sources |= matched.sources
        whole.misshapen |= matched.misshapen
        whole.extra += matched.extra
    whole.misshapen = {path: text for path, text in whole.misshapen.items() if path not in whole.arrays}
    wanted = [path for slot in slots for path in slot.paths.values()]
    whole.missing = [path for path in wanted if path not in whole.arrays and path not in whole.misshapen]
    return whole


def _published_file(model: Layer, roots: Collection[str]) -> pathlib.Path:
    """The file of weights that was published for the application at one of these paths."""
    from jlayers.applications.published import weights_file
    from jlayers.interop.fetch import fetch

    known = [path for path, layer in model.walk() if layer.spec.name.startswith("applications.")]
    found = [path for path in known if path in roots]
    if not found:
        there = f"write jl.Weights('imagenet', to={known[0]!r})" if known else "pass a file of weights"
        raise refused(
            ValueError,
            f"expected an application of jl.applications at {min(roots, key=len)!r}",
            instead=there,
            raised_by="load_weights",
            source="imagenet",
        )
    file = weights_file(dict(model.walk())[min(found, key=len)])
    return fetch(file.url, file.hash)


def _several(inputs: Any) -> tuple[Any, ...]:
    listed = isinstance(inputs, (list, tuple)) and not (inputs and is_shape(inputs))
    return tuple(inputs) if listed else (inputs,)


def _arrays(source: Source, needed: int) -> tuple[Mapping[str, Any], str]:
    """The arrays by name, and what to call the source. Our own files say what is of the parameters."""
    if isinstance(source, Mapping):
        arrays, where = flatten(source), "the dict of arrays"
    else:
        arrays, where = read(source, needed=needed), str(source)
    tops = {name.partition("/")[0] for name in arrays}
    if arrays and tops <= {"params", "state"}:
        arrays = {name.partition("/")[2]: array for name, array in arrays.items()}
    return arrays, where


def _with_drawn(model: Layer, specs: Any, tree: Any, matched: Matched, key: Any) -> dict[str, Any]:
    """The arrays that were found, and for the others what `init` makes."""
    lacking = [path for path in flatten(tree) if path not in matched.arrays]
    weights = [path for path in lacking if path in {*matched.missing, *matched.misshapen}]
    if weights and key is None:
        raise refused(
            ValueError,
            f"expected a key to draw what is not in the source, such as {weights[0]}",
            instead="write key=jax.random.key(0)",
            raised_by="load_weights",
            key=key,
        )
    made: Mapping[str, Any] = {}
    if lacking:

        def draw(key: Any) -> dict[str, Any]:
            params, state = model.init(key, *specs)
            drawn = flatten({"params": params, "state": state})
            return {path: drawn[path] for path in lacking}

        # Compiled, so that nothing is drawn that was found.
        made = jax.jit(draw)(jax.random.key(0) if key is None else key)
    return map_with_path(
        lambda path, _: jnp.asarray(matched.arrays[path]) if path in matched.arrays else made[path], tree
    )
