"""Low-rank adaptation: a frozen model, and beside each of its kernels a small product that is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, layer
from jlayers.core.pair import Pair
from jlayers.core.registry import InitializerLike
from jlayers.core.remaking import open_to_gradients, remake
from jlayers.core.spelling import nearest
from jlayers.core.tree import flatten, match, unflatten
from jlayers.core.wiring import around, as_layer, child_key
from jlayers.layers._arguments import positive
from jlayers.layers._kernels import find_kernels, without_gradient
from jlayers.transform.substitute import replace_layers

__all__ = ["LoRA", "merge_lora"]


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """The mark of a `LoRA`: the layer inside it, and the factor of the products."""

    base: Layer
    scale: float


@layer
def LoRA(
    layer: LayerLike,
    rank: int,
    alpha: float | None = None,
    targets: str | Sequence[str] | None = None,
    a_initializer: InitializerLike = "he_uniform",
    b_initializer: InitializerLike = "zeros",
):
    """Trains a product of two thin matrices for each kernel of a layer; the layer itself is frozen.

    Low-rank adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685): wherever the layer has a
    `kernel`, it acts as `kernel + alpha / rank * lora_a @ lora_b`. The layer may be a whole model; its
    kernels are all arrays of two or more dimensions that are called `kernel` or `embeddings`, or end with
    `_kernel`. Since `lora_b` starts at zero, the model starts as it was.

    The layer is frozen, bias included: it runs in inference mode (dropout off, batch normalization by its
    running statistics), and `trainable_mask` is True only for the thin matrices. `unfreeze(model,
    "layer/head")` also trains a new head. `merge_lora` makes a plain layer again. `jl.trained_params(model,
    params)` is only the adapters, to be saved in a small file.

    Shapes: those of the layer. Parameters: those of the layer, under `layer`, where pretrained weights fit;
    and under `lora_a` and `lora_b`, by the path of each kernel, `(*kernel.shape[:-1], rank)` and
    `(rank, kernel.shape[-1])`. In a `Repeat` each has a leading axis as the kernel has.

    Args:
        layer: any layer, or model, with kernels.
        rank: columns of `lora_a` and rows of `lora_b`; 4 to 64 is usual.
        alpha: the product is multiplied by `alpha / rank`; `rank` if not given, as in Keras.
        targets: paths of the kernels to adapt, with `*` within one name and `**` for any number of names,
            such as `"**/query/kernel"`; all of them if not given.
        a_initializer: first values of `lora_a`.
        b_initializer: first values of `lora_b`.

    Raises:
        ValueError: a rank below 1, a layer without kernels, a pattern that matches none, or a layer that is
            adapted already.

    >>> import jax, jlayers as jl
    >>> model = jl.LoRA(jl.Sequential(jl.Dense(8, activation="relu"), jl.Dense(2)), rank=2)
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> jax.tree.map(lambda p: p.shape, params["lora_a"])
    {'dense': {'kernel': (4, 2)}, 'dense_1': {'kernel': (8, 2)}}
    >>> mask = jl.trainable_mask(model, params)
    >>> mask["layer"]["dense"], mask["lora_b"]["dense"]
    ({'kernel': False, 'bias': False}, {'kernel': True})
    """
    positive("rank", rank)
    base = as_layer(layer, "LoRA")
    if _is_adapted(base):
        raise refused(
            ValueError,
            "expected a layer without LoRA inside",
            instead="merge it first: see jl.merge_lora",
            raised_by="LoRA",
            layer=base,
        )
    plain = around(base.with_frozen(path for path, _ in base.walk()), autocast=False)
    make = {"lora_a": initializers.get(a_initializer), "lora_b": initializers.get(b_initializer)}

    def wire(children: Mapping[str, Layer]) -> Pair:
        base = children["layer"]
        pair = plain.wire({"layer": open_to_gradients(base)})

        def init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            params, state = pair.init(key, *inputs)
            added: dict[str, dict[str, Any]] = {"lora_a": {}, "lora_b": {}}
            for path, kernel, stacked in _target_kernels(base, params.get("layer", {}), targets):
                *rows, columns = kernel.shape[stacked:]
                for name, shape in {"lora_a": (*rows, rank), "lora_b": (rank, columns)}.items():
                    own = child_key(key, f"{name}/{path}")
                    added[name][path] = _first_values(
                        make[name], own, kernel.shape[:stacked], shape, kernel.dtype
                    )
            return {**params, **{name: unflatten(flat) for name, flat in added.items()}}, state

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            fixed = {**params, "layer": without_gradient(base, params["layer"])}
            adapted = {"layer": _add_products(base, fixed, adaptation.scale)}
            return pair.apply(adapted, *inputs, state=state, key=key, train=train)

        return pair.wrap(init=init, apply=apply)

    adaptation = Adaptation(base, _scale(rank, alpha))
    return dataclasses.replace(plain, wire=wire, structure=adaptation)


def merge_lora(
    model: Layer, params: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[Layer, dict[str, Any], dict[str, Any]]:
    """The model without its `LoRA`s, with what they learned added to the kernels: the same outputs.

    Args:
        model: a `LoRA`, or a model with some inside.
        params: its parameters.
        state: its state.

    Returns:
        The plain model, its parameters and its state. What the `LoRA`s froze is not frozen in it. Where a
        `Sequential` names its layers, each takes the name it has without `LoRA`: `lora` becomes `dense`.

    Raises:
        ValueError: there is no `LoRA`.

    >>> import jax, jlayers as jl
    >>> model = jl.LoRA(jl.Dense(2), rank=1)
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> dense, params, state = jl.merge_lora(model, params, state)
    >>> dense, list(params)
    (Dense(2), ['kernel', 'bias'])
    """
    if not _is_adapted(model):
        raise refused(ValueError, "expected a model with LoRA inside", raised_by="merge_lora", model=model)
    plain = replace_layers(
        model, {path: _without for path, inner in model.walk() if _is_lora(inner)}, keep_names=False
    )
    return (plain, *_merge(model, plain, dict(params), dict(state)))


def _is_lora(layer: Layer) -> bool:
    return isinstance(layer.structure, Adaptation)


def _is_adapted(model: Layer) -> bool:
    return any(_is_lora(inner) for _, inner in model.walk())


def _scale(rank: int, alpha: float | None) -> float:
    return (rank if alpha is None else alpha) / rank


def _target_kernels(
    base: Layer, params: Mapping[str, Any], targets: str | Sequence[str] | None
) -> list[tuple[str, Any, int]]:
    found = {path: (path, kernel, stacked) for path, kernel, stacked in find_kernels(base, params)}
    if not found:
        raise refused(
            ValueError,
            "expected a layer with parameters named kernel, embeddings or ..._kernel, of two or more "
            f"dimensions, not {sorted(flatten(params))}",
            raised_by="LoRA",
            layer=base,
        )
    if targets is None:
        return list(found.values())
    targeted: dict[str, Any] = {}
    for pattern in [targets] if isinstance(targets, str) else targets:
        matched = match(pattern, found)
        if not matched:
            raise refused(
                ValueError,
                f"expected patterns that match kernels, and {pattern!r} matches none",
                instead=nearest(pattern, found),
                raised_by="LoRA",
                targets=targets,
            )
        targeted.update({path: found[path] for path in matched})
    return list(targeted.values())


def _first_values(make: Any, key: Any, stack: tuple[int, ...], shape: tuple[int, ...], dtype: Any) -> Array:
    """First values, drawn for each member of a stack by itself."""
    if not stack:
        return make(key, shape, dtype)
    keys = jax.random.split(key, math.prod(stack))
    return jax.vmap(lambda key: make(key, shape, dtype))(keys).reshape(*stack, *shape)


def _add_products(base: Layer, params: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """The parameters of the base with the products added to its kernels."""
    a, b = flatten(params["lora_a"]), flatten(params["lora_b"])
    flat = flatten(params["layer"])
    for path, kernel, stacked in find_kernels(base, params["layer"]):
        if path in a:
            flat[path] = kernel + scale * _product(a[path], b[path], stacked).astype(kernel.dtype)
    return unflatten(flat)


def _product(
    a: Float[Array, "*stack_and_rows rank"], b: Float[Array, "*stack rank columns"], stacked: int
) -> Float[Array, "*stack_and_rows columns"]:
    rows = a.reshape(*a.shape[:stacked], -1, a.shape[-1])
    return (rows @ b).reshape(*a.shape[:-1], b.shape[-1])


# --------------------------------------------------------------------------------------------- merging


def _without(lora: Layer) -> Layer:
    """The layer that a `LoRA` was given, with the precision that it has by now."""
    base = lora.structure.base
    return remake(base, base.frozen, lora.children["layer"].precision)


def _merge(
    model: Layer, plain: Layer, params: dict[str, Any], state: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and state of `model` as those of `plain`, which has its children in the same order."""
    if _is_lora(model):
        return _add_products(model.children["layer"], params, model.structure.scale), state.get("layer", {})
    if not _is_adapted(model):
        return params, state
    own, moved = ({k: v for k, v in tree.items() if k not in model.children} for tree in (params, state))
    for (name, child), (renamed, other) in zip(model.children.items(), plain.children.items(), strict=True):

        def merge(p: Any, s: Any, child: Layer = child, other: Layer = other) -> Any:
            return _merge(child, other, p, s)

        trees = (params.get(name, {}), state.get(name, {}))
        if any(trees):
            merged = (jax.vmap(merge) if model.stacked else merge)(*trees)
            for tree, value in zip((own, moved), merged, strict=True):
                if value:
                    tree[renamed] = value
    return own, moved
