"""Precision: the dtypes of a layer's parameters, computation and output, as a static fact of a model.

A policy belongs to a layer and to all layers inside it; nothing is global. `jl.with_precision` sets it, and
the casts at a layer's edges here are all that it does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jlayers.core.calls import taught
from jlayers.core.errors import concerning
from jlayers.core.pair import Pair
from jlayers.core.policy import DType, Policy, PrecisionLike, get, registry
from jlayers.core.shapes import as_spec
from jlayers.core.tree import above, match_layers

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["assign", "computes_in", "shortest_form", "widen", "with_policy", "with_precision"]


@taught
def with_precision(model: Layer, precision: PrecisionLike) -> Layer:
    """The model with other dtypes, as a whole or by paths; the given model does not change.

    Args:
        model: any layer.
        precision: a policy, by name or as `jl.Policy`, for the whole model; or a mapping from patterns of
            paths to policies, with `*` within one name and `**` for any number of names. A policy holds for
            what its pattern matches and all inside; later patterns override earlier ones. None takes a
            policy away: a layer without one follows the dtypes of its inputs.

    Raises:
        ValueError: a pattern that matches no layer.
        KeyError: an unknown policy.

    >>> import jax, jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> half = jl.with_precision(model, {"**": "mixed_bfloat16", "head": "float32"})
    >>> params, state = half.init(jax.random.key(0), (1, 4))
    >>> y, _ = half.apply(params, state, jax.numpy.ones((1, 4)))
    >>> str(params["base"]["kernel"].dtype), str(y.dtype)
    ('float32', 'float32')
    >>> jl.with_precision(model, "mixed_bfloat16")
    Sequential([Dense(8, name='base'), Dense(2, name='head')], precision='mixed_bfloat16')
    """
    return model.with_precision(precision)


def computes_in(model: Layer, dtype: DType) -> bool:
    """True if a layer of the model has a policy that computes in this dtype."""
    return any(policy.compute == dtype for policy in model.precision.values())


# ------------------------------------------------------------------------------ which layer has which


def assign(
    paths: Sequence[str], current: Mapping[str, Policy], precision: PrecisionLike
) -> dict[str, Policy]:
    """The policies by path once `precision`, as `with_precision` takes it, lies over the `current` ones."""
    policies = dict(current)
    for pattern, policy in _entries(precision):
        with concerning(pattern, precision=precision):
            matched = set(match_layers(pattern, paths))
        for path in paths:
            within = any(p in matched for p in above(path))
            if not within and path not in matched:
                continue
            if policy is None:
                policies.pop(path, None)
            else:
                policies[path] = policy.inside if within else policy
    return policies


def shortest_form(paths: Sequence[str], made: Mapping[str, Policy], policies: Mapping[str, Policy]) -> Any:
    """The shortest plain data from which `assign` makes `policies`, given those that the constructor `made`.

    >>> policies = {"": Policy(), "head": Policy()}
    >>> shortest_form(["", "head"], {}, policies), shortest_form(["", "head"], policies, policies)
    ('float32', None)
    """
    data: dict[str, Any] = {}
    changed: dict[str, Policy | None] = {}
    for path in paths:
        policy, current = policies.get(path), made.get(path)
        if (around := next((p for p in above(path) if p in changed), None)) is not None:
            outer = changed[around]
            current = outer and outer.inside
        if current != policy:
            changed[path] = policy
            data[path or "**"] = None if policy is None else policy.spec.to_data()
    if list(data) == ["**"] and data["**"] is not None:
        return data["**"]
    return data or None


def _entries(precision: Any) -> Iterator[tuple[str, Policy | None]]:
    if not isinstance(precision, Mapping) or _is_policy(precision):
        precision = {"**": precision}
    for pattern, policy in precision.items():
        yield pattern, get(policy)


def _is_policy(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and all(name in registry and isinstance(v, Mapping) for name, v in value.items())


# ----------------------------------------------------------------------------------- what a policy does


def with_policy(pair: Pair, policy: Policy, children: Collection[str] = ()) -> Pair:
    """The canonical pair under a policy; each of `children` casts its own parameters and outputs.

    A pair without `autocast` is given its inputs as they are: it does nothing but hand them on. One that must
    see them `wide` computes in their dtype where that is the wider one, and answers like all others.
    """
    init, apply, autocast = pair.init, pair.apply, pair.autocast
    answer = policy.output or (policy.compute if autocast and not children else None)

    def own(params: Mapping[str, Any], dtype: DType) -> dict[str, Any]:
        return {name: value if name in children else _cast(value, dtype) for name, value in params.items()}

    def precise_init(key: Any, *inputs: Any) -> tuple[dict[str, Any], Any]:
        _need_x64(policy)
        specs = tuple(map(as_spec, inputs))
        if autocast:  # parameters are drawn in their own dtype; what reaches children is computed
            specs = _cast(specs, policy.compute if children else policy.param)
        params, state = init(key, *specs)
        return own(params, policy.param), state

    def precise_apply(params: Any, state: Any, *inputs: Any, **keywords: Any) -> tuple[Any, Any]:
        _need_x64(policy)
        compute = _widest(policy.compute, inputs) if pair.wide else policy.compute
        if autocast:
            inputs = _cast(inputs, compute)
        params = own(params, compute)
        output, moved = apply(params, state, *inputs, **keywords)
        return (output if answer is None else _cast(output, answer)), _in_dtypes_of(state, moved)

    return pair.wrap(init=precise_init, apply=precise_apply)


def widen(tree: Any) -> Any:
    """Arrays and specs in 16 bits as float32; all else as it is."""

    def leaf(x: Any) -> Any:
        return _cast(x, "float32") if _is_floating(x) and jnp.finfo(x.dtype).bits < 32 else x

    return jax.tree.map(leaf, tree)


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _cast(tree: Any, dtype: Any) -> Any:
    """Floating arrays and specs in this dtype; all else as it is."""

    def leaf(x: Any) -> Any:
        if not _is_floating(x):
            return x
        return (
            jax.ShapeDtypeStruct(x.shape, dtype) if isinstance(x, jax.ShapeDtypeStruct) else x.astype(dtype)
        )

    return jax.tree.map(leaf, tree)


def _widest(dtype: Any, inputs: Any) -> Any:
    """The dtype that holds all values of this one and of the floating inputs."""
    dtypes = {jnp.dtype(dtype), *(x.dtype for x in jax.tree.leaves(inputs) if _is_floating(x))}
    most = max(jnp.finfo(d).bits for d in dtypes)
    widest = [d for d in dtypes if jnp.finfo(d).bits == most]
    return widest[0] if len(widest) == 1 else jnp.dtype(jnp.float32)  # float16 beside bfloat16


def _in_dtypes_of(before: Any, after: Any) -> Any:
    """A layer's state keeps its dtypes, whatever the layer computes in."""
    if isinstance(after, Mapping):
        return {k: _in_dtypes_of(before[k], v) if k in before else v for k, v in after.items()}
    return after.astype(before.dtype) if _is_floating(before) else after


def _need_x64(policy: Policy) -> None:
    wide = "float64" in (policy.param, policy.compute, policy.output)
    if wide and jax.dtypes.canonicalize_dtype("float64") != jnp.float64:
        raise ValueError(
            f"expected 64 bits to be enabled for precision={policy.spec.to_data()!r}, received "
            f"jax_enable_x64=False; set the environment variable JAX_ENABLE_X64=1, write "
            f"jax.config.update('jax_enable_x64', True) first, or run within jax.enable_x64(True)"
        )
