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
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, overload

import jax
import jax.numpy as jnp

from jlayers.core.docstrings import complete
from jlayers.core.errors import add_name
from jlayers.core.habits import argument_error, assignment_error, call_error, missing_attribute
from jlayers.core.lifting import (
    MissingKeyError,
    add_penalty,
    freeze_pair,
    hold_in_inference,
    lift,
    need_key,
    no_params,
)
from jlayers.core.names import check_name, check_names
from jlayers.core.pair import Apply, Init, Pair
from jlayers.core.precision import Policy, PrecisionLike, assign, shortest_form, with_policy
from jlayers.core.registry import Kind, Registry, Spec, UnknownNameError, nearest
from jlayers.core.shapes import describe
from jlayers.core.structure import Chain, Source, Table

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

_MOST_LEVELS = 40  # each takes several frames of Python's stack, in a gradient through Remat over twenty
_OPTIONS = ("name", "trainable", "frozen", "precision")


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """What a container's constructor returns: named children, and the pair that runs such children.

    The same container can so be made again around other children, which is how freezing, precision and
    substitution work. The rest says of the container what its functions do not show.

    Attributes:
        children: the layers inside, by name.
        wire: makes the short pair that runs such children.
        structure: how they are connected: a `Table` as in a `Model`, a `Chain` as in a `Sequential`, a
            `Source` for an input. Another kind of container may have a value of its own here for its tools.
        stacked: the children's arrays have a leading axis, one slice per use.
        repeats: how often the children run for each time that a trace sees them.
        wraps: the child whose inputs the container takes and whose outputs it gives, as `Remat` does.
    """

    children: Mapping[str, Layer]
    wire: Callable[[Mapping[str, Layer]], Pair]
    structure: Table | Chain | Source | Any = None
    stacked: bool = False
    repeats: int = 1
    wraps: str | None = None


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
        pair: the two functions and what is known of them.
        init: `init(key, *inputs) -> (params, state)`; inputs are arrays, `jax.ShapeDtypeStruct`s or
            shape tuples, batch dimension included.
        apply: `apply(params, state, *inputs, key=None, train=False) -> (output, state)`.
        spec: constructor and bound arguments.
        children: the layers inside, by name.
        frozen: relative paths of the layers that are frozen; '' is this layer itself.
        precision: by relative path the policies of the layers that have one; see `jl.with_precision`.
        wiring: how the children are run, and what tools need to know of it; None in a layer without children.
    """

    pair: Pair
    spec: Spec
    children: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    precision: Mapping[str, Policy] = dataclasses.field(default_factory=dict)
    wiring: Wiring | None = None
    made: Layer | None = None  # the layer as its constructor made it, if it was remade since
    adopted: tuple[Spec, ...] = ()  # of the layer whose pair the constructor returned as its own
    substituted: Mapping[str, Layer] = dataclasses.field(default_factory=dict)  # see `with_children`

    @property
    def init(self) -> Init:
        """`init(key, *inputs) -> (params, state)`."""
        return self.pair.init

    @property
    def apply(self) -> Apply:
        """`apply(params, state, *inputs, key=None, train=False) -> (output, state)`."""
        return self.pair.apply

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self.pair)

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

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError(
            f"a layer has no places, received [{index!r}]; write model.children[name], or "
            f"list(model.children.values())[0]"
        )

    def __init_subclass__(cls) -> None:
        raise TypeError(
            f"{cls.__name__}: expected a function under @jl.layer that returns a pair (init, apply), "
            f"received a subclass of jl.Layer, which is what such functions make"
        )

    def __repr__(self) -> str:
        data = {**self._frozen_data(), **self._precision_data()}
        if self.substituted:
            data["substituted"] = dict(self.substituted)
        changes = [f"{k}={v!r}" for k, v in data.items()]
        text = repr(self.spec)
        if not changes:
            return text
        return text[:-1] + ("" if text.endswith("()") else ", ") + ", ".join(changes) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {"frozen": sorted(self.frozen), **self._precision_data()}
        return _rebuild, (self.spec.name, {**self.spec.arguments, **kept}, dict(self.substituted))

    @property
    def specs(self) -> tuple[Spec, ...]:
        """The call that made the layer, and those of the layers whose pair it took over, outermost first."""
        return (self.spec, *self.adopted)

    @property
    def draws(self) -> bool:
        """True if the layer, or one inside it, may draw random numbers: only such layers are given keys."""
        return bool(self.pair.draws)

    def keyed(self, params: Any, state: Any, *inputs: Any) -> Any:
        """`apply` in inference with some key, for traces: a layer that samples in inference needs one."""
        return self.apply(params, state, *inputs, key=jax.random.key(0) if self.draws else None)

    @property
    def structure(self) -> Any:
        """How the layers inside are connected; None if that is not known. See `Wiring`."""
        return self.wiring and self.wiring.structure

    @property
    def stacked(self) -> bool:
        """True if the children's arrays have a leading axis, one slice per use."""
        return self.wiring is not None and self.wiring.stacked

    @property
    def repeats(self) -> int:
        """How often the children run for each time that a trace sees them: a loop is traced once."""
        return self.wiring.repeats if self.wiring else 1

    @property
    def wrapped(self) -> Layer | None:
        """The layer inside whose inputs this one takes and whose outputs it gives, if there is one."""
        return self.children[self.wiring.wraps] if self.wiring and self.wiring.wraps else None

    @property
    def output_names(self) -> list[str] | None:
        """The names of a model's outputs, as in Keras those of its nodes; None if they have none."""
        if self.wrapped:
            return self.wrapped.output_names
        return self.structure.output_names if isinstance(self.structure, Table) else None

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
        arguments = {**self.spec.arguments, **kept, **self._precision_data(), **changes}
        return _rebuild(self.spec.name, arguments, self.substituted)

    def to_data(self) -> Any:
        """Plain data, `"Flatten"` or `{"Dense": {"units": 64}}`, from which `layers.get` builds it again.

        Raises:
            TypeError: an argument that cannot be written down, or a layer inside that takes the place of one
                that the constructor made.
        """
        if self.substituted:
            raise TypeError(
                f"{self.spec.name} cannot be written down: its constructor makes the layer "
                f"{next(iter(self.substituted))!r}, and jl.substitute put another in its place; expected a "
                f"layer that its arguments describe: substitute inside a constructor under @jl.layer, or "
                f"again after loading"
            )
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
        return {"precision": shortest_form([path for path, _ in self.walk()], made, self.precision)}

    @functools.cached_property
    def depth(self) -> int:
        """How many levels of layers are inside this one."""
        return max((1 + child.depth for child in self.children.values()), default=0)

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
        return self.remake(paths, self.precision)

    def with_precision(self, precision: PrecisionLike) -> Layer:
        """The same layer with other policies; see `jl.with_precision`."""
        paths = [path for path, _ in self.walk()]
        return self.remake(self.frozen, assign(paths, self.precision, precision))

    def with_children(self, children: Mapping[str, Layer]) -> Layer:
        """The same layer around other children, which take the places of those of their names.

        The arguments stay as they are and do not describe the new children. So the layer pickles, but cannot
        be written down as plain data; see `jl.substitute`, which changes arguments where it can.

        Raises:
            ValueError: a name that no child has.
        """
        made = self.made or self
        if unknown := [name for name in children if name not in made.children]:
            raise ValueError(
                f"{self!r} has no layer {unknown[0]!r} directly inside: {nearest(unknown[0], made.children)}"
            )
        inside = {**made.children, **children}
        _check_depth(self.spec.name, inside)
        frozen, precision = _of_children(inside)
        assert made.wiring
        around = dataclasses.replace(
            made,
            pair=_pair(made.wiring.wire(inside), made.spec, inside),
            children=inside,
            frozen=frozen,
            precision=precision,
            substituted={**made.substituted, **children},
        )
        return around.remake(*self.options_around(children))

    def options_around(self, children: Mapping[str, Layer]) -> tuple[frozenset[str], dict[str, Policy]]:
        """Frozen paths and policies of this layer once these children have taken the places of its own."""
        frozen, precision = _of_children(children)
        own = {path for path in self.frozen if path.partition("/")[0] not in children}
        policies = {p: policy for p, policy in self.precision.items() if p.partition("/")[0] not in children}
        return frozen | own, {**policies, **precision}

    def with_name(self, name: str) -> Layer:
        """The same layer under another name, which a parent that numbers its layers takes over."""

        def named(layer: Layer) -> Layer:
            spec = dataclasses.replace(layer.spec, arguments={**layer.spec.arguments, "name": name})
            return dataclasses.replace(layer, spec=spec)

        return dataclasses.replace(named(self), made=self.made and named(self.made))

    def open_to_gradients(self) -> Layer:
        """The layer with what is frozen in inference mode as ever, but with gradients to its parameters.

        For a wrapper that adds something trained to the parameters of a frozen layer, and stops the gradient
        to what is frozen itself.
        """
        return self.remake(self.frozen, self.precision, freeze=hold_in_inference) if self.frozen else self

    def remake(
        self,
        frozen: frozenset[str],
        precision: Mapping[str, Policy],
        freeze: Callable[[Pair], Pair] = freeze_pair,
    ) -> Layer:
        """The layer as its constructor made it, with these paths frozen and under these policies."""
        made = self.made or self
        if frozen == made.frozen and precision == made.precision and freeze is freeze_pair:
            return made
        pair, children = made.pair, made.children
        if made.wiring:
            inside = _by_child(frozen, precision)
            children = {
                name: child.remake(frozenset(inside[name][0]), inside[name][1], freeze)
                for name, child in children.items()
            }
            pair = _pair(made.wiring.wire(children), made.spec, children)
        if "" in precision:
            pair = with_policy(pair, precision[""], children)
        if all(path in frozen for path, _ in made.walk()):
            pair = freeze(pair)
        return dataclasses.replace(
            made, pair=pair, children=children, frozen=frozen, precision=precision, made=made
        )

    def penalty(self, params: Mapping[str, Any]) -> jax.Array:
        """The sum of the regularizers of all layers that are not frozen: a scalar, float32 or wider.

        A regularizer belongs to the parameter that its argument names: `kernel_regularizer` to `kernel`,
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
        for spec in self.specs:
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


def _rebuild(
    name: str, arguments: Mapping[str, Any], substituted: Mapping[str, Layer] = MappingProxyType({})
) -> Layer:
    if not substituted:
        return layers.build(name, arguments)
    options = ("frozen", "precision", "trainable")
    plain = layers.build(name, {k: v for k, v in arguments.items() if k not in options})
    return _with_options(plain.with_children(substituted), *(arguments.get(option) for option in options))


def _with_options(built: Layer, frozen: Any, precision: Any, trainable: Any = True) -> Layer:
    """The layer with the options that every constructor takes."""
    if trainable is False:
        built = built.with_frozen(path for path, _ in built.walk())
    elif frozen is not None:
        built = built.with_frozen(frozen)
    return built if precision is None else built.with_precision(precision)


def _refuse_assignment(self: Layer, name: str, value: Any) -> NoReturn:
    raise assignment_error(name, value)


# In place of the words of a frozen dataclass, which do not say what to do.
type.__setattr__(Layer, "__setattr__", _refuse_assignment)

LayerLike = Annotated[Layer | str | Mapping[str, Any], Kind("layer")]


def join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _by_child(
    frozen: Iterable[str], precision: Mapping[str, Policy]
) -> Mapping[str, tuple[set[str], dict[str, Policy]]]:
    """For each child the frozen paths and the policies at or under it, relative to it."""
    inside: dict[str, tuple[set[str], dict[str, Policy]]] = defaultdict(lambda: (set(), {}))
    for path in filter(None, frozen):
        name, _, rest = path.partition("/")
        inside[name][0].add(rest)
    for path, policy in precision.items():
        if path:
            name, _, rest = path.partition("/")
            inside[name][1][rest] = policy
    return inside


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
        if bound["name"] is not None:
            check_name(type_name, bound["name"])
        try:
            _check_roles(bound)
            made = constructor(**{k: v for k, v in bound.items() if k != "name"})
            built = _assemble(made, Spec("layer", type_name, bound))
        except UnknownNameError as error:  # what the user wrote is the outermost layer
            raise UnknownNameError(error.text, where=type_name) from None
        except (TypeError, ValueError) as error:
            add_name(error, type_name, bound)
            raise
        return _with_options(built, frozen, precision, bool(trainable))

    make.__name__ = make.__qualname__ = type_name
    make.__doc__ = complete(constructor.__doc__, signature.parameters, _doc_of)
    vars(make)["__signature__"] = signature
    make.__annotations__ = {
        **constructor.__annotations__,
        **{p.name: p.annotation for p in added},
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


def _assemble(made: Any, spec: Spec) -> Layer:
    if isinstance(made, Layer):
        thawed = made.made or made  # so that what comes frozen can be unfrozen
        adopted = (made.spec, *made.adopted)
        built = dataclasses.replace(thawed, spec=spec, made=None, adopted=adopted, substituted={})
        return built.remake(made.frozen, made.precision)
    if isinstance(made, Wiring):
        check_names(spec.name, made.children)
        _check_depth(spec.name, made.children)
        pair = _pair(made.wire(made.children), spec, made.children)
        return Layer(pair, spec, made.children, *_of_children(made.children), wiring=made)
    return Layer(_pair(made, spec), spec)


def _check_depth(type_name: str, children: Mapping[str, Layer]) -> None:
    depth = 1 + max((child.depth for child in children.values()), default=0)
    if depth > _MOST_LEVELS:
        raise ValueError(
            f"{type_name}: expected at most {_MOST_LEVELS} levels of layers inside layers, "
            f"received {depth}; put layers side by side in one Sequential, or repeat one with Repeat"
        )


def _of_children(children: Mapping[str, Layer]) -> tuple[frozenset[str], dict[str, Policy]]:
    """The frozen paths and the policies of children, relative to their parent."""
    each = [(name, child) for name, child in children.items()]
    frozen = frozenset(join(name, path).rstrip("/") for name, child in each for path in child.frozen)
    precision = {join(n, path).rstrip("/"): policy for n, c in each for path, policy in c.precision.items()}
    return frozen, precision


def _pair(made: Any, spec: Spec, children: Mapping[str, Layer] | None = None) -> Pair:
    """The canonical pair. A container hands masks and an `activity_regularizer` on to the layers inside."""
    short = Pair.of(made)
    if short is None:
        raise TypeError(
            f"{spec.name}: expected the constructor to return a pair of functions (init, apply), "
            f"received {made!r}"
        )
    pair = lift(short, spec.name, container=children is not None)
    regularizer = spec.arguments.get("activity_regularizer")
    if regularizer is None or children:
        return pair
    return add_penalty(pair, Registry.of("regularizer").get(regularizer))
