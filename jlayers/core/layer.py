"""`@layer`: from a function that returns a pair of pure functions to a constructor of layers."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

from jlayers.core.base import Layer, LayerLike, layers, with_options
from jlayers.core.docstrings import complete
from jlayers.core.errors import add_name
from jlayers.core.habits import argument_error
from jlayers.core.lifting import MissingKeyError, need_key, no_params
from jlayers.core.names import check_name, check_names
from jlayers.core.options import of_children
from jlayers.core.policy import PrecisionLike
from jlayers.core.registry import Registry
from jlayers.core.remaking import canonical, check_depth, remake
from jlayers.core.spec import Spec
from jlayers.core.spelling import UnknownNameError
from jlayers.core.structure import Wiring

__all__ = [
    "Layer",
    "LayerLike",
    "MissingKeyError",
    "Wiring",
    "layer",
    "layers",
    "need_key",
    "no_params",
]

_OPTIONS = [  # of every layer
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for name, default, annotation in (
        ("name", None, "str | None"),
        ("trainable", True, "bool"),
        ("frozen", None, "list[str] | None"),
        ("precision", None, PrecisionLike | None),
    )
]


@overload
def layer(
    constructor: Callable[..., Any], type_name: str | None = None, *, aliases: Iterable[str] = ()
) -> Callable[..., Layer]: ...
@overload
def layer(*, aliases: Iterable[str]) -> Callable[[Callable[..., Any]], Callable[..., Layer]]: ...
def layer(
    constructor: Callable[..., Any] | None = None,
    type_name: str | None = None,
    *,
    aliases: Iterable[str] = (),
) -> Any:
    """Make a constructor of layers from a function that returns a pair of pure functions.

    In the short form that authors write, `init(key, *inputs)` sees the inputs as
    `jax.ShapeDtypeStruct`s and returns a dict of arrays, and `apply(params, *inputs)` returns the
    output. What `apply` needs besides, it names as keyword-only arguments, out of:

    - `state`: `init` then returns `(params, state)` and `apply` returns `(output, state)`;
    - `key`: a PRNG key, or None if the caller gave none (see `need_key`);
    - `train`: a Python bool;
    - `mask`: what says which positions of the input are real, or None; the input is then plain. For an
      `apply` that takes one input it is the mask, else a tuple with one for each. An `apply` that returns
      an array has consumed the mask, one that returns a `Masked` hands it on. One that works on each position
      by itself is marked with `jl.keeps_mask` instead. Any other layer refuses masked inputs.

    The constructor may instead return a `Layer`, whose pair it adopts, or a `Wiring` of children (see
    `jl.routed`). Every constructor also takes `name=None`, `trainable=True` as in Keras,
    `frozen`, the relative paths that `jl.freeze` writes, and `precision`, what `jl.with_precision` takes. Its
    name enters the registry, so that the layer pickles and can be written in YAML; `@layer(aliases=[...])`
    enters other names for the same constructor. Arguments that the docstring leaves out are added to it where
    they have a common text.

    Raises:
        TypeError: an argument that the constructor does not have, or an `apply` that names another
            keyword than these.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> @jl.layer
    ... def Scale(value: float = 1.0):
    ...     def init(key, x):
    ...         return {"scale": jnp.full(x.shape[-1:], value, x.dtype)}
    ...     def apply(params, x):
    ...         return x * params["scale"]
    ...     return init, apply
    >>> scale = Scale(2.0, name="twice")
    >>> params, state = scale.init(jax.random.key(0), (1, 3))
    >>> scale.apply(params, state, jnp.ones((1, 3)))[0].tolist()
    [[2.0, 2.0, 2.0]]
    >>> scale
    Scale(value=2.0, name='twice')
    """
    if constructor is None:
        return functools.partial(layer, aliases=tuple(aliases))
    type_name = type_name or constructor.__name__
    own = inspect.signature(constructor)
    if clash := [option.name for option in _OPTIONS if option.name in own.parameters]:
        raise TypeError(f"{type_name}: @layer adds {clash[0]!r} itself; remove it from the signature")
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in own.parameters.values()):
        raise TypeError(f"{type_name}{own}: a layer's arguments are named one by one; replace * and **")
    signature = own.replace(parameters=[*own.parameters.values(), *_OPTIONS], return_annotation=Layer)

    @functools.wraps(constructor)
    def make(*args: Any, **kwargs: Any) -> Layer:
        if error := argument_error(type_name, kwargs, signature.parameters):
            raise error
        bound = layers.bind(type_name, signature, args, kwargs)
        trainable, frozen, precision = (bound.pop(option) for option in ("trainable", "frozen", "precision"))
        if bound["name"] is not None:
            check_name(type_name, bound["name"])
        try:
            _check_roles(bound)
            value = constructor(**{k: v for k, v in bound.items() if k != "name"})
            built = _assemble(value, Spec("layer", type_name, bound))
        except UnknownNameError as error:  # what the user wrote is the outermost layer
            raise UnknownNameError(error.text, where=type_name) from None
        except (TypeError, ValueError) as error:
            add_name(error, type_name, bound)
            raise
        return with_options(built, frozen, precision, bool(trainable))

    make.__name__ = make.__qualname__ = type_name
    make.__doc__ = complete(constructor.__doc__, signature.parameters, _doc_of)
    vars(make)["__signature__"] = signature
    make.__annotations__ = {
        **constructor.__annotations__,
        **{option.name: option.annotation for option in _OPTIONS},
        "return": Layer,
    }
    layers.register(type_name, make, *aliases)
    return make


def _doc_of(type_name: str) -> str | None:
    return layers[type_name].__doc__ if type_name in layers else None


def _check_roles(arguments: Mapping[str, Any]) -> None:
    """Refuse an unknown regularizer or constraint when the layer is made, not when it is trained."""
    for name, value in arguments.items():
        role = name.rpartition("_")[2]
        if role in ("regularizer", "constraint"):
            Registry.of(role).get(value)


def _assemble(value: Any, spec: Spec) -> Layer:
    if isinstance(value, Layer):
        thawed = value.original or value  # so that what comes frozen can be unfrozen
        adopted = (value.spec, *value.adopted)
        built = dataclasses.replace(thawed, spec=spec, original=None, adopted=adopted, substituted={})
        return remake(built, value.frozen, value.precision)
    if isinstance(value, Wiring):
        check_names(spec.name, value.children)
        check_depth(spec.name, value.children)
        pair = canonical(value.wire(value.children), spec, value.children)
        return Layer(pair, spec, value.children, *of_children(value.children), wiring=value)
    return Layer(canonical(value, spec), spec)
