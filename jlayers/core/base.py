"""A layer: a pair of pure functions, and the call that made it.

The canonical form, the only one that containers, transforms and training call:

    init(key, *inputs) -> (params, state)
    apply(params, state, *inputs, key=None, train=False) -> (output, state)
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import jax

from jlayers.core.habits import assignment_error, call_error, missing_attribute
from jlayers.core.pair import Apply, Init, Pair
from jlayers.core.penalties import arguments_of, constrain, penalty
from jlayers.core.policy import Policy, PrecisionLike
from jlayers.core.precision import assign
from jlayers.core.registry import Kind, Registry
from jlayers.core.remaking import remake, with_children
from jlayers.core.shapes import describe
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest
from jlayers.core.structure import Table, Wiring
from jlayers.core.tree import join
from jlayers.core.written import precision_of, text_of, to_data

__all__ = ["Layer", "LayerLike", "layers", "with_options"]

layers = Registry("layer")

_MOST_KEPT = 16


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
    original: Layer | None = None  # the layer as its constructor made it, if it was remade since
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
        return text_of(self)

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"frozen": sorted(self.frozen), **precision_of(self)}
        return _rebuild, (self.spec.name, {**self.spec.arguments, **options}, dict(self.substituted))

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

    @functools.cached_property
    def shaped(self) -> Callable[..., Any]:
        """As `keyed`, where only shapes count: JAX traces it once for inputs of one kind and remembers them.

        Nothing inside is observed the second time.
        """
        layer = weakref.proxy(self)
        return jax.jit(lambda *values: layer.keyed(*values))

    @functools.cached_property
    def _kept(self) -> dict[Hashable, Layer]:
        return {}

    def kept(self, site: Hashable, make: Callable[[], Layer]) -> Layer:
        """The result of `make` for this site: the same layer each time, so that JAX compiles it only once.

        The layer itself remembers the last few, so they are gone when it is. A site with something in it that
        is no key, such as a layer as plain data, is not remembered.
        """
        try:
            hash(site)
        except TypeError:
            return make()
        made = self._kept.pop(site, None) or make()
        self._kept[site] = made
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return made

    @property
    def structure(self) -> Any:
        """The connections of the layers inside; None if they are not known. See `Wiring`."""
        return self.wiring and self.wiring.structure

    @property
    def stacked(self) -> bool:
        """True if the children's arrays have a leading axis, one slice per use."""
        return self.wiring is not None and self.wiring.stacked

    @property
    def repeats(self) -> int:
        """The number of runs of the children behind each one in a trace: a loop is traced once."""
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
        options = {} if "trainable" in changes else {"frozen": sorted(self.frozen)}
        arguments = {**self.spec.arguments, **options, **precision_of(self), **changes}
        return _rebuild(self.spec.name, arguments, self.substituted)

    def to_data(self) -> Any:
        """Plain data, `"Flatten"` or `{"Dense": {"units": 64}}`, from which `layers.get` builds it again.

        Raises:
            TypeError: an argument that cannot be written down, or a layer inside that takes the place of one
                that the constructor made.
        """
        return to_data(self)

    @functools.cached_property
    def depth(self) -> int:
        """The number of levels of layers inside this one."""
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
        return remake(self, paths, self.precision)

    def with_precision(self, precision: PrecisionLike) -> Layer:
        """The same layer with other policies; see `jl.with_precision`."""
        paths = [path for path, _ in self.walk()]
        return remake(self, self.frozen, assign(paths, self.precision, precision))

    def with_children(self, children: Mapping[str, Layer]) -> Layer:
        """The same layer around other children, which take the places of those of their names.

        The arguments stay as they are and do not describe the new children. So the layer pickles, but cannot
        be written down as plain data; see `jl.substitute`, which changes arguments where it can.

        Raises:
            ValueError: a name that no child has.
        """
        return with_children(self, children)

    def with_name(self, name: str) -> Layer:
        """The same layer under another name, which a parent that numbers its layers takes over."""

        def named(layer: Layer) -> Layer:
            spec = dataclasses.replace(layer.spec, arguments={**layer.spec.arguments, "name": name})
            return dataclasses.replace(layer, spec=spec)

        return dataclasses.replace(named(self), original=self.original and named(self.original))

    def penalty(self, params: Mapping[str, Any]) -> jax.Array:
        """The sum of the regularizers of all layers that are not frozen: a scalar, float32 or wider.

        A regularizer belongs to the parameter that its argument names: `kernel_regularizer` to `kernel`,
        `recurrent_regularizer` to `recurrent_kernel`.

        >>> import jlayers as jl, jax.numpy as jnp
        >>> dense = jl.Dense(2, kernel_regularizer=jl.l2(0.5))
        >>> float(dense.penalty({"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}))
        3.0
        """
        return penalty(self, params)

    def constrain(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the constraints of all layers that are not frozen imposed; others as they are.

        The training step does so after every update. A constraint belongs to the parameter that its argument
        names, as in `penalty`.

        >>> import jlayers as jl, jax.numpy as jnp
        >>> dense = jl.Dense(2, kernel_constraint="non_neg")
        >>> dense.constrain({"kernel": jnp.array([[-1.0, 2.0]]), "bias": -jnp.ones(2)})["kernel"].tolist()
        [[0.0, 2.0]]
        """
        return constrain(self, params)

    def parameter_arguments(self, params: Mapping[str, Any], role: str) -> Iterator[tuple[str, Any]]:
        """Pairs of a parameter's name and the value of the argument `<parameter>_<role>`."""
        return arguments_of(self, params, role)


def _rebuild(
    name: str, arguments: Mapping[str, Any], substituted: Mapping[str, Layer] = MappingProxyType({})
) -> Layer:
    if not substituted:
        return layers.build(name, arguments)
    options = ("frozen", "precision", "trainable")
    plain = layers.build(name, {k: v for k, v in arguments.items() if k not in options})
    return with_options(plain.with_children(substituted), *(arguments.get(option) for option in options))


def with_options(built: Layer, frozen: Any, precision: Any, trainable: Any = True) -> Layer:
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
