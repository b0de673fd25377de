"""Spelling of names: snake case, the nearest valid names, and the error for an unknown one."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable

__all__ = ["UNQUOTED", "UnknownNameError", "close_names", "is_number", "nearest", "snake_case"]


_OTHER = re.compile(r"\W+")
_WHOLE = re.compile(r"LoRA|MoE(?![a-z])")
_WORD = re.compile(r"(.)([A-Z][a-z]+)")
_NEXT = re.compile(r"([a-z])([A-Z])")


@functools.cache
def snake_case(name: str) -> str:
    """Keras's snake case: the form in which names are looked up and layers are numbered.

    >>> snake_case("Conv2D"), snake_case("MaxPooling2D"), snake_case("SimpleRNN")
    ('conv2d', 'max_pooling2d', 'simple_rnn')
    >>> snake_case("LoRA"), snake_case("MoE")  # which Keras lacks, and would split
    ('lora', 'moe')
    """
    name = _OTHER.sub("", name)
    name = _WHOLE.sub(lambda word: word[0].capitalize(), name)
    return _NEXT.sub(r"\1_\2", _WORD.sub(r"\1_\2", name)).lower()


def close_names(name: object, valid: Iterable[str]) -> list[str]:
    """The valid names that are spelled most like this one, the closest first; at most three.

    >>> close_names("conv", ["Conv1D", "Conv2D", "Dense"]), close_names("pool", ["Dense"])
    (['Conv1D', 'Conv2D'], [])
    """
    key, by_key = str(name).lower(), {v.lower(): v for v in map(str, valid)}
    close = difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)
    alike = {by_key[c]: difflib.SequenceMatcher(a=c, b=key).ratio() for c in by_key if c in close}
    near = [v for v in alike if alike[v] > 0.9 * max(alike.values())]  # no others beside a slip of the pen
    return sorted(near, key=lambda v: -alike[v])


def nearest(name: object, valid: Iterable[str]) -> str:
    """A sentence fragment that names the closest valid names, or lists them when none is close.

    >>> nearest("Flaten", ["ClassToken", "Flatten"]), nearest("conv", ["Conv1D", "Conv2D", "Dense"])
    ("did you mean 'Flatten'?", "did you mean 'Conv1D' or 'Conv2D'?")
    """
    valid = [str(v) for v in valid]
    if near := close_names(name, valid):
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    shown = ", ".join(sorted(valid)[:12]) + (", ..." if len(valid) > 12 else "")
    return f"valid: {shown}" if valid else "there is none to choose from"


UNQUOTED = "a number is written without quotes"


def is_number(text: object) -> bool:
    """True for a text that looks like a number: someone has quoted it.

    >>> is_number("1e-3"), is_number("adam")
    (True, False)
    """
    return isinstance(text, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


class UnknownNameError(KeyError):
    """A name that is in no table; unlike a plain `KeyError` it shows its message unquoted."""

    def __init__(self, text: str, where: str = ""):
        super().__init__(f"{where}: {text}" if where else text)
        self.text = text

    __str__ = Exception.__str__
