"""Label sequences out of a model that was trained with `CTC`."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jlayers.core.errors import refused
from jlayers.losses.base import wide

__all__ = ["ctc_decode"]

_NONE = -1  # what stands behind the end of a sequence


def ctc_decode(
    inputs: Float[Array, "batch frames classes"],
    sequence_lengths: Int[Array, " batch"] | None = None,
    strategy: Literal["greedy", "beam_search"] = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Int[Array, "paths batch frames"], Float[Array, "batch paths"]]:
    """The label sequences that the outputs of a `CTC` model say. As `keras.ops.ctc_decode`.

    Works under `jit`, with the settings fixed.

    Args:
        inputs: logits of the classes and the blank in each frame.
        sequence_lengths: how many frames of each sample count; all if not given.
        strategy: "greedy" takes the best class of each frame. "beam_search" adds up the probabilities of all
            ways to say a sequence, for the `beam_width` best beginnings (Hannun et al., 2014).
        beam_width: beginnings that are kept from frame to frame.
        top_paths: sequences to return, the most probable first; 1 for "greedy".
        merge_repeated: "greedy" takes frames of one class in a row as one label.
        mask_index: the class of the blank.

    Returns:
        The labels, int32 `(top_paths, batch, frames)`, with -1 behind the end; and a score for each sequence,
        `(batch, top_paths)`: the logarithm of its probability, or for "greedy", as in Keras, minus the sum of
        the greatest logits.

    Raises:
        ValueError: other shapes, an unknown strategy, or numbers that do not fit.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> frames = jnp.array([[1, 1, 0, 1, 2]])  # "1", "1" after a blank, "2"
    >>> labels, _ = jl.losses.ctc_decode(10 * (frames[..., None] == jnp.arange(3)).astype("float32"))
    >>> labels.tolist()
    [[[1, 1, 2, -1, -1]]]
    """
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise refused(ValueError, "expected logits (batch, frames, classes)", inputs, raised_by="ctc_decode")
    batch, frames, classes = inputs.shape
    lengths = jnp.full(batch, frames) if sequence_lengths is None else jnp.asarray(sequence_lengths)
    if lengths.shape != (batch,):
        raise refused(
            ValueError,
            f"expected a length for each of {batch} samples",
            raised_by="ctc_decode",
            sequence_lengths=sequence_lengths,
        )
    if not 0 <= mask_index < classes:
        raise refused(
            ValueError, f"expected one of {classes} classes", raised_by="ctc_decode", mask_index=mask_index
        )
    logits = inputs.astype(wide(inputs.dtype))
    real = jnp.arange(frames)[None, :] < lengths[:, None]
    if strategy == "greedy":
        return _greedy(logits, real, merge_repeated, mask_index)
    if strategy != "beam_search":
        raise refused(
            ValueError, "expected 'greedy' or 'beam_search'", raised_by="ctc_decode", strategy=strategy
        )
    if not 1 <= top_paths <= beam_width:
        raise refused(
            ValueError,
            "expected from 1 to beam_width paths",
            raised_by="ctc_decode",
            top_paths=top_paths,
            beam_width=beam_width,
        )

    def one(logits: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _beam_search(jax.nn.log_softmax(logits), real, beam_width, top_paths, mask_index)

    labels, scores = jax.vmap(one)(logits, real)
    return jnp.swapaxes(labels, 0, 1), scores


def _greedy(logits: Any, real: Any, merge_repeated: bool, blank: int) -> tuple[jax.Array, jax.Array]:
    best = jnp.where(real, jnp.argmax(logits, axis=-1).astype(jnp.int32), blank)
    nonblank = best != blank
    if merge_repeated:
        nonblank = nonblank.at[:, 1:].set(nonblank[:, 1:] & (best[:, 1:] != best[:, :-1]))
    order = jnp.argsort(~nonblank, axis=1, stable=True)
    labels = jnp.take_along_axis(jnp.where(nonblank, best, _NONE), order, axis=1)
    scores = -jnp.sum(jnp.where(real, jnp.max(logits, axis=-1), 0), axis=1)
    return labels[None], scores[:, None]


def _beam_search(
    log_probs: jax.Array, real: jax.Array, width: int, paths: int, blank: int
) -> tuple[jax.Array, jax.Array]:
    """Beam search for one sample, with the probabilities that a beginning ends in a blank or does not."""
    frames, classes = log_probs.shape
    dtype, never = log_probs.dtype, -jnp.inf

    def step(beams: Any, frame: Any) -> tuple[Any, None]:
        labels, lengths, ends_blank, ends_label = beams
        probs, counts = frame
        both = jnp.logaddexp(ends_blank, ends_label)
        index = jnp.arange(width)
        last = jnp.where(lengths > 0, labels[index, lengths - 1], _NONE)
        # A beginning stays what it is by a blank, or by its last label once more ...
        stay_blank = both + probs[blank]
        stay_label = jnp.where(lengths > 0, ends_label + probs[last], never)
        # ... or it grows by a label, which after the same label needs a blank between.
        same = last[:, None] == jnp.arange(classes)[None, :]
        grown = jnp.where(same, ends_blank[:, None], both[:, None]) + probs[None, :]
        grown = grown.at[:, blank].set(never)
        # What one beginning grows to may be another one that is kept already.
        before = labels.at[index, lengths - 1].set(jnp.where(lengths > 0, _NONE, labels[index, lengths - 1]))
        parent = jnp.all(before[:, None] == labels[None, :], axis=-1) & (
            lengths[:, None] == lengths[None] + 1
        )
        joins = jnp.where(parent, grown[:, last].T, never)
        stay_label = jnp.logaddexp(stay_label, jax.nn.logsumexp(joins, axis=1))
        duplicate = jnp.any(parent[:, :, None] & same[:, None, :], axis=0)
        grown = jnp.where(duplicate, never, grown)

        every = jnp.concatenate([jnp.logaddexp(stay_blank, stay_label), grown.reshape(-1)])
        _, chosen = jax.lax.top_k(every, width)
        grows = chosen >= width
        source = jnp.where(grows, (chosen - width) // classes, chosen)
        label = ((chosen - width) % classes).astype(jnp.int32)
        new_labels = labels[source]
        at = jnp.minimum(lengths[source], frames - 1)
        new_labels = new_labels.at[index, at].set(jnp.where(grows, label, new_labels[index, at]))
        new = (
            new_labels,
            lengths[source] + grows.astype(jnp.int32),
            jnp.where(grows, never, stay_blank[source]),
            jnp.where(grows, every[chosen], stay_label[source]),
        )
        return jax.tree.map(lambda n, o: jnp.where(counts, n, o), new, beams), None

    start = (
        jnp.full((width, frames), _NONE, jnp.int32),
        jnp.zeros(width, jnp.int32),
        jnp.full(width, never, dtype).at[0].set(0),
        jnp.full(width, never, dtype),
    )
    (labels, _, ends_blank, ends_label), _ = jax.lax.scan(step, start, (log_probs, real))
    scores, best = jax.lax.top_k(jnp.logaddexp(ends_blank, ends_label), paths)
    return labels[best], scores
