"""Layers around layers for sequences: one layer at every time step, one layer in both directions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, Wiring, layer
from jlayers.core.masks import (
    combine,
    intersection,
    is_masked,
    leaves,
    mask_of,
    refusal,
    values_of,
    with_mask,
)
from jlayers.core.notes import note_errors
from jlayers.core.pair import Pair
from jlayers.core.shapes import shape_text
from jlayers.core.wiring import as_layer, child_key, routed
from jlayers.layers._arguments import choice
from jlayers.layers.recurrent._steps import before_steps, between_steps, holds_losses

__all__ = ["Bidirectional", "TimeDistributed"]


@layer
def TimeDistributed(layer: LayerLike):
    """A layer applied to every time step (axis 1) with the same weights. As in Keras.

    Shapes: `(batch, time, ...)` to `(batch, time, ...)`; the layer sees `(batch, ...)`. Several inputs, and
    several outputs, are cut and joined alike. Parameters and state: those of the layer, under `layer`.

    The layer sees all steps at once, as one larger batch. One whose state moves in training, such as
    `BatchNormalization`, then sees one step after the other, as in Keras: each step is normalized by
    its own statistics. Losses that the layer leaves in its state are summed over the steps.

    A mask `(batch, time)` is kept; a layer with a state sees it as a mask of the examples. Of a mask over
    further axes the layer sees the rest, and the output's steps are real where any of it is.

    Args:
        layer: what to apply; it has to keep the batch axis in front.

    Raises:
        ValueError: an input of fewer than three dimensions, inputs of different batch or time, or a
            layer that does not keep the batch axis.

    >>> import jax, jlayers as jl
    >>> frames = jl.TimeDistributed(jl.Conv2D(8, 3))
    >>> video = jax.numpy.ones((2, 5, 16, 16, 3))
    >>> params, state = frames.init(jax.random.key(0), video)
    >>> frames.apply(params, state, video)[0].shape
    (2, 5, 14, 14, 8)
    """

    def over_folded_time(call: Any, *inputs: Any) -> Any:
        batch, time = _batch_and_time(inputs)
        output = call("layer", *jax.tree.map(lambda x: x.reshape(batch * time, *x.shape[2:]), inputs))
        _need_batch(output, batch * time)
        return jax.tree.map(lambda y: y.reshape(batch, time, *y.shape[1:]), output)

    def route(call: Any, *inputs: Any) -> Any:
        return _with_steps(over_folded_time(call, *_without_steps(inputs)), inputs)

    def wire(children: Mapping[str, Layer]) -> Pair:
        child = children["layer"]
        plain = routed(children, route, autocast=False).wire(children)
        alone, together = plain.apply, routed(children, over_folded_time, autocast=False).wire(children).apply
        moves = any(path not in child.frozen for path, _ in child.walk())

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            own = state.get("layer", {})
            if not own:
                return alone(params, *inputs, state=state, key=key, train=train)
            if not holds_losses(own) and not (train and moves):
                output, state = together(params, *inputs, state=state, key=key, train=train)
                return _with_steps(output, inputs), state
            batch, time = _batch_and_time(inputs)
            keys = None
            if child.draws and key is not None:
                keys = jax.random.split(child_key(key, "layer"), time)

            def step(before: Any, each: Any) -> tuple[Any, Any]:
                xs, key = each
                with note_errors("layer", child, xs), jax.named_scope("layer"):
                    y, after = child.apply(params.get("layer", {}), before, *xs, key=key, train=train)
                _need_batch(y, batch)
                return between_steps(before, after), y

            steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), inputs)
            own, output = jax.lax.scan(step, before_steps(own), (steps, keys))
            output = jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), output)
            return _with_steps(output, inputs), {**state, "layer": own}

        return plain.wrap(apply=apply)

    return Wiring({"layer": as_layer(layer, "TimeDistributed")}, wire)


def _without_steps(inputs: Any) -> Any:
    """Inputs without the masks over whole steps, which do not matter to a layer that sees single steps."""

    def inner(x: Any) -> Any:
        return values_of(x) if is_masked(x) and x.mask.ndim == 2 else x

    return jax.tree.map(inner, inputs, is_leaf=is_masked)


def _with_steps(output: Any, inputs: Any) -> Any:
    """The output, real at no step at which an input is padding as a whole."""
    masks = [mask_of(x) for x in leaves(inputs) if is_masked(x)]
    steps = intersection(*(jnp.any(mask, axis=tuple(range(2, mask.ndim))) for mask in masks))
    return jax.tree.map(
        lambda y: with_mask(values_of(y), intersection(mask_of(y), steps)), output, is_leaf=is_masked
    )


def _batch_and_time(inputs: Any) -> tuple[Any, Any]:
    for x in filter(is_masked, leaves(inputs)):
        if x.mask.ndim < 2:
            raise refusal(x, "which says nothing of single steps")
    arrays = [values_of(x) for x in leaves(inputs)]
    for x in arrays:
        if len(x.shape) < 3:
            raise refused(
                ValueError,
                "expected inputs of at least three dimensions (batch, time, ...)",
                x,
                instead="the batch dimension may be missing: add one with x[None]",
            )
        if x.shape[:2] != arrays[0].shape[:2]:
            raise refused(
                ValueError, "expected all inputs to have the same batch and time (axes 0 and 1)", inputs
            )
    return arrays[0].shape[:2]


def _need_batch(output: Any, batch: Any) -> None:
    for y in jax.tree.leaves(output):
        if not y.shape or y.shape[0] != batch:
            rows = shape_text((batch,))[1:-2]
            raise refused(
                ValueError,
                f"expected the layer to keep the batch of {rows} rows as the first axis of its output",
                output,
            )


_MERGE = {
    "concat": lambda y, z: jnp.concatenate([y, z], axis=-1),
    "sum": lambda y, z: y + z,
    "mul": lambda y, z: y * z,
    "ave": lambda y, z: (y + z) / 2,
}
_ALIKE = ("return_sequences", "return_state")


@layer
def Bidirectional(
    layer: LayerLike,
    merge_mode: Literal["concat", "sum", "mul", "ave"] | None = "concat",
    backward_layer: LayerLike | None = None,
):
    """A recurrent layer and its twin that runs from the end (Schuster and Paliwal, 1997). As in Keras.

    Takes what the layer takes: sequences `(batch, time, ...)`, and optionally initial states, those of the
    forward layer first. Gives the two outputs merged, in the order of time; with `return_state` the
    tuple of output (two of them for `merge_mode=None`), forward states and backward states. Parameters: under
    `forward_layer` and `backward_layer`. A mask goes to both layers; with `return_sequences` the output has
    it, too. (What stands in padding has no meaning; Keras sets `zero_output_for_mask` in both layers.)

    Args:
        layer: a recurrent layer, such as `LSTM`: one with the arguments `go_backwards`, `return_sequences`
            and `return_state`.
        merge_mode: how the two outputs become one: "concat" along the last axis, "sum", "mul", "ave" for
            the mean; None keeps both, as a pair.
        backward_layer: what runs from the end, with `go_backwards=True`; None for `layer` made once more.

    Raises:
        TypeError: a layer that does not run over time, or that has no such arguments.
        ValueError: an unknown `merge_mode`, two layers of one direction, layers that disagree in
            what they return, or an odd number of initial states.

    >>> import jax, jlayers as jl
    >>> both = jl.Bidirectional(jl.GRU(4, return_sequences=True))
    >>> params, state = both.init(jax.random.key(0), (2, 5, 3))
    >>> both.apply(params, state, jax.numpy.ones((2, 5, 3)))[0].shape
    (2, 5, 8)
    >>> list(params)
    ['forward_layer', 'backward_layer']
    """
    if merge_mode is not None:
        choice("merge_mode", merge_mode, list(_MERGE))
    forward = as_layer(layer, "Bidirectional")
    options = _time_options("layer", forward)
    if backward_layer is None:
        # Layers inside it, such as the cell of an RNN, must be others, too, to have weights of their own.
        backward = copy.deepcopy(forward).replace(go_backwards=True)
    else:
        backward = as_layer(backward_layer, "Bidirectional")
    others = _time_options("backward_layer", backward)
    if options["go_backwards"] or not others["go_backwards"]:
        raise refused(
            ValueError,
            "expected go_backwards=False in layer and go_backwards=True in backward_layer",
            layer=forward,
            backward_layer=backward,
        )
    for option in (*_ALIKE, "stateful"):
        value, other = options.get(option, False), others.get(option, False)
        if value != other:
            raise refused(
                ValueError,
                f"expected one {option} in both layers, not {value!r} and {other!r}",
                layer=forward,
                backward_layer=backward,
            )

    def route(call: Any, x: Any, *initial: Any) -> Any:
        half = len(initial) // 2
        if len(initial) % 2:
            raise refused(
                ValueError,
                "expected the initial states of the forward layer, then as many of the backward layer, not "
                f"{len(initial)} in all",
                *initial,
            )
        y = call("forward_layer", x, *initial[:half])
        z = call("backward_layer", x, *initial[half:])
        states: tuple[Any, ...] = ()
        if options["return_state"]:
            (y, *ahead), (z, *behind) = y, z
            states = (*ahead, *behind)
        if options["return_sequences"]:
            z = jax.tree.map(lambda z: jnp.flip(z, axis=1), z)
        merged = combine(_MERGE[merge_mode], y, z) if merge_mode else (y, z)
        if not states:
            return merged
        return (*merged, *states) if merge_mode is None else (merged, *states)

    return routed({"forward_layer": forward, "backward_layer": backward}, route)


def _time_options(argument: str, layer: Layer) -> dict[str, Any]:
    arguments = layer.spec.arguments
    for option in ("go_backwards", *_ALIKE):
        if option not in arguments:
            received: dict[str, Any] = {argument: layer}
            raise refused(
                TypeError,
                f"expected a recurrent layer such as LSTM, with the argument {option}",
                instead="use TimeDistributed for a layer of single steps",
                **received,
            )
    return dict(arguments)
