"""How many steps one dispatch of `fit` makes.

A dispatch costs the host 30 to 60 microseconds on a CPU, whatever the step. Steps that take no longer than
that train several times as fast when one compiled loop makes many of them; others gain nothing, and their
progress is only seen less often. The numbers are the same in either case, bit for bit: the loop's body is
the step itself. Not so with convolutions on a CPU: in a loop XLA runs them on one thread and by slow kernels
that round differently (jax#12868). Written out one after the other, their steps gain nothing.

Microseconds per step with 1 and with 32 steps in a call, shortest of many rounds on two cores of an x86-64
CPU (float32, Adam, the batches on the device):

| model, batch | million operations per step | 1 | 32 |
| --- | ---: | ---: | ---: |
| MLP 64-32-10, 32 | 0.4 | 48 | 16 |
| the same with BatchNormalization and Dropout, 32 | 0.4 | 95 | 32 |
| MLP 128-128-128-10, 64 | 12 | 244 | 169 |
| GRU 32 over (20, 16), 32 | 17 | 606 | 509 |
| TransformerEncoder 32 over (16, 32), 32 | 32 | 1375 | 1152 |
| MLP 256-256-256-10, 64 | 45 | 929 | 862 |
| MLP 784-512-512-10, 128 | 421 | 5480 | 5360 |
| Conv2D 8 3x3 on (8, 8, 1), MaxPooling2D, Dense 10, 32 | 0.5 | 208 | 274 |
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.data.batches import ArrayBatches, Batch
from jlayers.inspect.flops import count_jaxpr, primitives
from jlayers.train.sources import Source
from jlayers.train.state import TrainState
from jlayers.train.step import TrainStep

__all__ = ["Call", "StepsPerCall", "call_of"]

StepsPerCall = int | Literal["auto"]

STEPS = 64  # `fit` of the smallest of these was 5 to 15 % faster than with 32, and no slower than with 256
BYTES = 2**25  # of stacked batches, of which two may be on their way

# Operations per step from which on a dispatch is below a twentieth of the step: on a CPU by the table above,
# elsewhere, not measured, on the assumption of a hundred times as many operations per second.
SMALL = {"cpu": 10**8}
SMALL_ELSEWHERE = 10**10


@dataclasses.dataclass(frozen=True)
class Call:
    """So many steps of `step` in each dispatch, in a loop or written out.

    Calls of one step find `block` batches on the device, if the data are arrays in memory; calls of several
    are given theirs as they were cut, for `device_put` costs more than it saves where they are used once.
    """

    step: TrainStep
    steps: int = 1
    unroll: bool = False
    block: int = 1

    @property
    def looped(self) -> int:
        """How many steps in a loop pay, for the validation, too."""
        return 1 if self.unroll else self.steps

    def epoch(
        self,
        state: TrainState,
        data: Source,
        epoch: int,
        start: int,
        check: Callable[..., Any] | None,
    ) -> Calls:
        """The calls of an epoch from batch `start` on; `state` is donated."""
        size = self.block if self.steps == 1 else self.steps
        if size > 1 and isinstance(data, ArrayBatches):
            return Calls(self, state, data.blocks(size, epoch, start))
        batches = data.epoch(epoch, start)
        batches = check(batches) if check else batches
        together = zip(batches, itertools.repeat(1)) if size == 1 else stacked(batches, size)
        return Calls(self, state, together)


class Calls:
    """Calls that are made while one iterates; each gives how many steps it was."""

    def __init__(self, call: Call, state: TrainState, batches: Iterable[tuple[Batch, int]]):
        self._now = lambda: state
        self._made = _made(call, state, batches)

    @property
    def state(self) -> TrainState:
        """That after the last call, until the next one is made."""
        return self._now()

    def __iter__(self) -> Iterator[int]:
        for now, count in self._made:
            self._now = now
            yield count

    def ahead(self) -> Calls:
        """Makes the first call at once, so that the device has work while the host does other things."""
        self._made = itertools.chain(list(itertools.islice(self._made, 1)), self._made)
        return self


def _made(
    call: Call, state: TrainState, batches: Iterable[tuple[Batch, int]]
) -> Iterator[tuple[Callable[[], TrainState], int]]:
    """Makes the calls, and gives after each what tells the state, and how many steps it was."""
    if call.steps == 1 and call.block > 1:
        yield from zip(call.step.each(state, batches), itertools.repeat(1))
        return

    def now() -> TrainState:
        return state

    for block, count in batches:
        if call.steps > 1:
            state, _ = call.step.run(state, block, count, unroll=call.unroll)
        else:
            state, _ = call.step(state, block)
        yield now, count


def call_of(steps: StepsPerCall, step: TrainStep, state: TrainState, data: Source) -> Call:
    """The call for these data: of as many steps as were asked for, or of as many as pay.

    Raises:
        ValueError: several steps for a model whose state changes its shapes or dtypes in a step.
    """
    auto = steps == "auto"
    block = 1
    if isinstance(data, ArrayBatches):
        block = fitting(data, len(data))
        together = min(fitting(data, STEPS) if auto else steps, len(data))
    else:
        together = 1 if auto else steps
    if together == block == 1:
        return Call(step)
    batch = data.first()
    before = step.prepare(state, batch)
    traced = step.jitted.trace(before, batch)
    changed = _changed(before, traced.out_info[0])
    if changed and not auto and together > 1:
        raise ValueError(
            f"expected a model whose state keeps its shapes and dtypes for several steps in one call, "
            f"received steps_per_call={steps!r} and one where {changed}; use steps_per_call=1"
        )
    if changed:
        return Call(step)
    platform = next(iter(state.step.devices())).platform
    convolutions = platform == "cpu" and "conv_general_dilated" in primitives(traced.jaxpr)
    if not auto:
        return Call(step, together, unroll=convolutions, block=block)
    small = count_jaxpr(traced.jaxpr.jaxpr).total <= SMALL.get(platform, SMALL_ELSEWHERE)
    return Call(step, together if small and not convolutions else 1, block=block)


def fitting(data: ArrayBatches, most: int) -> int:
    """How many batches may be in a block, `most` or fewer."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(data.first()))
    return max(1, min(most, len(data), BYTES // size))


def _changed(before: TrainState, after: Any) -> str | None:
    """What of a state is not of the form that it had before the step, in words."""

    def forms(state: Any) -> dict[str, Any]:
        paths = jax.tree_util.tree_leaves_with_path(state)
        return {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype) for path, leaf in paths}

    old, new = forms(before), forms(after)
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            return f"{path.lstrip('.')} goes from {old.get(path)} to {new.get(path)}"
    return None


def stacked(batches: Iterable[Batch], size: int) -> Iterator[tuple[Batch, int]]:
    """`size` batches at a time as one, `(size, batch, ...)`, and how many count; the last is filled up.

    >>> [(block.x.tolist(), count) for block, count in stacked([Batch(np.arange(2))] * 3, 2)]
    [([[0, 1], [0, 1]], 2), ([[0, 1], [0, 1]], 1)]
    """
    batches = iter(batches)
    while group := list(itertools.islice(batches, size)):
        filled = group + group[-1:] * (size - len(group))
        try:
            block = jax.tree.map(lambda *a: (np if isinstance(a[0], np.ndarray) else jnp).stack(a), *filled)
        except ValueError as error:
            raise ValueError(
                "expected batches of one form for several steps in one call, received different ones; use "
                f"steps_per_call=1 ({error})"
            ) from error
        yield block, len(group)
