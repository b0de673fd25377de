"""Everything that decides the bits of a run, as texts: a run resumes only if none has changed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.core.spec import to_data
from jlayers.data.batches import Batches
from jlayers.train.callbacks import Callback
from jlayers.train.options import Options

__all__ = ["changes_between", "identity", "with_state"]


def with_state(callbacks: Sequence[Callback]) -> list[Callback]:
    """Callbacks whose state belongs to the run; what only shows or writes has none."""
    return [callback for callback in callbacks if callback.remembers]


def identity(
    trainer: Options, data: Batches, validation: Batches | None, callbacks: Sequence[Callback], **options: Any
) -> dict[str, str]:
    """Everything that decides the bits of a run, each as a text.

    Args:
        trainer: the options of `jl.compile`, and the model.
        data: to train on.
        validation: to validate on.
        callbacks: those that have a state.
        **options: further arguments of `fit`.
    """
    fields = ["model", *(field.name for field in dataclasses.fields(Options))]
    known = {name: _written(getattr(trainer, name)) for name in fields}
    known |= {name: _written(value) for name, value in options.items()}
    held_out = "none" if validation is None else validation.fingerprint()
    known |= {"the data": data.fingerprint(), "the validation data": held_out}
    for place, callback in enumerate(with_state(callbacks)):
        arguments: Any = callback
        if callback.spec is None:
            names = inspect.signature(type(callback)).parameters
            arguments = {name: getattr(callback, name, None) for name in names}
        known[f"callback {place}"] = f"{type(callback).__name__} {_written(arguments)}"
    return known


def _written(value: Any) -> str:
    """A value as a text that is the same in every process."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(part)}" for name, part in value.items()) + "}"
    try:
        return json.dumps(to_data(value), sort_keys=True)
    except TypeError:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def changes_between(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The changes since then, in words."""

    def told(name: str) -> str:
        old, new = then.get(name, "none"), now.get(name, "none")
        short = len(old) + len(new) < 80 and "data" not in name
        return f"{name} was {old}, now {new}" if short else f"{name} differs"

    return [told(name) for name in {**then, **now} if then.get(name) != now.get(name)]
