"""The list of optax's optimizers, transformations and schedules; their arguments are read off optax."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax

from jlayers.core.errors import refused
from jlayers.core.registry import Configured, Registry
from jlayers.core.spec import Spec
from jlayers.optimizers import _keras
from jlayers.optimizers.base import registry, with_spec
from jlayers.optimizers.keras_words import refuse_keras_words
from jlayers.optimizers.patterns import MASKS, Patterns, mask_of
from jlayers.optimizers.schedules import ScheduleLike, get_schedule, schedules

__all__ = ["TRANSFORMATIONS"]


_START_ONLY = ("rprop",)  # its learning rate is the size of the first step; later ones follow from the signs


def _annotation(name: str, parameter: inspect.Parameter, default: Any) -> Any:
    """A type that plain data can be checked against, from the default, or else from optax's hint."""
    if name == "learning_rate":  # a few of optax's take a number only
        takes = str(parameter.annotation)
        return float | ScheduleLike if "Callable" in takes or takes == "Any" else float
    if "dtype" in name:
        return str | None
    if name in MASKS:
        return str | list[str] | bool | dict[str, Any] | None
    if isinstance(default, (bool, str)):
        return type(default)
    if isinstance(default, int) or parameter.annotation is int:
        return int
    return float | None if default is None else float


def _signature(called: str, function: Callable[..., Any], defaults: Mapping[str, Any]) -> inspect.Signature:
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = defaults.get(name, parameter.default)
        annotation = _OVERRIDES.get((called, name)) or _annotation(name, parameter, default)
        kind = parameter.POSITIONAL_OR_KEYWORD
        parameters.append(parameter.replace(default=default, annotation=annotation, kind=kind))
    required = [p for p in parameters if p.default is p.empty]
    optional = [p for p in parameters if p.default is not p.empty]
    return inspect.Signature([*required, *optional])


_OVERRIDES: dict[tuple[str, str], Any] = {
    ("piecewise_constant_schedule", "boundaries_and_scales"): dict[int, float] | None,
    ("piecewise_interpolate_schedule", "boundaries_and_scales"): dict[int, float] | None,
    ("piecewise_interpolate_schedule", "interpolate_type"): str,
    ("sgdr_schedule", "cosine_kwargs"): list[dict[str, float]],
    ("adaptive_grad_clip", "axis"): int | tuple[int, ...] | None,
    ("muon", "adam_learning_rate"): float | ScheduleLike | None,  # type: ignore[operator]
    ("muon", "exclude"): str | list[str] | None,
    ("muon", "ns_coeffs"): tuple[float, float, float] | str,
    ("schedule_free_adamw", "warmup_steps"): int | None,
}


def _enter(
    table: Registry,
    name: str,
    defaults: Mapping[str, Any],
    aliases: Iterable[str] = (),
    descends: Callable[[Mapping[str, Any]], bool] = lambda arguments: True,
) -> None:
    """Register Keras's or optax's function `name`."""
    own = getattr(_keras, name, None)
    function = own or getattr(optax, name, None) or getattr(optax.contrib, name)
    signature = _signature(name, function, defaults)

    def constructor(*args: Any, **kwargs: Any) -> Any:
        refuse_keras_words(name, signature.parameters, kwargs)
        bound = table.bind(name, signature, args, kwargs)
        arguments = dict(bound)
        for key in {"learning_rate", "adam_learning_rate"} & set(arguments):
            if arguments[key] is None:
                continue
            arguments[key] = rate = get_schedule(arguments[key])
            if callable(rate) and signature.parameters[key].annotation is float:
                received: dict[str, Any] = {key: rate}
                raise refused(
                    TypeError, "expected a number, as it takes no schedule", raised_by=name, **received
                )
        if steps := arguments.get("boundaries_and_scales"):  # JSON knows keys of text only
            arguments["boundaries_and_scales"] = {int(step): scale for step, scale in steps.items()}
        arguments |= {k: mask_of(name, k, arguments[k]) for k in MASKS & set(arguments)}
        result = function(**arguments)
        spec = Spec(table.kind, name, bound)
        if table is schedules:
            return Configured(result, spec)
        by_paths = any(isinstance(arguments[mask], Patterns) for mask in MASKS & set(arguments))
        rates_given = {
            n: arguments[n] for n in ("learning_rate", "adam_learning_rate") if arguments.get(n) is not None
        }
        rates = {} if name in _START_ONLY else rates_given
        return with_spec(result, spec, descends=descends(arguments), by_paths=by_paths, rates=rates)

    constructor.__name__ = constructor.__qualname__ = name
    vars(constructor)["__signature__"] = signature
    constructor.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    constructor.__doc__ = inspect.getdoc(own) if own else _document(name, function, signature)
    table.register(name, constructor, *aliases)


def _document(name: str, function: Callable[..., Any], signature: inspect.Signature) -> str:
    first = (inspect.getdoc(getattr(function, "func", function)) or name).split("\n\n")[0].replace("\n", " ")
    shown = ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in signature.parameters.values()
    )
    text = f"{first}\n\n`optax.{name}({shown})`; its documentation explains the arguments.\n"
    masks = [f"`{mask}`" for mask in sorted(MASKS & set(signature.parameters))]
    return text + (
        f"{' and '.join(masks)} also: patterns of paths, such as `'**/kernel'`.\n" if masks else ""
    )


_RATE = {"learning_rate": 1e-3}
_PLAIN_RATE = {"learning_rate": 1e-2}

_OPTIMIZERS: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    "adabelief": (_RATE, ("AdaBelief",)),
    "adadelta": (_RATE, ()),
    "adafactor": (_RATE, ()),
    "adagrad": (_RATE, ()),
    "adam": (_RATE, ()),
    "adamax": (_RATE, ()),
    "adamaxw": (_RATE, ()),
    "adamw": (_RATE, ("AdamW",)),
    "adan": (_RATE, ()),
    "amsgrad": (_RATE, ()),
    "fromage": (_RATE, ()),
    "ftrl": (_RATE, ()),
    "lamb": (_RATE, ()),
    "lars": (_PLAIN_RATE, ()),
    "lion": (_RATE, ()),
    "muon": (_RATE, ()),
    "nadam": (_RATE, ()),
    "nadamw": (_RATE, ("NadamW",)),
    "novograd": (_RATE, ()),
    "optimistic_gradient_descent": (_PLAIN_RATE, ()),
    "polyak_sgd": ({}, ()),
    "radam": (_RATE, ("RAdam",)),
    "rmsprop": (_RATE, ("RMSprop", "RMSProp")),
    "rprop": (_RATE, ()),
    "schedule_free_adamw": ({}, ("ScheduleFreeAdamW",)),
    "sgd": (_PLAIN_RATE, ()),
    "sign_sgd": (_RATE, ()),
    "sm3": (_PLAIN_RATE, ()),
    "yogi": (_RATE, ()),
}

TRANSFORMATIONS = (
    "adaptive_grad_clip",
    "add_decayed_weights",
    "centralize",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "ema",
    "scale",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_belief",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_rms",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "trace",
    "zero_nans",
)

_DESCENDING: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "scale": lambda arguments: arguments["step_size"] < 0,
    "scale_by_learning_rate": lambda arguments: True,
}

_SCHEDULES = (
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
)

for _name in _SCHEDULES:
    _enter(schedules, _name, {})
for _name, (_defaults, _aliases) in _OPTIMIZERS.items():
    _enter(registry, _name, _defaults, _aliases)
for _name in TRANSFORMATIONS:
    _enter(registry, _name, _RATE, descends=_DESCENDING.get(_name, lambda arguments: False))
