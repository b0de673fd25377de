"""Mixture of experts: many layers side by side, and each token takes a few of them."""

from __future__ import annotations

import fractions
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import initializers
from jlayers.core.compose import init_stacked
from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, Wiring, layer
from jlayers.core.masks import is_masked, refusal
from jlayers.core.notes import note_errors
from jlayers.core.pair import Pair
from jlayers.core.registry import InitializerLike, RegularizerLike
from jlayers.core.shapes import describe, param_dtype, wide_dtype
from jlayers.core.state import AUX_LOSS
from jlayers.core.wiring import as_layer, child_key
from jlayers.layers._arguments import need_features, need_floating, positive

__all__ = ["MoE"]


@layer
def MoE(
    expert: LayerLike,
    num_experts: int,
    top_k: int = 1,
    capacity_factor: float | None = 1.25,
    aux_loss_weight: float = 0.01,
    router_initializer: InitializerLike = "glorot_uniform",
    router_regularizer: RegularizerLike | None = None,
):
    """A sparse mixture of experts: a router sends each token to `top_k` of `num_experts` copies of a layer.

    Switch (Fedus et al., 2021, https://arxiv.org/abs/2101.03961) for `top_k=1`: the expert's output times its
    probability. GShard (Lepikhin et al., 2020, https://arxiv.org/abs/2006.16668) for more: the outputs by
    their probabilities, which are divided by their sum. The router's softmax is in float32 or wider.

    Each example is a group of its own: of its tokens an expert takes at most `ceil(capacity_factor * top_k *
    tokens / num_experts)`, first choices before second ones, earlier tokens before later ones. Tokens beyond
    that give zero, so put a `Residual` around it. Since no example takes another's places, outputs do not
    depend on the rest of the batch.

    The loss that keeps the experts evenly used is stored in the state as `aux_loss`, a float32 scalar, and
    training adds it: `aux_loss_weight * num_experts * sum(f * p)`, where `f` is the share of the batch's
    choices that fall on an expert, and `p` its mean probability. With an even use it is `aux_loss_weight`.

    Shapes: `(batch, ..., features)` to `(batch, ..., units)`, with the `units` of the expert, which is called
    on `(batch, places, features)`, places that are not taken being zero; it must treat each place by itself.
    Parameters: `router_kernel` `(features, num_experts)`; and under `expert` those of the expert, each with a
    leading axis of length `num_experts`. State: `aux_loss`, and that of the experts likewise. Dispatch is by
    products with one-hot matrices, whose cost grows with the square of the tokens of an example.

    Args:
        expert: any layer; each copy has weights of its own.
        num_experts: how many copies.
        top_k: how many of them each token takes.
        capacity_factor: room in each expert; 1 is just enough if tokens are spread evenly. None for room for
            all tokens.
        aux_loss_weight: factor of the loss that keeps the use even.

    Raises:
        ValueError: numbers below 1, `top_k` above `num_experts`, a capacity factor of 0 or less, a negative
            weight, or an expert that changes the number of places.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> network = jl.Sequential(jl.Dense(32, activation="gelu"), jl.Dense(8))
    >>> block = jl.Residual(jl.MoE(network, num_experts=4, top_k=2))
    >>> params, state = block.init(jax.random.key(0), (2, 10, 8))
    >>> params["layer"]["expert"]["dense"]["kernel"].shape
    (4, 8, 32)
    >>> y, state = block.apply(params, state, jax.numpy.ones((2, 10, 8)))
    >>> y.shape, state["layer"]["aux_loss"].shape
    ((2, 10, 8), ())
    """
    positive("num_experts", num_experts)
    if positive("top_k", top_k) > num_experts:
        raise refused(ValueError, f"expected top_k of at most num_experts={num_experts!r}", top_k=top_k)
    if capacity_factor is not None and not 0 < capacity_factor < math.inf:
        raise refused(ValueError, "expected capacity_factor > 0, or None", capacity_factor=capacity_factor)
    if aux_loss_weight < 0:
        raise refused(ValueError, "expected aux_loss_weight >= 0", aux_loss_weight=aux_loss_weight)
    make_router = initializers.get(router_initializer)

    def tokens_and_places(x: Any) -> tuple[Any, Any]:
        """The shape of the tokens of each example, and the places each expert has for them."""
        if is_masked(x):
            raise refusal(x, "and would give places of its experts to padding")
        need_floating(x)
        if len(x.shape) < 2:
            raise refused(ValueError, "expected an input (batch, ..., features)", x)
        length = math.prod(x.shape[1:-1])
        return (x.shape[0], length, x.shape[-1]), _places(length, num_experts, top_k, capacity_factor)

    def wire(children: Mapping[str, Layer]) -> Pair:
        inner = children["expert"]

        def init(key: Any, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            (batch, _, features), places = tokens_and_places(x)
            router = make_router(child_key(key, "router"), (features, num_experts), param_dtype(x))
            expert_input = jax.ShapeDtypeStruct((batch, places, features), x.dtype)
            keys = jax.random.split(child_key(key, "expert"), num_experts)
            with note_errors("expert", inner, (expert_input,)):
                params, state = init_stacked(inner, keys, expert_input)
            return (
                {"router_kernel": router, **({"expert": params} if params else {})},
                {AUX_LOSS: jnp.zeros((), jnp.float32), **({"expert": state} if state else {})},
            )

        def run(params: Any, state: Any, x: Any, key: Any, train: bool) -> tuple[Any, Any]:
            keys = None
            if inner.draws and key is not None:
                keys = jax.random.split(child_key(key, "expert"), num_experts)

            def one(params: Any, state: Any, x: Any, key: Any) -> tuple[Any, Any]:
                return inner.apply(params, state, x, key=key, train=train)

            with note_errors("expert", inner, (jax.ShapeDtypeStruct(x.shape[1:], x.dtype),)):
                y, moved = jax.vmap(one)(params.get("expert", {}), state.get("expert", {}), x, keys)
            if y.ndim != 4 or y.shape[:3] != x.shape[:3]:
                raise refused(
                    ValueError,
                    f"expected the expert to give (batch, places, units) for each place of {describe(x[0])}",
                    y[0],
                )
            return y, moved

        def apply(
            params: Any, x: Float[Array, "batch *rest features"], *, state: Any, key: Any, train: bool
        ) -> tuple[Float[Array, "batch *rest units"], Any]:
            shape, places = tokens_and_places(x)
            need_features(x, len(x.shape) - 1, params["router_kernel"].shape[0], "features")
            wide, tokens = wide_dtype(x.dtype), x.reshape(shape)
            logits = tokens.astype(wide) @ params["router_kernel"].astype(wide)
            probabilities = jax.nn.softmax(logits)
            gates, chosen = _choices(probabilities, top_k)
            slots = _slots(chosen, places)
            dispatch = jnp.einsum("blke,blkp->blep", chosen, slots)
            weights = jnp.einsum("blk,blke,blkp->blep", gates, chosen, slots)
            inside = jnp.einsum("blep,blf->ebpf", dispatch.astype(x.dtype), tokens)
            y, moved = run(params, state, inside, key, train)
            y = jnp.einsum("blep,ebpf->blf", weights.astype(y.dtype), y).reshape(*x.shape[:-1], y.shape[-1])
            loss = aux_loss_weight * _imbalance(probabilities, chosen)
            return y, {AUX_LOSS: loss.astype(jnp.float32), **({"expert": moved} if moved else {})}

        return Pair(init, apply, draws=inner.draws)

    return Wiring({"expert": as_layer(expert, "MoE")}, wire, stacked=True)


def _places(length: Any, experts: int, top_k: int, factor: float | None) -> Any:
    """Number of tokens of an example that fit into an expert; lengths may be symbols."""
    if factor is None:
        return length
    ratio = fractions.Fraction(factor).limit_denominator(10_000) * top_k / experts
    places = -(-length * ratio.numerator // ratio.denominator)
    return max(1, min(places, length)) if isinstance(length, int) else places


def _choices(
    probabilities: Float[Array, "batch length experts"], top_k: int
) -> tuple[Float[Array, "batch length k"], Float[Array, "batch length k experts"]]:
    """The gates of each token's experts, best first, and which they are, as one-hot vectors."""
    gates, chosen = jax.lax.top_k(probabilities, top_k)
    if top_k > 1:
        gates = gates / jnp.sum(gates, axis=-1, keepdims=True)
    return gates, jax.nn.one_hot(chosen, probabilities.shape[-1], dtype=probabilities.dtype)


def _slots(
    chosen: Float[Array, "batch length k experts"], places: Any
) -> Float[Array, "batch length k places"]:
    """The place that each choice has in its expert, as a one-hot vector; zeros if there is none left."""
    batch, length, k, experts = chosen.shape
    queue = jnp.swapaxes(chosen, 1, 2).reshape(batch, k * length, experts).astype(jnp.int32)
    before = jnp.sum((jnp.cumsum(queue, axis=1) - queue) * queue, axis=-1)
    place = jnp.swapaxes(before.reshape(batch, k, length), 1, 2)
    return (place[..., None] == jnp.arange(places)[None, None, None, :]).astype(chosen.dtype)


def _imbalance(
    probabilities: Float[Array, "batch length experts"], chosen: Float[Array, "batch length k experts"]
) -> Float[Array, ""]:
    """1 if all experts are used alike, up to their number if one takes all; 0 for no tokens at all."""
    if 0 in probabilities.shape[:2]:
        return jnp.zeros((), probabilities.dtype)
    used, wanted = jnp.mean(chosen, axis=(0, 1, 2)), jnp.mean(probabilities, axis=(0, 1))
    return probabilities.shape[-1] * jnp.sum(used * wanted)
