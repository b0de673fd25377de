"""Callbacks: what listens to a fit. Each has a file of its own, and a name for configurations."""

import importlib
import pkgutil
from typing import Any

from jlayers.core.spelling import nearest
from jlayers.train.callbacks.base import (
    EVENTS,
    Callback,
    CallbackLike,
    Change,
    Run,
    as_callback,
    register,
    registry,
)
from jlayers.train.callbacks.early_stopping import EarlyStopping
from jlayers.train.probes import Moment, Probe

__all__ = [
    "EVENTS",
    "Callback",
    "CallbackLike",
    "Change",
    "EarlyStopping",
    "Moment",
    "Probe",
    "Run",
    "as_callback",
    "get",
    "register",
    "registry",
]

get = as_callback

for _module in pkgutil.iter_modules(__path__):  # each file enters its callbacks into the registry
    importlib.import_module(f"{__name__}.{_module.name}")


def __getattr__(name: str) -> Any:
    """`jl.callbacks.CSVLogger` and its like: the registered class."""
    if not name.startswith("_") and name in registry:
        return registry[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {nearest(name, __dir__())}")


def __dir__() -> list[str]:
    return sorted({*__all__, *registry})
