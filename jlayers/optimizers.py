"""Optimizers, gradient transformations and learning-rate schedules: optax's, by optax's names, a closed list.

Arguments and defaults are optax's and are read off its signatures. Two things are ours: `learning_rate` has
Keras's default (0.001, and 0.01 for plain gradient descent), and it may be a number, a schedule, or a
schedule by name. Where optax and Keras differ in another default (adam's `eps` is 1e-8 here and 1e-7 in
Keras, adamw's `weight_decay` 1e-4 and 0.004), optax's stands, so that its documentation holds.

A list means one after the other (`optax.chain`):

>>> import jlayers as jl
>>> optimizer = jl.optimizers.get(
...     [
...         {"clip_by_global_norm": {"max_norm": 1.0}},
...         {"adamw": {"learning_rate": {"cosine_decay_schedule": {"init_value": 1e-3, "decay_steps": 100}}}},
...     ]
... )
>>> jl.optimizers.get("SGD")
sgd()

**Weight decay** spares biases and normalizations by patterns of the parameters' paths: what fits one decays,
the rest does not. In YAML the same, `{adamw: {weight_decay: 0.01, mask: '**/kernel'}}`.

>>> jl.optimizers.adamw(weight_decay=0.01, mask=["**/kernel", "**/embeddings"])
adamw(weight_decay=0.01, mask=['**/kernel', '**/embeddings'])

An optimizer of one's own, any `optax.GradientTransformation`, goes wherever one of these does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import numpy as np
import optax

from jlayers.core.registry import UNQUOTED, Configured, Kind, Registry, Spec, is_number, nearest
from jlayers.core.tree import match

__all__ = [
    "Optimizer",
    "OptimizerLike",
    "ScheduleLike",
    "chain",
    "get",
    "get_schedule",
    "has_patterns",
    "join_schedules",
    "register_schedule",
]

ScheduleLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("schedule")]
OptimizerLike = Annotated[
    str | Mapping[str, Any] | Sequence[Any] | optax.GradientTransformation, Kind("optimizer")
]


class Optimizer(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformation` that remembers the call that made it."""

    spec: Spec

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec.name, dict(self.spec.arguments))


def _rebuild(name: str, arguments: dict[str, Any]) -> Any:
    return registry.build(name, arguments)


def _optimizer(transformation: optax.GradientTransformation, spec: Spec) -> Optimizer:
    made = Optimizer(*optax.with_extra_args_support(transformation))
    made.spec = spec
    return made


class _Optimizers(Registry):
    def get(self, value: Any) -> Any:
        """An optimizer from its name, `{name: arguments}`, a list of such, or itself.

        Raises:
            ValueError: a transformation of gradients alone, which would climb.
        """
        made = self.member(value)
        if not _descends(made):
            raise ValueError(
                f"expected an optimizer, such as adam, received optimizer={made!r}, which changes gradients "
                f"and would go up along them; write a list that ends with an optimizer: [{_last(made)}, adam]"
            )
        return made

    def member(self, value: Any) -> Any:
        """As `get`; also a transformation that goes before an optimizer."""
        if isinstance(value, optax.MultiSteps):  # optax gives it methods instead
            return value.gradient_transformation()
        if isinstance(value, optax.GradientTransformation):
            return value
        if isinstance(value, (list, tuple)):
            return chain(list(value))
        if not isinstance(value, (str, Mapping)):
            raise TypeError(
                f"expected an optimizer by name, as {{name: arguments}}, as a list of such, or an "
                f"optax.GradientTransformation; received {value!r}: {nearest(value, self)}"
            )
        return super().get(value)


def _descends(optimizer: Any) -> bool:
    """False for what is known to leave gradients pointing uphill."""
    spec = getattr(optimizer, "spec", None)
    if spec is None:
        return True
    if spec.name == "chain":
        return any(map(_descends, spec.arguments["transformations"]))
    if spec.name == "scale":
        return spec.arguments["step_size"] < 0
    return spec.name not in _TRANSFORMATIONS or spec.name == "scale_by_learning_rate"


def _last(optimizer: Any) -> str:
    """The name of the last transformation."""
    while optimizer.spec.name == "chain":
        optimizer = optimizer.spec.arguments["transformations"][-1]
    return optimizer.spec.name


registry = _Optimizers("optimizer")
schedules = Registry("schedule")
get = registry.get
register_schedule = schedules.factory()


def get_schedule(value: Any) -> Any:
    """A learning rate: a number as it is, or a schedule from its name and arguments.

    Raises:
        ValueError: a number that is negative or not finite.

    >>> import jlayers as jl
    >>> schedule = jl.optimizers.get_schedule(
    ...     {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 4}}
    ... )
    >>> float(schedule(1))
    0.75
    """
    if isinstance(value, str) and is_number(value):
        raise ValueError(f"expected a number or a schedule, received learning_rate={value!r}; {UNQUOTED}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0.0 <= value < float("inf"):
            raise ValueError(
                f"expected a finite learning rate of at least 0, received learning_rate={value!r}"
            )
        return float(value)
    if hasattr(value, "shape"):  # a scalar array
        return value
    return schedules.get(value)


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Room for optax, which counts on JAX's default promotion, where the caller has made it strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# -------------------------------------------------------------------------- reading optax's signatures

_MASKS = {"mask", "weight_decay_mask", "trust_ratio_mask"}


def _annotation(name: str, parameter: inspect.Parameter, default: Any) -> Any:
    """A type that plain data can be checked against, from the default, or else from optax's hint."""
    if name == "learning_rate":  # a few of optax's take a number only
        return float | ScheduleLike if "Callable" in str(parameter.annotation) else float
    if "dtype" in name:
        return str | None
    if name in _MASKS:
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
}


def _enter(table: Registry, name: str, defaults: Mapping[str, Any], aliases: Iterable[str] = ()) -> None:
    """Register optax's function `name`."""
    function = getattr(optax, name)
    signature = _signature(name, function, defaults)

    def constructor(*args: Any, **kwargs: Any) -> Any:
        bound = table.bind(name, signature, args, kwargs)
        arguments = dict(bound)
        if "learning_rate" in arguments:
            arguments["learning_rate"] = rate = get_schedule(arguments["learning_rate"])
            if callable(rate) and signature.parameters["learning_rate"].annotation is float:
                raise TypeError(
                    f"{name}: expected a number, as it takes no schedule, received learning_rate={rate!r}"
                )
        if steps := arguments.get("boundaries_and_scales"):  # JSON knows keys of text only
            arguments["boundaries_and_scales"] = {int(step): scale for step, scale in steps.items()}
        arguments |= {k: _mask(name, k, arguments[k]) for k in _MASKS & set(arguments)}
        made = function(**arguments)
        spec = Spec(table.kind, name, bound)
        return Configured(made, spec) if table is schedules else _optimizer(made, spec)

    constructor.__name__ = constructor.__qualname__ = name
    vars(constructor)["__signature__"] = signature
    constructor.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    constructor.__doc__ = _document(name, function, signature)
    table.register(name, constructor, *aliases)


def _mask(name: str, argument: str, value: Any) -> Any:
    """What optax takes as a mask; patterns of parameters' paths become a function."""
    patterns = [value] if isinstance(value, str) else value
    if isinstance(patterns, (list, tuple)) and all(isinstance(pattern, str) for pattern in patterns):
        return _Patterns(name, argument, tuple(patterns))
    leaves = jax.tree.leaves(value)
    if value is None or callable(value) or all(isinstance(leaf, (bool, np.bool_)) for leaf in leaves):
        return value
    raise TypeError(
        f"{name}: expected patterns of parameters' paths such as '**/kernel', a tree of true and false, or a "
        f"function of the parameters, received {argument}={value!r}"
    )


@dataclasses.dataclass(frozen=True)
class _Patterns:
    """A mask that is true for the parameters whose paths fit a pattern."""

    name: str
    argument: str
    patterns: tuple[str, ...]

    def __call__(self, params: Any) -> Any:
        paths = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        found = {path for pattern in self.patterns for path in match(pattern, paths)}
        if paths and not found:
            raise ValueError(
                f"{self.name}: expected patterns that fit parameters, such as '**/kernel', received "
                f"{self.argument}={list(self.patterns)!r}: {nearest(self.patterns[0], paths)}"
                if self.patterns
                else f"{self.name}: expected patterns of paths, received {self.argument}=[]"
            )
        return jax.tree.unflatten(jax.tree.structure(params), [path in found for path in paths])


def has_patterns(optimizer: Any) -> bool:
    """Whether what an optimizer does depends on the paths of the parameters."""
    spec = getattr(optimizer, "spec", None)
    values = spec.arguments if spec is not None else {}
    patterned = (isinstance(values[name], (str, list, tuple)) for name in _MASKS & set(values))
    return any(patterned) or any(map(has_patterns, values.get("transformations", ())))


def _document(name: str, function: Callable[..., Any], signature: inspect.Signature) -> str:
    first = (inspect.getdoc(getattr(function, "func", function)) or name).split("\n\n")[0].replace("\n", " ")
    shown = ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in signature.parameters.values()
    )
    text = f"{first}\n\n`optax.{name}({shown})`; its documentation explains the arguments.\n"
    masks = [f"`{mask}`" for mask in sorted(_MASKS & set(signature.parameters))]
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
    "lamb": (_RATE, ()),
    "lars": (_PLAIN_RATE, ()),
    "lion": (_RATE, ()),
    "nadam": (_RATE, ()),
    "nadamw": (_RATE, ("NadamW",)),
    "novograd": (_RATE, ()),
    "optimistic_gradient_descent": (_PLAIN_RATE, ()),
    "polyak_sgd": ({}, ()),
    "radam": (_RATE, ("RAdam",)),
    "rmsprop": (_RATE, ("RMSprop", "RMSProp")),
    "rprop": (_RATE, ()),
    "sgd": (_PLAIN_RATE, ()),
    "sign_sgd": (_RATE, ()),
    "sm3": (_PLAIN_RATE, ()),
    "yogi": (_RATE, ()),
}

_TRANSFORMATIONS = (
    "adaptive_grad_clip",
    "add_decayed_weights",
    "centralize",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
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
for _name in _TRANSFORMATIONS:
    _enter(registry, _name, _RATE)


def chain(transformations: list[OptimizerLike]) -> Optimizer:
    """One transformation of the gradients after the other: `optax.chain`; what a list in a config means.

    >>> import jlayers as jl
    >>> jl.optimizers.chain(["zero_nans", {"clip": {"max_delta": 1.0}}, "adam"])
    chain([zero_nans(), clip(1.0), adam()])
    """
    members = [registry.member(member) for member in transformations]
    if not members:
        raise ValueError("chain: expected at least one optimizer, received an empty list")
    return _optimizer(optax.chain(*members), Spec("optimizer", "chain", {"transformations": members}))


@schedules.factory()
def join_schedules(schedules: list[float | ScheduleLike], boundaries: list[int]) -> Callable[[Any], Any]:
    """Schedules one after the other: each starts anew, at step 0, at its boundary (`optax.join_schedules`).

    >>> import jlayers as jl
    >>> schedule = jl.optimizers.join_schedules([0.5, 0.1], boundaries=[10])
    >>> float(schedule(9)), round(float(schedule(10)), 6)
    (0.5, 0.1)
    """
    members: list[Any] = [get_schedule(member) for member in schedules]
    members = [m if callable(m) else optax.constant_schedule(m) for m in members]  # a number is constant
    return optax.join_schedules(members, boundaries)


registry.register("chain", chain)


def __getattr__(name: str) -> Callable[..., Any]:
    """`jl.optimizers.adam` and its like, in Keras's spelling too: the registered constructor."""
    for table in (registry, schedules):
        if not name.startswith("_") and name in table:
            return table[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {nearest(name, __dir__())}")


def __dir__() -> list[str]:
    return sorted([*__all__, *registry, *schedules])
