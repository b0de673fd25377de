"""Containers that run their children: names, keys and parameters.

`routed(children, route)` makes a container from named layers and one function that says which runs on
what; `init` is read off a trace of that function.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jlayers.core.layer import Layer, Wiring, layers
from jlayers.core.names import name_number
from jlayers.core.notes import note_errors, report
from jlayers.core.pair import Pair
from jlayers.core.shapes import as_spec
from jlayers.core.spelling import UnknownNameError, nearest

__all__ = ["around", "as_layer", "child_key", "routed"]


def child_key(key: Any, name: str) -> Any:
    """The key of the child called `name`: it depends only on the name, not on the siblings."""
    return None if key is None else jax.random.fold_in(key, name_number(name))


def as_layer(value: Any, where: str) -> Layer:
    """A layer from itself or from its data form; anything else is an error that says what to do."""
    if isinstance(value, Layer):
        return value
    if isinstance(value, (str, Mapping)):
        return layers.get(value)
    if getattr(value, "__name__", None) in layers and layers[value.__name__] is value:
        raise TypeError(f"{where}: received the constructor {value.__name__}; call it: {value.__name__}(...)")
    spec = getattr(value, "spec", None)
    if getattr(spec, "kind", None) == "preprocessor":
        raise TypeError(
            f"{where}: expected a layer, received the preprocessor {value!r}: it works on the host, so call "
            f"it on the data before the model"
        )
    raise TypeError(
        f"{where}: expected a layer, received {value!r}; wrap a function in jl.Activation(function), or in "
        f"jl.Lambda(function)"
    )


def routed(
    children: Mapping[str, Layer],
    route: Callable[..., Any],
    *,
    autocast: bool = True,
    structure: Any = None,
    wraps: str | None = None,
) -> Wiring:
    """A container of `children` in which `route(call, *inputs)` says what runs on what.

    `call(name, *inputs)` runs the child of that name and returns its output. A child called twice shares
    its weights; each call has its own key. A route that only hands arrays on says `autocast=False`: no
    precision policy then casts them before they reach the children. `structure` and `wraps` are those of
    `Wiring`. Return the result from the constructor of a `@layer`:

    >>> import jax, jlayers as jl
    >>> @jl.layer
    ... def Twice(layer: jl.Layer):
    ...     def route(call, x):
    ...         return call("layer", call("layer", x)) + x
    ...     return jl.routed({"layer": layer}, route)
    >>> params, state = Twice(jl.Dense(4)).init(jax.random.key(0), (1, 4))
    >>> jax.tree.map(lambda p: p.shape, params)
    {'layer': {'bias': (4,), 'kernel': (4, 4)}}
    """
    if not isinstance(children, Mapping):
        raise TypeError(
            f"routed: expected the layers by name, such as {{'layer': layer}}, received {children!r}; a list "
            f"of layers that run one after the other is jl.Sequential(layers)"
        )

    def wire(children: Mapping[str, Layer]) -> Pair:
        def init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            with _shared_memo() as memo:
                leaves, structure = jax.tree.flatten(inputs)
                site = (id(children), tuple(leaves), structure)
                if isinstance(key, Tracer):
                    params, state, memo[site] = _trace_init(children, route, key, inputs)
                else:
                    if site not in memo:
                        jax.eval_shape(lambda key: init(key, *inputs), key)
                    params, state = _init_children(children, key, memo[site])
            _refuse_split_sharing(children, params)
            return _without_empty(params), _without_empty(state)

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            state = dict(state)
            calls: Counter[str] = Counter()

            def call(name: str, *xs: Any) -> Any:
                child = _child(children, name)
                site = f"{name}@{calls[name]}" if calls[name] else name
                calls[name] += 1
                with note_errors(name, child, xs), jax.named_scope(name):
                    output, moved = child.apply(
                        params.get(name, {}),
                        state.get(name, {}),
                        *xs,
                        key=child_key(key, site) if child.draws else None,
                        train=train,
                    )
                if moved:
                    state[name] = moved
                report(name, child, params.get(name, {}), state.get(name, {}), xs, output)
                return output

            return route(call, *inputs), state

        return Pair(init, apply, draws=any(c.draws for c in children.values()), autocast=autocast)

    inside = {name: as_layer(child, f"routed, {name!r}") for name, child in children.items()}
    return Wiring(inside, wire, structure, wraps=wraps)


def around(layer: Layer, *, autocast: bool = True) -> Wiring:
    """A container of one child, `layer`, that hands its inputs to it and gives its output.

    The start of every wrapper: another `wire` around the one here, in a `dataclasses.replace`, does the rest.
    """
    return routed({"layer": layer}, lambda call, *xs: call("layer", *xs), autocast=autocast, wraps="layer")


def _child(children: Mapping[str, Layer], name: str) -> Layer:
    if name not in children:
        raise UnknownNameError(f"the route calls {name!r}, which is not a child: {nearest(name, children)}")
    return children[name]


# The inputs that a trace of `init` found for each child of a container, kept while the outermost `init` runs,
# so that a nest of containers is traced once and not once per level.
_memo: contextvars.ContextVar[dict[Any, dict[str, Any]] | None] = contextvars.ContextVar("memo", default=None)


@contextlib.contextmanager
def _shared_memo() -> Iterator[dict[Any, dict[str, Any]]]:
    memo = _memo.get()
    token = _memo.set(memo := {} if memo is None else memo)
    try:
        yield memo
    finally:
        _memo.reset(token)


def _trace_init(
    children: Mapping[str, Layer], route: Callable[..., Any], key: Any, inputs: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Params and state, both traced, and the specs of what each child is first called on."""
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    seen: dict[str, Any] = {}

    def call(name: str, *xs: Any) -> Any:
        child = _child(children, name)
        with note_errors(name, child, xs):
            if name not in seen:
                seen[name] = tuple(as_spec(x) for x in xs)
                params[name], state[name] = child.init(child_key(key, name), *seen[name])
            output, _ = child.shaped(params[name], state[name], *xs)
        return output

    route(call, *jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), inputs))
    if idle := [name for name in children if name not in seen]:
        raise ValueError(f"the child {idle[0]!r} is never called: remove it or call it")
    return params, state, seen


def _init_children(
    children: Mapping[str, Layer], key: Any, seen: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for name, child in children.items():
        with note_errors(name, child, seen[name]):
            params[name], state[name] = child.init(child_key(key, name), *seen[name])
    return params, state


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if value}


def _refuse_split_sharing(children: Mapping[str, Layer], params: Mapping[str, Any]) -> None:
    """One layer object inside two different children would get two sets of weights: refuse, don't fool."""
    places: dict[Layer, str] = {}
    for name, child in children.items():
        if not params[name]:
            continue
        for path, inner in child.walk(name):
            original = inner.original or inner
            known = places.setdefault(original, path)
            if known != path and not inner.children and _holds(params, path):
                raise ValueError(
                    f"the layer {inner!r} is at {known!r} and at {path!r}, where its weights would not be "
                    f"shared: call it in one graph to share them, or make two layers"
                )


def _holds(params: Any, path: str) -> bool:
    for name in path.split("/"):
        if not isinstance(params, Mapping) or name not in params:
            return False
        params = params[name]
    return bool(params)
