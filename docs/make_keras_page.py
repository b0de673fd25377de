"""Writes `docs/keras.md`: every name of Keras with what has become of it here.

Which names there are is read off Keras, which of them we have off our registries, which arguments are missing
off both signatures. Only reasons and differences are written down, in `docs/keras_differences.py` and
`tests/keras_arguments.py`. Run it after any change of those:

    python docs/make_keras_page.py
"""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

import jlayers  # noqa: F401  fills the registries
from jlayers.core.registry import Registry

HERE = Path(__file__).resolve().parent
PAGE = HERE / "keras.md"
STATES = runpy.run_path(str(HERE / "keras_differences.py"))
ARGUMENTS = runpy.run_path(str(HERE.parent / "tests" / "keras_arguments.py"))
OPTIONS = ("self", "args", "kwargs", "name", "trainable", "frozen", "precision")  # of every layer
LAYER = ("layer", "preprocessor")  # what is a layer in Keras is either here
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

HEAD = f"""# jlayers beside Keras {keras.version()}

Made by `python docs/make_keras_page.py`; do not edit it by hand.

**same** means that the name, the arguments with their order and defaults, the variables and the numbers are
Keras's (for random numbers, their distribution). Tests compare both. **differs**: the row says how.
**absent**: the row says why.

The following holds for many layers and is not repeated in the rows:

- A layer is a pair of functions, `init(key, *inputs)` and
  `apply(params, state, *inputs, key=None, train=False)`. It holds no weights: they go in and come out.
- Keras's `training=True` is `train=True`, and a call that draws random numbers takes a `key`.
- A call takes only arrays. Other arguments of Keras's calls belong to the constructor here.
- A mask is a value that travels with its array, not an attribute of it. Where a Keras layer drops it
  silently, ours passes it on (`Reshape`, `UpSampling1D`, `EinsumDense`, `RMSNormalization`) or raises
  an error (convolutions, windowed pooling, `Flatten`). `jl.DropMask()` gives it up on purpose.
- Constructors return a `jl.Layer`. It is not a class to inherit from: write your own layers with `@jl.layer`.
- Keras's `dtype=` is `precision=`, with Keras's policies. Without one, parameters have the dtype of
  the input. A policy of a container reaches all layers inside.
- Unlike in Keras, `padding` of convolutions and pools may also be numbers: of zeros around the data, or of
  cells of a pool that do not count. Transposed convolutions cut as many off their result, as in PyTorch.
- With `stateful=True`, what passes from batch to batch is part of the state; `jl.reset_state` resets it.
- Instead of `layer.adapt(data)`, `jl.adapt(layer, data)` returns a new layer, whose arguments hold what it
  learned.
- In training, targets that a loss leaves out, such as those of its `ignore_class`, do not count in the
  metrics of that output. In Keras they do.
- Image layers take a batch of images or a single one of at most 4 channels, and no dict with labels and
  boxes. Each image has its own random numbers.
"""


def exported(module: ModuleType, kind: Any = inspect.isclass) -> dict[str, list[str]]:
    """The public names of a module: each thing's own name, and its others."""
    found: dict[Any, list[str]] = {}
    for name, value in sorted(vars(module).items()):
        if kind(value) and not name.startswith("_"):
            found.setdefault(value, []).append(name)
    own = {(v.__name__ if v.__name__ in names else names[0]): names for v, names in found.items()}
    return {name: [other for other in names if other != name] for name, names in own.items()}


def arguments(constructor: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(constructor).parameters
    return {n: p for n, p in parameters.items() if p.kind in NAMED and n not in OPTIONS}


def registered(name: str, *kinds: str) -> tuple[Registry, str] | None:
    """The registry that has Keras's name, and the name there."""
    known = {registry.kind: registry for registry in Registry.all()}
    tables = [known[kind] for kind in kinds if kind in known]
    return next(((table, table.find(name)) for table in tables if name in table), None)


def why_absent(kind: str, name: str) -> str:
    reason = STATES["ABSENT"].get(kind, {}).get(name)
    if reason is None:
        raise KeyError(f"say in docs/keras_differences.py why there is no {kind} {name}")
    return reason


def why_left_out(name: str, argument: str) -> str:
    reason = ARGUMENTS["LEFT_OUT"].get(name, {}).get(argument)
    if reason is None:
        raise KeyError(f"say in tests/keras_arguments.py why {name} has no {argument}")
    return reason


def of_arguments(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """What is missing, has another default, or is ours alone, each with its reason."""
    theirs, ours = arguments(theirs.__init__), arguments(ours)
    for argument in theirs:
        if argument not in ours and argument not in ARGUMENTS["EVERYWHERE"]:
            yield f"no `{argument}`: {why_left_out(name, argument)}"
    for argument, reason in ARGUMENTS["OTHER_DEFAULT"].get(name, {}).items():
        if argument in ours:
            yield f"`{argument}` defaults to `{_default(ours[argument])}`: {reason}"


def _default(parameter: inspect.Parameter) -> str:
    return "nothing" if parameter.default is parameter.empty else repr(parameter.default)


def layer_row(name: str, others: list[str]) -> list[str]:
    """Its names, its state, and what there is to say."""
    shown = ", ".join(f"`{n}`" for n in (name, *others))
    if name == "Layer":
        return [shown, "differs", "see above"]
    found = registered(name, *LAYER)
    if found is None:
        return [shown, "absent", why_absent("layer", name)]
    table, ours = found
    notes = list(of_arguments(name, getattr(keras.layers, name), table[ours]))
    if name in STATES["DIFFERS"]["layer"]:
        notes.insert(0, STATES["DIFFERS"]["layer"][name])
    if missing := [other for other in others if not registered(other, *LAYER)]:
        notes.append(f"write `{name}` for {', '.join(f'`{other}`' for other in missing)}")
    return [shown, "differs" if notes else "same", "; ".join(notes)]


def family(name: str) -> str:
    """The folder of Keras's source that the layer is in, as a heading."""
    path = getattr(keras.layers, name).__module__.split(".")[2:-1]
    folder = path[1] if len(path) > 1 else "core"
    return {"rnn": "Recurrent"}.get(folder, folder.capitalize())


def layer_tables() -> Iterator[str]:
    by_family: dict[str, list[list[str]]] = {}
    for name, others in exported(keras.layers).items():
        by_family.setdefault(family(name), []).append(layer_row(name, others))
    rows = [row for some in by_family.values() for row in some]
    counts = ", ".join(f"{sum(row[1] == s for row in rows)} {s}" for s in ("same", "differs", "absent"))
    yield f"\n## Layers\n\n{len(rows)} classes: {counts}.\n"
    for heading in sorted(by_family):
        yield f"\n### {heading}\n\n" + table(["Keras", "Here", ""], by_family[heading])


def everywhere() -> Iterator[str]:
    yield "\n### Arguments that no layer has here\n\n" + table(
        ["Argument", "Why"], [[f"`{a}`", reason] for a, reason in ARGUMENTS["EVERYWHERE"].items()]
    )
    yield "\n### Arguments that Keras's layers do not have\n\n" + table(
        ["Argument", "What it is"], [[f"`{a}`", reason] for a, reason in ARGUMENTS["ADDED"].items()]
    )


# Around the layers: Keras's module, our kind, what Keras's things are there, and what holds for all of them.
AROUND = [
    ("activations", "activation", inspect.isfunction, "Names, options and defaults are Keras's."),
    ("initializers", "initializer", inspect.isclass, "Functions `f(key, shape, dtype)`; the key is given."),
    ("regularizers", "regularizer", inspect.isclass, "Found by the name of the argument, as in Keras."),
    ("constraints", "constraint", inspect.isclass, "Imposed after each update, as in Keras."),
    (
        "losses", "loss", inspect.isclass,
        "A loss gives a value per sample; the mean is the training step's, so there is no `reduction`. "
        "Targets and predictions have equal shapes, where Keras squeezes and broadcasts. A label out of "
        "range is refused by `fit`, and is NaN within a program, where Keras's loss is 0.",
    ),
    (
        "metrics", "metric", inspect.isclass,
        "The numbers are Keras's; the state is a value that the step holds.",
    ),
    (
        "optimizers", "optimizer", inspect.isclass,
        "They are Optax's, with Optax's arguments and defaults, but for Keras's learning rate.",
    ),
]  # fmt: skip
LOOK_UPS = ("get", "serialize", "deserialize")  # functions of Keras's modules that are not activations


def around_tables() -> Iterator[str]:
    for module, kind, is_one, sentence in AROUND:
        names = [name for name in exported(getattr(keras, module), is_one) if name not in LOOK_UPS]
        have = {name: registered(name, kind) for name in names}
        there = [f"`{name}`" + _spelled(name, found[1]) for name, found in have.items() if found]
        notes = [
            *(f"- `{n}` differs: {text}." for n, text in STATES["DIFFERS"].get(kind, {}).items()),
            *(f"- `{n}` is absent: {why_absent(kind, n)}." for n, found in have.items() if not found),
        ]
        yield f"\n## {module.capitalize()}\n\n{sentence}\n\nThere are {len(there)}: {', '.join(there)}.\n"
        if notes:
            yield "\n" + "\n".join(notes) + "\n"


def _spelled(theirs: str, ours: str) -> str:
    return "" if ours == theirs else f" (`{ours}`)"


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def page() -> str:
    return "".join([HEAD, *layer_tables(), *everywhere(), *around_tables()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
