"""Optimizers, gradient transformations and learning-rate schedules: optax's, by optax's names, a closed list.

Arguments and defaults are optax's and are read off its signatures. Two things are ours: `learning_rate` has
Keras's default (0.001, and 0.01 for plain gradient descent), and it may be a number, a schedule, or a
schedule by name. Where optax and Keras differ in another default (adamw's `weight_decay` is 1e-4 here and
0.004 in Keras), optax's stands, so that its documentation holds. Keras adds its `epsilon` before the bias
correction: `adam(epsilon_hat=1e-7)` is Keras's Adam. `ftrl` and `clip_by_norm` are Keras's, since optax has
neither.

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

**Several optimizers**, by patterns of paths: `multi_optimizer`. A **schedule-free** optimizer trains with
other parameters than those to evaluate with; `fit`, `evaluate` and `predict` take the right ones, and
`state.to_evaluate()` has them.

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

from jlayers.core.errors import refused
from jlayers.core.registry import UNQUOTED, Configured, Kind, Registry, Spec, is_number, nearest
from jlayers.core.tree import match
from jlayers.optimizers import _keras
from jlayers.optimizers._keras import averaged, restarted

__all__ = [
    "Optimizer",
    "OptimizerLike",
    "ScheduleLike",
    "averaged",
    "chain",
    "get",
    "get_schedule",
    "has_patterns",
    "join_schedules",
    "keras_word",
    "multi_optimizer",
    "register_schedule",
    "restarted",
]

ScheduleLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("schedule")]
OptimizerLike = Annotated[
    str | Mapping[str, Any] | Sequence[Any] | optax.GradientTransformation, Kind("optimizer")
]


class Optimizer(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformation` that remembers the call that made it.

    Attributes:
        spec: the call.
        descends: False for a transformation that leaves gradients pointing uphill.
        by_paths: what it does depends on the paths of the parameters.
        members: the transformations of a chain, in order.
    """

    spec: Spec
    descends: bool = True
    by_paths: bool = False
    members: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec.name, dict(self.spec.arguments))


def _rebuild(name: str, arguments: dict[str, Any]) -> Any:
    return registry.build(name, arguments)


def _optimizer(
    transformation: optax.GradientTransformation,
    spec: Spec,
    *,
    descends: bool = True,
    by_paths: bool = False,
    members: Sequence[Any] = (),
) -> Optimizer:
    made = Optimizer(*optax.with_extra_args_support(transformation))
    made.spec, made.descends, made.by_paths, made.members = spec, descends, by_paths, tuple(members)
    return made


class _Optimizers(Registry):
    def get(self, value: Any) -> Any:
        """An optimizer from its name, `{name: arguments}`, a list of such, or itself.

        Raises:
            ValueError: a transformation of gradients alone, which would climb.
        """
        made = self.member(value)
        if not getattr(made, "descends", True):
            raise refused(
                ValueError,
                "expected an optimizer, such as adam",
                instead="this one changes gradients and would go up along them: write a list that ends with "
                f"an optimizer: [{_last(made)}, adam]",
                optimizer=made,
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


def _last(optimizer: Any) -> str:
    """The name of the last transformation."""
    while optimizer.members:
        optimizer = optimizer.members[-1]
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
        raise refused(ValueError, "expected a number or a schedule", instead=UNQUOTED, learning_rate=value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0.0 <= value < float("inf"):
            raise refused(ValueError, "expected a finite learning rate of at least 0", learning_rate=value)
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

_MASKS = {"mask", "weight_decay_mask", "trust_ratio_mask", "exclude"}


def _annotation(name: str, parameter: inspect.Parameter, default: Any) -> Any:
    """A type that plain data can be checked against, from the default, or else from optax's hint."""
    if name == "learning_rate":  # a few of optax's take a number only
        takes = str(parameter.annotation)
        return float | ScheduleLike if "Callable" in takes or takes == "Any" else float
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
        _refuse_keras_words(name, signature.parameters, kwargs)
        bound = table.bind(name, signature, args, kwargs)
        arguments = dict(bound)
        for key in {"learning_rate", "adam_learning_rate"} & set(arguments):
            if arguments[key] is None:
                continue
            arguments[key] = rate = get_schedule(arguments[key])
            if callable(rate) and signature.parameters[key].annotation is float:
                raise TypeError(
                    f"{name}: expected a number, as it takes no schedule, received {key}={rate!r}"
                )
        if steps := arguments.get("boundaries_and_scales"):  # JSON knows keys of text only
            arguments["boundaries_and_scales"] = {int(step): scale for step, scale in steps.items()}
        arguments |= {k: _mask(name, k, arguments[k]) for k in _MASKS & set(arguments)}
        made = function(**arguments)
        spec = Spec(table.kind, name, bound)
        if table is schedules:
            return Configured(made, spec)
        by_paths = any(isinstance(arguments[mask], _Patterns) for mask in _MASKS & set(arguments))
        return _optimizer(made, spec, descends=descends(arguments), by_paths=by_paths)

    constructor.__name__ = constructor.__qualname__ = name
    vars(constructor)["__signature__"] = signature
    constructor.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    constructor.__doc__ = inspect.getdoc(own) if own else _document(name, function, signature)
    table.register(name, constructor, *aliases)


# Arguments of Keras's optimizers: the argument here, for optimizers that have it, or what to write instead.
_RENAMED = {
    "adam_beta_1": "adam_b1",
    "adam_beta_2": "adam_b2",
    "beta_1": "b1",
    "beta_2": "b2",
    "exclude_layers": "exclude",
    "momentum": "beta",
    "rho": "decay",
    "rms_rate": "consistent_rms",
}
_ELSEWHERE = {
    "amsgrad": "the optimizer amsgrad",
    "clipnorm": "[{{'clip_by_norm': {{'max_norm': {value}}}}}, '{name}']",
    "clipvalue": "[{{'clip': {{'max_delta': {value}}}}}, '{name}']",
    "ema_momentum": "jl.compile(..., ema={value})",
    "ema_overwrite_frequency": "jl.compile(..., ema=0.99), which keeps the average beside the weights",
    "global_clipnorm": "[{{'clip_by_global_norm': {{'max_norm': {value}}}}}, '{name}']",
    "gradient_accumulation_steps": "jl.compile(..., accumulate={value})",
    "loss_scale_factor": "jl.compile(..., loss_scale={value})",
    "use_ema": "jl.compile(..., ema=0.99)",
}
_WITH_DECAY = {"adam": "adamw", "adamax": "adamaxw", "nadam": "nadamw"}


def keras_word(name: str, known: Iterable[str], word: str, value: Any) -> str | None:
    """What to write here for an argument of Keras's optimizer of that name."""
    known = set(known)
    if word == "epsilon":
        found = [here for here in ("epsilon_hat", "eps") if here in known]
        return f"{found[0]}={value!r}" if found else None
    if word == "weight_decay":
        other = _WITH_DECAY.get(name)
        return f"{other}(weight_decay={value!r})" if other else "kernel_regularizer='l2' in the layers"
    if _RENAMED.get(word) in known:
        return f"{_RENAMED[word]}={value!r}"
    return _ELSEWHERE[word].format(value=repr(value), name=name) if word in _ELSEWHERE else None


def _refuse_keras_words(name: str, known: Iterable[str], given: Mapping[str, Any]) -> None:
    for word, value in given.items():
        if word not in known and (instead := keras_word(name, known, word, value)):
            raise TypeError(f"{name} has no argument {word!r} (received {word}={value!r}): write {instead}")


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
        paths = _paths(params)
        if paths and not any(match(pattern, paths) for pattern in self.patterns):
            raise ValueError(
                f"{self.name}: expected patterns that fit parameters, such as '**/kernel', received "
                f"{self.argument}={list(self.patterns)!r}: {nearest(self.patterns[0], paths)}"
                if self.patterns
                else f"{self.name}: expected patterns of paths, received {self.argument}=[]"
            )
        return self.among(params)

    def among(self, params: Any) -> Any:
        """The mask of parameters that may be a part of all."""
        paths = _paths(params)
        found = {path for pattern in self.patterns for path in match(pattern, paths)}
        return jax.tree.unflatten(jax.tree.structure(params), [path in found for path in paths])


def _paths(params: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]


def has_patterns(optimizer: Any) -> bool:
    """Whether what an optimizer does depends on the paths of the parameters."""
    return getattr(optimizer, "by_paths", False)


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

_TRANSFORMATIONS = (
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
for _name in _TRANSFORMATIONS:
    _enter(registry, _name, _RATE, descends=_DESCENDING.get(_name, lambda arguments: False))


def chain(transformations: list[OptimizerLike]) -> Optimizer:
    """One transformation of the gradients after the other: `optax.chain`; what a list in a config means.

    >>> import jlayers as jl
    >>> jl.optimizers.chain(["zero_nans", {"clip": {"max_delta": 1.0}}, "adam"])
    chain([zero_nans(), clip(1.0), adam()])
    """
    members = [registry.member(member) for member in transformations]
    if not members:
        raise ValueError("chain: expected at least one optimizer, received an empty list")
    return _optimizer(
        optax.chain(*members),
        Spec("optimizer", "chain", {"transformations": members}),
        descends=any(getattr(member, "descends", True) for member in members),
        by_paths=any(map(has_patterns, members)),
        members=members,
    )


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


def multi_optimizer(optimizers: dict[str, OptimizerLike], default: OptimizerLike | None = None) -> Optimizer:
    """Several optimizers, each for the parameters whose paths fit its pattern. Keras's `MultiOptimizer`.

    Where several patterns fit, the last one counts. Each optimizer sees only its own parameters, so that
    a norm over all gradients is one over all of its gradients.

    Args:
        optimizers: by patterns of parameters' paths, such as `"encoder/**"` or `"**/bias"`.
        default: for the parameters that no pattern fits; without one, each must fit.

    Raises:
        ValueError: when parameters are met: a pattern that none fits, or a parameter that fits none.

    >>> import jax, jlayers as jl
    >>> slow_start = jl.optimizers.multi_optimizer({"encoder/**": {"adam": {"learning_rate": 1e-5}}}, "adam")
    >>> slow_start
    multi_optimizer({'encoder/**': adam(learning_rate=1e-05)}, default=adam())
    """
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise refused(
            TypeError,
            "expected optimizers by patterns of paths, such as {'encoder/**': 'adam'}",
            raised_by="multi_optimizer",
            optimizers=optimizers,
        )
    members: dict[str, Any] = {pattern: registry.get(member) for pattern, member in optimizers.items()}
    rest = None if default is None else registry.get(default)

    def labels(params: Any) -> Any:
        paths = _paths(params)
        found: dict[str, str] = {}
        for pattern in members:
            fits = match(pattern, paths)
            if paths and not fits:
                raise ValueError(
                    f"multi_optimizer: expected patterns that fit trained parameters, received the pattern "
                    f"{pattern!r}: {nearest(pattern, paths)}"
                )
            found |= dict.fromkeys(fits, pattern)
        missed = [path for path in paths if path not in found]
        if missed and rest is None:
            raise ValueError(
                f"multi_optimizer: expected an optimizer for each parameter, received none for "
                f"{', '.join(missed[:3])}; name one for the others: default='adam'"
            )
        return jax.tree.unflatten(jax.tree.structure(params), [found.get(path, "") for path in paths])

    groups: dict[Any, Any] = {**members, **({} if rest is None else {"": rest})}
    made = optax.partition(groups, labels, mask_compatible_extra_args=True)
    spec = Spec("optimizer", "multi_optimizer", {"optimizers": members, "default": rest})
    return _optimizer(made, spec, by_paths=True)


registry.register("chain", chain)
registry.register("multi_optimizer", multi_optimizer)


def __getattr__(name: str) -> Callable[..., Any]:
    """`jl.optimizers.adam` and its like, in Keras's spelling too: the registered constructor."""
    for table in (registry, schedules):
        if not name.startswith("_") and name in table:
            return table[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {nearest(name, __dir__())}")


def __dir__() -> list[str]:
    return sorted([*__all__, *registry, *schedules])
