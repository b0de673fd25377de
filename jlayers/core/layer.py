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
from typing import TYPE_CHECKING, Annotated, Any, overload

import jax
import jax.numpy as jnp

from jlayers.core.docstrings import complete
from jlayers.core.errors import add_name
from jlayers.core.habits import argument_error, call_error, missing_attribute
from jlayers.core.lifting import (
    Apply,
    Init,
    MissingKeyError,
    frozen_in,
    lift,
    need_key,
    no_params,
    penalised,
)
from jlayers.core.precision import Policy, PrecisionLike, assigned, precise_in, written
from jlayers.core.registry import Kind, Registry, Spec, UnknownNameError, nearest
from jlayers.core.shapes import describe

__all__ = [
    "Layer",
    "LayerLike",
    "MissingKeyError",
    "Wiring",
    "join",
    "layer",
    "layers",
    "need_key",
    "no_params",
]

layers = Registry("layer")

_OPTIONS = ("name", "trainable", "frozen", "precision")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """What a container's constructor returns: named children, and the pair that runs such children.

    `wire` is kept so that the same container can be made over again around changed children, which is
    how freezing and precision work. `stacked` says that the children's arrays have a leading axis, one slice
    per use.
    """

    children: Mapping[str, Layer]
    wire: Callable[[Mapping[str, Layer]], tuple[Init, Apply]]
    stacked: bool = False


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
        precision: by relative path the policies of the layers that have one; see `jl.with_precision`.
    """

    init: Init
    apply: Apply
    spec: Spec
    children: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    precision: Mapping[str, Policy] = dataclasses.field(default_factory=dict)
    wire: Callable[[Mapping[str, Layer]], tuple[Init, Apply]] | None = None
    made: Layer | None = None  # the layer as its constructor made it, if it was remade since
    stacked: bool = False  # the children's arrays have a leading axis, one slice per use
    adopted: tuple[Spec, ...] = ()  # of the layer whose pair the constructor returned as its own

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.apply))

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Connect the layer to graph nodes made by `jl.Input`; the result is a node."""
        if keywords:
            raise call_error(self.spec.name, keywords)
        for leaf in jax.tree.leaves(inputs):
            if hasattr(leaf, "feed"):
                return leaf.feed(self, inputs)
        raise TypeError(
            f"{self!r} was called on {describe(inputs)}: calling connects a layer to jl.Input nodes. "
            f"To compute, write: params, state = layer.init(jax.random.key(0), x); "
            f"y, state = layer.apply(params, state, x)"
        )

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            raise missing_attribute(name)

    def __init_subclass__(cls) -> None:
        raise TypeError(
            f"{cls.__name__}: expected a function under @jl.layer that returns a pair (init, apply), "
            f"received a subclass of jl.Layer, which is what such functions make"
        )

    def __repr__(self) -> str:
        changes = [f"{k}={v!r}" for k, v in {**self._frozen_data(), **self._precision_data()}.items()]
        text = repr(self.spec)
        if not changes:
            return text
        return text[:-1] + ("" if text.endswith("()") else ", ") + ", ".join(changes) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {"frozen": sorted(self.frozen), **self._precision_data()}
        return _rebuild, (self.spec.name, {**self.spec.arguments, **kept})

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
        return layers.build(
            self.spec.name, {**self.spec.arguments, **kept, **self._precision_data(), **changes}
        )

    def to_data(self) -> Any:
        """Plain data, `"Flatten"` or `{"Dense": {"units": 64}}`, from which `layers.get` builds it again."""
        data = self.spec.to_data()
        options = {**self._frozen_data(), **self._precision_data()}
        if not options:
            return data
        return {self.spec.name: {**({} if isinstance(data, str) else data[self.spec.name]), **options}}

    def _frozen_data(self) -> dict[str, Any]:
        if self.frozen == (self.made or self).frozen:
            return {}
        if all(path in self.frozen for path, _ in self.walk()):
            return {"trainable": False}
        return {"frozen": sorted(self.frozen)}

    def _precision_data(self) -> dict[str, Any]:
        made = (self.made or self).precision
        if self.precision == made:
            return {}
        return {"precision": written([path for path, _ in self.walk()], made, self.precision)}

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all below it, each with its path, parents first; the root's path is ''."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(join(path, name))

    def with_frozen(self, paths: Iterable[str]) -> Layer:
        """The same layer with exactly the layers at these relative paths frozen."""
        paths = frozenset(paths)
        known = [path for path, _ in self.walk()]
        if unknown := sorted(paths - set(known)):
            raise ValueError(f"{self!r} has no layer {unknown[0]!r}: {nearest(unknown[0], known)}")
        return self._remade(paths, self.precision)

    def with_precision(self, precision: PrecisionLike) -> Layer:
        """The same layer with other policies; see `jl.with_precision`."""
        paths = [path for path, _ in self.walk()]
        return self._remade(self.frozen, assigned(paths, self.precision, precision))

    def _remade(self, frozen: frozenset[str], precision: Mapping[str, Policy]) -> Layer:
        """The layer as its constructor made it, around children so changed, and so changed itself."""
        made = self.made or self
        if frozen == made.frozen and precision == made.precision:
            return made
        init, apply, children = made.init, made.apply, made.children
        if made.wire:
            children = {
                name: child._remade(frozenset(_below(frozen, name)), _policies_below(precision, name))
                for name, child in children.items()
            }
            init, apply = _pair(made.wire(children), made.spec, children)
        if "" in precision:
            init, apply = precise_in(init, apply, precision[""], children)
        if all(path in frozen for path, _ in made.walk()):
            apply = frozen_in(apply)
        return dataclasses.replace(
            made, init=init, apply=apply, children=children, frozen=frozen, precision=precision, made=made
        )

    def penalty(self, params: Mapping[str, Any]) -> jax.Array:
        """The sum of the regularisers of all layers that are not frozen: a scalar, float32 or wider.

        A regulariser belongs to the parameter that its argument names: `kernel_regularizer` to `kernel`,
        `recurrent_regularizer` to `recurrent_kernel`.

        >>> import jlayers as jl, jax.numpy as jnp
        >>> dense = jl.Dense(2, kernel_regularizer=jl.l2(0.5))
        >>> float(dense.penalty({"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}))
        3.0
        """
        wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params))
        total = jnp.zeros((), jnp.float64 if wide else jnp.float32)
        if "" not in self.frozen:
            regularizers = Registry.of("regularizer")
            for name, regularizer in self.parameter_arguments(params, "regularizer"):
                total = total + regularizers.get(regularizer)(params[name]).astype(total.dtype)
        for name, child in self.children.items():
            if name in params:
                each = jax.vmap(child.penalty) if self.stacked else child.penalty
                total = total + jnp.sum(each(params[name])).astype(total.dtype)
        return total

    def constrain(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the constraints of all layers that are not frozen imposed; others as they are.

        The training step does so after every update. A constraint belongs to the parameter that its argument
        names, as in `penalty`.

        >>> import jlayers as jl, jax.numpy as jnp
        >>> dense = jl.Dense(2, kernel_constraint="non_neg")
        >>> dense.constrain({"kernel": jnp.array([[-1.0, 2.0]]), "bias": -jnp.ones(2)})["kernel"].tolist()
        [[0.0, 2.0]]
        """
        new = dict(params)
        if "" not in self.frozen:
            constraints = Registry.of("constraint")
            for name, constraint in self.parameter_arguments(params, "constraint"):
                new[name] = constraints.get(constraint)(params[name]).astype(params[name].dtype)
        for name, child in self.children.items():
            if name in params:
                each = jax.vmap(child.constrain) if self.stacked else child.constrain
                new[name] = each(params[name])
        return new

    def parameter_arguments(self, params: Mapping[str, Any], role: str) -> Iterator[tuple[str, Any]]:
        """Pairs of a parameter's name and what the argument `<parameter>_<role>` holds for it.

        An argument of an adopted layer counts where this layer has none of its own for the parameter.
        """
        found: dict[str, Any] = {}
        for spec in (self.spec, *self.adopted):
            own: dict[str, Any] = {}
            for argument, value in spec.arguments.items():
                if value is not None and argument.endswith("_" + role):
                    stem = argument.removesuffix("_" + role)
                    # In a layer with one kernel, `depthwise_...` means it; a bias that is off has none.
                    for name in (stem, stem + "_kernel", *(["kernel"] if stem == "depthwise" else [])):
                        if name in params:
                            own[name] = value
                            break
            found = {**own, **found}
        yield from found.items()


def _rebuild(name: str, arguments: Mapping[str, Any]) -> Layer:
    return layers.build(name, arguments)


LayerLike = Annotated[Layer | str | Mapping[str, Any], Kind("layer")]


def join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _below(paths: Iterable[str], name: str) -> list[str]:
    """The paths at or under child `name`, relative to it."""
    split = (path.partition("/") for path in paths if path)
    return [rest for first, _, rest in split if first == name]


def _policies_below(policies: Mapping[str, Policy], name: str) -> dict[str, Policy]:
    return {path: policies[join(name, path).rstrip("/")] for path in _below(policies, name)}


# ----------------------------------------------------------------------------------------- decorator


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
      alone is marked with `jl.keeps_mask` instead. Any other layer refuses masked inputs.

    The constructor may instead return a `Layer`, whose pair it adopts, or a `Wiring` of children (see
    `jlayers.core.wiring.routed`). Every constructor also takes `name=None`, `trainable=True` as in Keras,
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
        inspect.Parameter(
            "precision", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=PrecisionLike | None
        ),
    ]
    signature = own.replace(parameters=[*own.parameters.values(), *added], return_annotation=Layer)

    @functools.wraps(constructor)
    def make(*args: Any, **kwargs: Any) -> Layer:
        if error := argument_error(type_name, kwargs, signature.parameters):
            raise error
        bound = layers.bind(type_name, signature, args, kwargs)
        trainable, frozen, precision = (bound.pop(option) for option in ("trainable", "frozen", "precision"))
        _check_name(type_name, bound["name"])
        try:
            made = constructor(**{k: v for k, v in bound.items() if k != "name"})
            built = _assemble(made, Spec("layer", type_name, bound))
        except UnknownNameError as error:  # what the user wrote is the outermost layer
            raise UnknownNameError(error.text, where=type_name) from None
        except (TypeError, ValueError) as error:
            add_name(error, type_name, bound)
            raise
        if not trainable:
            built = built.with_frozen(path for path, _ in built.walk())
        elif frozen is not None:
            built = built.with_frozen(frozen)
        return built if precision is None else built.with_precision(precision)

    make.__name__ = make.__qualname__ = type_name
    make.__doc__ = complete(constructor.__doc__, signature.parameters, _doc_of)
    make.__signature__ = signature  # type: ignore[attr-defined]
    make.__annotations__ = {
        **constructor.__annotations__,
        **{p.name: p.annotation for p in added},
        "return": Layer,
    }
    layers.register(type_name, make, *aliases)
    return make


def _doc_of(type_name: str) -> str | None:
    return layers[type_name].__doc__ if type_name in layers else None


def _assemble(made: Any, spec: Spec) -> Layer:
    if isinstance(made, Layer):
        thawed = made.made or made  # so that what comes frozen can be unfrozen
        built = dataclasses.replace(thawed, spec=spec, made=None, adopted=(made.spec, *made.adopted))
        return built._remade(made.frozen, made.precision)
    if isinstance(made, Wiring):
        frozen = {join(name, p) for name, child in made.children.items() for p in child.frozen}
        pair = _pair(made.wire(made.children), spec, made.children)
        paths = frozenset(p.rstrip("/") for p in frozen)
        precision = {
            join(name, p).rstrip("/"): policy
            for name, child in made.children.items()
            for p, policy in child.precision.items()
        }
        return Layer(*pair, spec, made.children, paths, precision, made.wire, stacked=made.stacked)
    if not isinstance(made, tuple) or len(made) != 2 or not all(map(callable, made)):
        raise TypeError(
            f"{spec.name}: expected the constructor to return a pair of functions (init, apply), "
            f"received {made!r}"
        )
    return Layer(*_pair(made, spec), spec)


def _pair(
    short: tuple[Any, Any], spec: Spec, children: Mapping[str, Layer] | None = None
) -> tuple[Init, Apply]:
    """The canonical pair. A container hands masks and an `activity_regularizer` on to the layers inside."""
    init, apply = lift(*short, spec.name, container=children is not None)
    regularizer = spec.arguments.get("activity_regularizer")
    if regularizer is None or children:
        return init, apply
    return penalised(init, apply, Registry.of("regularizer").get(regularizer))


def _check_name(type_name: str, name: Any) -> None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(
            f"{type_name}: expected a name of letters, digits, '_', '-' and '.' (it becomes part of paths "
            f"such as 'encoder/dense'), received name={name!r}"
        )
