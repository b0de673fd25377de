"""What a layer is: a pair of pure functions and the call that made it.

The canonical form, the only one that containers, transforms and training call:

    init(key, *inputs) -> (params, state)
    apply(params, state, *inputs, key=None, train=False) -> (output, state)

Authors write a shorter one and `@layer` lifts it; see `layer`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.registry import Registry, Spec, nearest
from jlayers.shapes import as_spec, describe, pluralize

__all__ = ["Layer", "MissingKeyError", "Wiring", "join", "layer", "layers", "need_key", "no_params"]

layers = Registry("layer")

_LIFTED = ("state", "key", "train")
_OPTIONS = ("name", "trainable", "frozen")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")

Init = Callable[..., Any]
Apply = Callable[..., Any]


class MissingKeyError(ValueError):
    """A layer had to draw random numbers and no PRNG key was given."""


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """What a container's constructor returns: named children, and the pair that runs such children.

    `wire` is kept so that the same container can be made over again around changed children, which is
    how freezing works.
    """

    children: Mapping[str, Layer]
    wire: Callable[[Mapping[str, Layer]], tuple[Init, Apply]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """A pair of pure functions, `init` and `apply`, and the `spec` of the call that made them.

    Two layers are equal only if they are the same object; the same object used twice shares weights.
    A layer unpacks into its pair:

    >>> import jlayers as jl, jax
    >>> init, apply = jl.Dense(3)
    >>> params, state = init(jax.random.key(0), (2, 4))
    >>> params["kernel"].shape, state
    ((4, 3), {})

    Attributes:
        init: `init(key, *inputs) -> (params, state)`; inputs are arrays, `jax.ShapeDtypeStruct`s or
            shape tuples, batch dimension included.
        apply: `apply(params, state, *inputs, key=None, train=False) -> (output, state)`.
        spec: constructor and bound arguments.
        children: the layers inside, by name.
        frozen: relative paths of the layers that are frozen; '' is this layer itself.
    """

    init: Init
    apply: Apply
    spec: Spec
    children: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    wire: Callable[[Mapping[str, Layer]], tuple[Init, Apply]] | None = None
    made: Layer | None = None  # the layer as its constructor made it, when `frozen` was changed since

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.apply))

    def __call__(self, *inputs: Any) -> Any:
        """Connect the layer to graph nodes made by `jl.Input`; the result is a node."""
        for leaf in jax.tree.leaves(inputs):
            if hasattr(leaf, "feed"):
                return leaf.feed(self, inputs)
        raise TypeError(
            f"{self!r} was called on {describe(inputs)}: calling connects a layer to jl.Input nodes. "
            f"To compute, write: params, state = layer.init(jax.random.key(0), x); "
            f"y, state = layer.apply(params, state, x)"
        )

    def __repr__(self) -> str:
        changes = [f"{k}={v!r}" for k, v in self._frozen_data().items()]
        text = repr(self.spec)
        if not changes:
            return text
        return text[:-1] + ("" if text.endswith("()") else ", ") + ", ".join(changes) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec.name, {**self.spec.arguments, "frozen": sorted(self.frozen)})

    @property
    def draws(self) -> bool:
        """True if the layer, or one inside it, may draw random numbers: only such layers are given keys."""
        return getattr(self.apply, "draws", False)

    @property
    def name(self) -> str | None:
        """The name given at construction, or None: the parent then numbers the layer."""
        return self.spec.arguments["name"]

    def replace(self, **changes: Any) -> Layer:
        """The same layer built anew with some arguments changed.

        >>> import jlayers as jl
        >>> jl.Dense(64, activation="relu").replace(units=10)
        Dense(10, activation='relu')
        """
        kept = {} if "trainable" in changes else {"frozen": sorted(self.frozen)}
        return layers.build(self.spec.name, {**self.spec.arguments, **kept, **changes})

    def to_data(self) -> Any:
        """The layer as plain data: `"Flatten"` or `{"Dense": {"units": 64}}`; `layers.get` builds it again."""
        data = self.spec.to_data()
        frozen = self._frozen_data()
        if not frozen:
            return data
        return {self.spec.name: {**({} if isinstance(data, str) else data[self.spec.name]), **frozen}}

    def _frozen_data(self) -> dict[str, Any]:
        if self.frozen == (self.made or self).frozen:
            return {}
        if all(path in self.frozen for path, _ in self.walk()):
            return {"trainable": False}
        return {"frozen": sorted(self.frozen)}

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all below it, each with its path, parents first; the root's path is ''."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(join(path, name))

    def with_frozen(self, paths: Iterable[str]) -> Layer:
        """The same layer with exactly the layers at these relative paths frozen."""
        paths = frozenset(paths)
        made = self.made or self
        if paths == made.frozen:
            return made
        known = {path for path, _ in made.walk()}
        if unknown := sorted(paths - known):
            raise ValueError(f"{made!r} has no layer {unknown[0]!r}: {nearest(unknown[0], known)}")
        init, apply, children = made.init, made.apply, made.children
        if made.wire:
            children = {
                name: child.with_frozen(_below(paths, name)) for name, child in children.items()
            }
            init, apply = _lift(*made.wire(children), made.spec.name)
        if paths == known:
            apply = _frozen(apply)
        return Layer(init, apply, made.spec, children, paths, made.wire, made)

    def penalty(self, params: Mapping[str, Any]) -> jax.Array:
        """The sum of the regularisers of all layers that are not frozen: a float32 scalar.

        A regulariser belongs to the parameter that its argument names: `kernel_regularizer` to `kernel`,
        `recurrent_regularizer` to `recurrent_kernel`.

        >>> import jlayers as jl, jax.numpy as jnp
        >>> dense = jl.Dense(2, kernel_regularizer=jl.l2(0.5))
        >>> float(dense.penalty({"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}))
        3.0
        """
        total = jnp.zeros((), jnp.float32)
        if "" not in self.frozen:
            regularizers = Registry.of("regularizer")
            for name, regularizer in self.parameter_arguments(params, "regularizer"):
                total = total + regularizers.get(regularizer)(params[name]).astype(jnp.float32)
        for name, child in self.children.items():
            if name in params:
                total = total + child.penalty(params[name])
        return total

    def parameter_arguments(self, params: Mapping[str, Any], role: str) -> Iterator[tuple[str, Any]]:
        """Pairs of a parameter's name and what the argument `<parameter>_<role>` holds for it."""
        for argument, value in self.spec.arguments.items():
            if value is not None and argument.endswith("_" + role):
                stem = argument.removesuffix("_" + role)
                for name in (stem, stem + "_kernel", "kernel"):
                    if name in params:
                        yield name, value
                        break


def _rebuild(name: str, arguments: Mapping[str, Any]) -> Layer:
    return layers.build(name, arguments)


def join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _below(paths: Iterable[str], name: str) -> list[str]:
    """The paths at or under child `name`, relative to it."""
    split = (path.partition("/") for path in paths if path)
    return [rest for first, _, rest in split if first == name]


def no_params(key: Any, *inputs: Any) -> dict[str, Any]:
    """The `init` of a layer without parameters."""
    return {}


def need_key(key: Any) -> Any:
    """`key`, or an error that says how to give one."""
    if key is None:
        raise MissingKeyError(
            "this layer draws random numbers here and was given none to draw from: expected a PRNG key, "
            "received key=None; pass key=jax.random.key(seed) to apply"
        )
    return key


# ----------------------------------------------------------------------------------------- decorator


def layer(constructor: Callable[..., Any], type_name: str | None = None) -> Callable[..., Layer]:
    """Make a constructor of layers from a function that returns a pair of pure functions.

    In the short form that authors write, `init(key, *inputs)` sees the inputs as
    `jax.ShapeDtypeStruct`s and returns a dict of arrays, and `apply(params, *inputs)` returns the
    output. What `apply` needs besides, it names as keyword-only arguments, out of:

    - `state`: `init` then returns `(params, state)` and `apply` returns `(output, state)`;
    - `key`: a PRNG key, or None if the caller gave none (see `need_key`);
    - `train`: a Python bool.

    The constructor may instead return a `Layer`, whose pair it adopts, or a `Wiring` of children (see
    `jlayers.wiring.routed`). Every constructor also takes `name=None`, `trainable=True` as in Keras, and
    `frozen`, the relative paths that `jl.freeze` writes. Its name enters the registry, so that the layer
    pickles and can be written in YAML.

    Raises:
        TypeError: an argument that the constructor does not have, or an `apply` that names another
            keyword than the three.

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
    type_name = type_name or constructor.__name__
    own = inspect.signature(constructor)
    if clash := [option for option in _OPTIONS if option in own.parameters]:
        raise TypeError(f"{type_name}: @layer adds {clash[0]!r} itself; remove it from the signature")
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in own.parameters.values()):
        raise TypeError(f"{type_name}{own}: a layer's arguments are named one by one; replace * and **")
    added = [
        inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None"),
        inspect.Parameter("trainable", inspect.Parameter.KEYWORD_ONLY, default=True, annotation="bool"),
        inspect.Parameter(
            "frozen", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="list[str] | None"
        ),
    ]
    signature = own.replace(
        parameters=[*own.parameters.values(), *added], return_annotation=Layer
    )

    @functools.wraps(constructor)
    def make(*args: Any, **kwargs: Any) -> Layer:
        bound = layers.bind(type_name, signature, args, kwargs)
        trainable, frozen = bound.pop("trainable"), bound.pop("frozen")
        _check_name(type_name, bound["name"])
        made = constructor(**{k: v for k, v in bound.items() if k != "name"})
        built = _assemble(made, Spec("layer", type_name, bound))
        if not trainable:
            return built.with_frozen(path for path, _ in built.walk())
        return built if frozen is None else built.with_frozen(frozen)

    make.__name__ = make.__qualname__ = type_name
    make.__signature__ = signature  # type: ignore[attr-defined]
    make.__annotations__ = {
        **constructor.__annotations__,
        **{p.name: p.annotation for p in added},
        "return": Layer,
    }
    layers.register(type_name, make)
    return make


def _assemble(made: Any, spec: Spec) -> Layer:
    if isinstance(made, Layer):
        return dataclasses.replace(made, spec=spec, made=None)
    if isinstance(made, Wiring):
        frozen = {join(name, p) for name, child in made.children.items() for p in child.frozen}
        pair = _lift(*made.wire(made.children), spec.name)
        return Layer(*pair, spec, made.children, frozenset(p.rstrip("/") for p in frozen), made.wire)
    if not isinstance(made, tuple) or len(made) != 2 or not all(map(callable, made)):
        raise TypeError(
            f"{spec.name}: expected the constructor to return a pair of functions (init, apply), "
            f"received {made!r}"
        )
    return Layer(*_lift(*made, spec.name), spec)


def _check_name(type_name: str, name: Any) -> None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(
            f"{type_name}: expected a name of letters, digits, '_', '-' and '.' (it becomes part of paths "
            f"such as 'encoder/dense'), received name={name!r}"
        )


def _lift(init: Init, apply: Apply, type_name: str) -> tuple[Init, Apply]:
    """The canonical pair from the short one."""
    parameters = inspect.signature(apply).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"{type_name}: apply takes {', '.join(_LIFTED)} by name; replace its **")
    for keyword in sorted(keywords - set(_LIFTED)):
        raise TypeError(
            f"{type_name}: apply asks for {keyword!r}, expected only keywords out of "
            f"{', '.join(_LIFTED)}: {nearest(keyword, _LIFTED)}"
        )
    if lost := sorted({p.name for p in parameters if p.kind is not p.KEYWORD_ONLY} & set(_LIFTED)):
        raise TypeError(f"{type_name}: apply must take {lost[0]!r} by keyword only: put it after a '*'")
    stateful = "state" in keywords
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional) - 1
    least = sum(p.default is p.empty for p in positional) - 1

    def count(inputs: tuple[Any, ...]) -> None:
        if len(inputs) < least or (most is not None and len(inputs) > most):
            takes = pluralize(least, "input") if least == most else f"{least} to {most or 'any'} inputs"
            raise TypeError(
                f"{type_name} takes {takes}, received {len(inputs)}: {describe(inputs) or 'none'}"
            )

    def lifted_init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if not hasattr(key, "shape"):
            raise TypeError(
                f"{type_name}.init: expected a PRNG key first, received key={key!r}; "
                f"pass jax.random.key(seed)"
            )
        specs = tuple(map(as_spec, inputs))
        count(specs)
        made = init(key, *specs)
        if stateful and not (isinstance(made, tuple) and len(made) == 2):
            raise TypeError(
                f"{type_name}: apply asks for state, so init must return (params, state), "
                f"received {type(made).__name__}"
            )
        params, state = made if stateful else (made, {})
        if not isinstance(params, dict) or not isinstance(state, dict):
            raise TypeError(
                f"{type_name}: params and state are dicts of arrays by name, received "
                f"{type(params).__name__} and {type(state).__name__}"
            )
        return params, state

    def lifted_apply(
        params: Any, state: Any, *inputs: Any, key: Any = None, train: bool = False
    ) -> tuple[Any, Any]:
        count(inputs)
        given = {"state": state, "key": key, "train": train}
        out = apply(params, *inputs, **{k: given[k] for k in keywords})
        return out if stateful else (out, state)

    lifted_apply.draws = getattr(apply, "draws", "key" in keywords)  # type: ignore[attr-defined]
    return lifted_init, lifted_apply


def _frozen(apply: Apply) -> Apply:
    """Inference mode, no gradient, and no movement of the state."""

    def frozen_apply(
        params: Any, state: Any, *inputs: Any, key: Any = None, train: bool = False
    ) -> tuple[Any, Any]:
        output, _ = apply(jax.lax.stop_gradient(params), state, *inputs, key=key, train=False)
        return output, state

    return frozen_apply
