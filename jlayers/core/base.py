"""A layer: a pair of pure functions, and the call that made it.

The canonical form, the only one that containers, transforms and training call:

    init(key, *inputs) -> (params, state)
    apply(params, state, *inputs, key=None, train=False) -> (output, state)
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import jax

from jlayers.core.habits import assignment_error, call_error, missing_attribute
from jlayers.core.inference import freeze_pair, hold_in_inference
from jlayers.core.lifting import lift
from jlayers.core.options import by_child, of_children
from jlayers.core.pair import Apply, Init, Pair
from jlayers.core.penalties import add_penalty, arguments_of, constrain, penalty
from jlayers.core.policy import Policy, PrecisionLike
from jlayers.core.precision import assign, shortest_form, with_policy
from jlayers.core.registry import Kind, Registry, Spec
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest
from jlayers.core.structure import Table, Wiring
from jlayers.core.tree import join

__all__ = ["Layer", "LayerLike", "canonical", "check_depth", "layers", "with_options"]

layers = Registry("layer")

_MOST_LEVELS = 40  # each takes several frames of Python's stack, in a gradient through Remat over twenty


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
        data = {**self._frozen_data(), **self._precision_data()}
        if self.substituted:
            data["substituted"] = dict(self.substituted)
        changes = [f"{k}={v!r}" for k, v in data.items()]
        text = repr(self.spec)
        if not changes:
            return text
        return text[:-1] + ("" if text.endswith("()") else ", ") + ", ".join(changes) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"frozen": sorted(self.frozen), **self._precision_data()}
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
        arguments = {**self.spec.arguments, **options, **self._precision_data(), **changes}
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
        if self.frozen == (self.original or self).frozen:
            return {}
        if all(path in self.frozen for path, _ in self.walk()):
            return {"trainable": False}
        return {"frozen": sorted(self.frozen)}

    def _precision_data(self) -> dict[str, Any]:
        before = (self.original or self).precision
        if self.precision == before:
            return {}
        return {"precision": shortest_form([path for path, _ in self.walk()], before, self.precision)}

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
        original = self.original or self
        if unknown := [name for name in children if name not in original.children]:
            raise ValueError(
                f"{self!r} has no layer {unknown[0]!r} directly inside: "
                f"{nearest(unknown[0], original.children)}"
            )
        inside = {**original.children, **children}
        check_depth(self.spec.name, inside)
        frozen, precision = of_children(inside)
        assert original.wiring
        around = dataclasses.replace(
            original,
            pair=canonical(original.wiring.wire(inside), original.spec, inside),
            children=inside,
            frozen=frozen,
            precision=precision,
            substituted={**original.substituted, **children},
        )
        return around.remake(*self.options_around(children))

    def options_around(self, children: Mapping[str, Layer]) -> tuple[frozenset[str], dict[str, Policy]]:
        """Frozen paths and policies of this layer once these children have taken the places of its own."""
        frozen, precision = of_children(children)
        own = {path for path in self.frozen if path.partition("/")[0] not in children}
        policies = {p: policy for p, policy in self.precision.items() if p.partition("/")[0] not in children}
        return frozen | own, {**policies, **precision}

    def with_name(self, name: str) -> Layer:
        """The same layer under another name, which a parent that numbers its layers takes over."""

        def named(layer: Layer) -> Layer:
            spec = dataclasses.replace(layer.spec, arguments={**layer.spec.arguments, "name": name})
            return dataclasses.replace(layer, spec=spec)

        return dataclasses.replace(named(self), original=self.original and named(self.original))

    def rewired(self, wiring: Wiring) -> Layer:
        """The same layer, whose children run another way: the same parameters and names, other functions."""
        original = self.original or self
        pair = canonical(wiring.wire(wiring.children), original.spec, wiring.children)
        again = dataclasses.replace(original, pair=pair, children=wiring.children, wiring=wiring)
        return again.remake(self.frozen, self.precision)

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
        original = self.original or self
        if frozen == original.frozen and precision == original.precision and freeze is freeze_pair:
            return original
        pair, children = original.pair, original.children
        if original.wiring:
            inside = by_child(frozen, precision)
            children = {
                name: child.remake(frozenset(inside[name][0]), inside[name][1], freeze)
                for name, child in children.items()
            }
            pair = canonical(original.wiring.wire(children), original.spec, children)
        if "" in precision:
            pair = with_policy(pair, precision[""], children)
        if all(path in frozen for path, _ in original.walk()):
            pair = freeze(pair)
        return dataclasses.replace(
            original, pair=pair, children=children, frozen=frozen, precision=precision, original=original
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


def check_depth(type_name: str, children: Mapping[str, Layer]) -> None:
    depth = 1 + max((child.depth for child in children.values()), default=0)
    if depth > _MOST_LEVELS:
        raise ValueError(
            f"{type_name}: expected at most {_MOST_LEVELS} levels of layers inside layers, "
            f"received {depth}; put layers side by side in one Sequential, or repeat one with Repeat"
        )


def canonical(value: Any, spec: Spec, children: Mapping[str, Layer] | None = None) -> Pair:
    """The canonical pair. A container hands masks and an `activity_regularizer` on to the layers inside."""
    short = Pair.of(value)
    if short is None:
        raise TypeError(
            f"{spec.name}: expected the constructor to return a pair of functions (init, apply), "
            f"received {value!r}"
        )
    pair = lift(short, spec.name, container=children is not None)
    regularizer = spec.arguments.get("activity_regularizer")
    if regularizer is None or children:
        return pair
    return add_penalty(pair, Registry.of("regularizer").get(regularizer))
