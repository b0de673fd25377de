"""An optimizer: an optax transformation with the call that made it, found by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import jax
import optax

from jlayers.core.errors import refused
from jlayers.core.registry import Kind, Registry
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest

__all__ = ["Optimizer", "OptimizerLike", "chain", "has_patterns", "lenient", "registry", "with_spec"]

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
        groups: optimizers by the patterns of their parameters, "" for the others.
        rates: numbers or schedules by the arguments that are learning rates.
    """

    spec: Spec
    descends: bool = True
    by_paths: bool = False
    members: tuple[Any, ...] = ()
    groups: Mapping[str, Any] = MappingProxyType({})
    rates: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec.name, dict(self.spec.arguments))


def _rebuild(name: str, arguments: dict[str, Any]) -> Any:
    return registry.build(name, arguments)


def with_spec(
    transformation: optax.GradientTransformation,
    spec: Spec,
    *,
    descends: bool = True,
    by_paths: bool = False,
    members: Sequence[Any] = (),
    groups: Mapping[str, Any] = MappingProxyType({}),
    rates: Mapping[str, Any] = MappingProxyType({}),
) -> Optimizer:
    """The transformation with the call that made it; the rest as in `Optimizer`."""
    optimizer = Optimizer(*optax.with_extra_args_support(transformation))
    optimizer.spec, optimizer.descends, optimizer.by_paths = spec, descends, by_paths
    optimizer.members, optimizer.groups, optimizer.rates = tuple(members), groups, rates
    return optimizer


class _Optimizers(Registry):
    def get(self, value: Any) -> Any:
        """An optimizer from its name, `{name: arguments}`, a list of such, or itself.

        Raises:
            ValueError: a transformation that only changes gradients, and would go up along them.
        """
        optimizer = self.member(value)
        if not getattr(optimizer, "descends", True):
            raise refused(
                ValueError,
                "expected an optimizer, such as adam",
                instead="this one changes gradients and would go up along them: write a list that ends with "
                f"an optimizer: [{_last(optimizer)}, adam]",
                optimizer=optimizer,
            )
        return optimizer

    def member(self, value: Any) -> Any:
        """As `get`; also a transformation that goes before an optimizer."""
        if isinstance(value, optax.MultiSteps):  # optax gives it methods instead
            return value.gradient_transformation()
        if isinstance(value, optax.GradientTransformation):
            return value
        if isinstance(value, (list, tuple)):
            return chain(list(value))
        if not isinstance(value, (str, Mapping)):
            if callable(value):
                super().get(value)  # says that a constructor must be called
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


def chain(transformations: list[OptimizerLike]) -> Optimizer:
    """One transformation of the gradients after the other: `optax.chain`; what a list in a config means.

    >>> import jlayers as jl
    >>> jl.optimizers.chain(["zero_nans", {"clip": {"max_delta": 1.0}}, "adam"])
    chain([zero_nans(), clip(1.0), adam()])
    """
    members = [registry.member(member) for member in transformations]
    if not members:
        raise refused(
            ValueError, "expected at least one optimizer", raised_by="chain", transformations=transformations
        )
    return with_spec(
        optax.chain(*members),
        Spec("optimizer", "chain", {"transformations": members}),
        descends=any(getattr(member, "descends", True) for member in members),
        by_paths=any(map(has_patterns, members)),
        members=members,
    )


registry.register("chain", chain)


def has_patterns(optimizer: Any) -> bool:
    """True if the effect of an optimizer depends on the paths of the parameters."""
    return getattr(optimizer, "by_paths", False)


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Room for optax, which counts on JAX's default promotion, where the caller has made it strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
