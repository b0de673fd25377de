"""Docstrings of layers, made whole: the texts of common arguments stand here once.

A constructor's docstring describes what is particular to the layer. `@layer` adds the other arguments under
`Args:`, in the order of the signature, so that `help` shows all of them. A docstring that says "As `Conv2D`"
takes arguments and errors that it leaves out from that layer.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable

__all__ = ["complete"]

TEXTS = {
    "activation": "applied to the result; None for none.",
    "activity_regularizer": (
        "penalty on the output, divided by the batch size; see `ActivityRegularization`."
    ),
    "cache_length": (
        "number of positions whose keys and values inference keeps, for decoding step by step; see "
        "`KeyValueCache`. None for no cache."
    ),
    "center": "whether to add `beta`.",
    "classes": "number of classes of the classifier.",
    "classifier_activation": "activation of the classifier; None for logits.",
    "data_format": '"channels_last", the default, or "channels_first".',
    "dilation_rate": "distance between the cells of the window: one number, or one per axis.",
    "dropout": "fraction of the input dropped in training, the same features at every step; from 0 to 1.",
    "epsilon": "added to the variance.",
    "fill_mode": (
        'values outside the image: "reflect" (d c b a | a b c d | d c b a), "wrap" (the opposite side), '
        '"nearest" (the edge) or "constant".'
    ),
    "fill_value": 'value outside the image with fill_mode="constant".',
    "filters": "number of output channels.",
    "frozen": "relative paths of the layers inside that are frozen; `jl.freeze` writes them.",
    "go_backwards": "whether to process the sequence from its last step to its first.",
    "include_preprocessing": "whether the network scales pixels from 0 to 255 itself.",
    "include_top": "whether the network ends in its classifier; False for its features.",
    "input_shape": (
        "of an image: height, width and channels, None for sizes that may vary; None for any size with three "
        "channels, unless the network needs to know it."
    ),
    "interpolation": '"bilinear" or "nearest".',
    "keepdims": "whether to keep the reduced axes, with size 1.",
    "kernel_size": "size of the window: one number, or one per axis.",
    "name": "name of the layer in paths; None for its type's name in snake case, numbered by the parent.",
    "pool_size": "size of the window: one number, or one per axis.",
    "pooling": '"avg" or "max" over all positions of the features, without the classifier; None for none.',
    "precision": "policy, or policies by path; see `jl.with_precision`.",
    "recurrent_activation": "applied to the gates; None for none.",
    "recurrent_dropout": (
        "fraction of the state dropped in training where it feeds back, the same units at every step; from 0 "
        "to 1."
    ),
    "return_sequences": "whether to return the outputs of all steps, in the order they were computed.",
    "return_state": "whether to return the last state after the output.",
    "scale": "whether to multiply by `gamma`.",
    "stateful": (
        "whether to start from the last state of the previous call, row by row; see `jl.reset_state`."
    ),
    "trainable": "False freezes the layer; see `jl.freeze`.",
    "unit_forget_bias": "whether the bias of the forget gate starts at 1 (Jozefowicz et al., 2015).",
    "unroll": (
        "whether to compile one copy of the step for each time step in place of a loop: for short sequences; "
        "long ones are slow to compile."
    ),
    "use_bias": "whether to add a bias.",
    "use_causal_mask": "whether each position attends only to itself and earlier ones.",
    "value_range": "lowest and highest value of a pixel.",
    "zero_output_for_mask": (
        "with `return_sequences`, whether padding gives 0 in place of the output of the step before."
    ),
}

# By the end of the name, of the parameter that the rest of it names.
ROLES = {
    "initializer": "initial values of {}.",
    "regularizer": "penalty on {}; see `Layer.penalty`.",
    "constraint": "imposed on {} after each update; see `Layer.constrain`.",
}

_KERNELS = ("depthwise", "expand", "pointwise", "recurrent", "reduce", "router")
_ENTRY = re.compile(r"    \*{0,2}(\w+):.*\n(?:        .*\n)*")


def complete(doc: str | None, arguments: Iterable[str], doc_of: Callable[[str], str | None]) -> str | None:
    """`doc` with all `arguments` that are known here, and the errors of the layer that it is like.

    >>> print(complete("A layer.", ["use_bias", "kernel_regularizer"], lambda name: None))
    A layer.
    <BLANKLINE>
    Args:
        use_bias: whether to add a bias.
        kernel_regularizer: penalty on the kernel; see `Layer.penalty`.
    """
    if not doc:
        return doc
    text = inspect.cleandoc(doc) + "\n"
    other = doc_of(text.partition("As `")[2].partition("`")[0]) or ""
    entries = {**_entries(other), **_entries(text)}
    shown = "".join(entries.get(name) or _common(name) for name in arguments)
    text = _with_section(text, "Args", shown, before=("Raises:\n", ">>> "))
    if not _section(text, "Raises"):
        text = _with_section(text, "Raises", _section(other, "Raises"), before=(">>> ",))
    return text.rstrip("\n")


def _section(text: str, title: str) -> str:
    """The indented lines under a title, up to an empty one."""
    body = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
    return body.rstrip("\n") + "\n" if body else ""


def _entries(text: str) -> dict[str, str]:
    return {entry.group(1): entry.group() for entry in _ENTRY.finditer(_section(text, "Args"))}


@functools.cache
def _common(name: str) -> str:
    stem, _, role = name.rpartition("_")
    text = TEXTS.get(name)
    if text is None and stem and role in ROLES:
        text = ROLES[role].format(_parameter(stem))
    if text is None:
        return ""
    lines = textwrap.wrap(f"{name}: {text}", 100, break_long_words=False)
    return "    " + "\n        ".join(lines) + "\n"


def _parameter(stem: str) -> str:
    if stem in ("kernel", "bias"):
        return f"the {stem}"
    return f"the {stem} kernel" if stem in _KERNELS else f"`{stem}`"


def _with_section(text: str, title: str, body: str, before: tuple[str, ...]) -> str:
    """`text` with this section, in its place or before the first line that begins so."""
    if not body:
        return text
    section, known = f"\n{title}:\n{body}", _section(text, title)
    if known:
        return text.replace(f"\n{title}:\n{known}", section)
    at = min((i for i in (text.find("\n" + line) for line in before) if i >= 0), default=len(text))
    return text[:at] + section + text[at:]
