"""Batches on their way to the step: many steps in one dispatch, or one step each on batches moved together.

A dispatch costs the host 30 to 60 microseconds on a CPU, whatever the step. Steps that take no longer than
that train several times as fast when one compiled loop makes many of them; others gain nothing, and their
progress is seen less often. The numbers are the same in either case, bit for bit: the loop's body is the
step itself. Not so with convolutions on a CPU: in a loop XLA runs them on one thread and by slow kernels that
round differently (jax#12868), so their steps are taken one by one.

Microseconds per step with 1 and with 32 steps in a call, shortest of many rounds on two cores of an x86-64
CPU (float32, Adam, the batches on the device):

| model, batch | parameters times rows | 1 | 32 |
| --- | ---: | ---: | ---: |
| MLP 64-32-10, 32 | 77 thousand | 48 | 16 |
| GRU 32 over (20, 16), 32 | 154 thousand | 606 | 509 |
| TransformerEncoder 32 over (16, 32), 32 | 410 thousand | 1375 | 1152 |
| MLP 128-128-128-10, 64 | 3 million | 244 | 169 |
| MLP 256-256-256-10, 64 | 9 million | 929 | 862 |
| MLP 784-512-512-10, 128 | 86 million | 5480 | 5360 |
| Conv2D 8 3x3 on (8, 8, 1), MaxPooling2D, Dense 10, 32 | 24 thousand | 208 | 274 |
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jlayers.core.errors import about
from jlayers.core.tree import count
from jlayers.data.batches import Batches
from jlayers.data.prefetch import Ahead, Waiting
from jlayers.inspect.flops import primitives
from jlayers.train.interruptions import Interruptions
from jlayers.train.state import Live, TrainState, copied
from jlayers.train.step import TrainStep, one_of

__all__ = ["Calls", "Runner", "StepsPerCall", "ahead", "calls_for"]

StepsPerCall = int | Literal["auto"]
Logs = dict[str, jax.Array]

# `fit` of the smallest of these was 5 to 15 % faster than with 32, and no slower than with 256. No more
# batches than that are moved together, either, so that small ones stay in the cache.
STEPS = 64
BYTES = 2**25  # of stacked batches, of which two may be on their way

# Parameters times rows up to which a dispatch is more than a twentieth of the step: on a CPU by the table
# above, elsewhere, not measured, on the assumption of a hundred times as many operations per second.
SMALL = {"cpu": 10**7}
SMALL_ELSEWHERE = 10**9

# Reading the logs is a dispatch, too, done once for as many small steps as take some ten milliseconds. The
# size of a step is that of the table, but at least a hundred times the bytes of its batch: a convolution uses
# a weight often.
UNREAD = 10
PER_BYTE = 100


@dataclasses.dataclass(frozen=True)
class Calls:
    """A plan for dispatching steps.

    Attributes:
        steps: how many steps are reported to progress at a time, unless a callback asks for others.
        looped: one dispatch makes `steps` steps.
        block: how many batches are moved to the device together; 1 to pass each as it comes.
    """

    steps: int = 1
    looped: bool = False
    block: int = 1

    @property
    def single(self) -> bool:
        """True if batches are neither stacked nor looped over."""
        return self.block == 1 and not self.looped


def calls_for(steps: StepsPerCall, step: TrainStep, state: TrainState, data: Batches) -> Calls:
    """As many steps per call as were asked for, or as many as pay.

    Raises:
        ValueError: several steps for a model whose state changes its shapes or dtypes in a step.
    """
    auto = steps == "auto"
    batch = data.first()
    leaves = jax.tree.leaves(batch)
    size = max(1, sum(leaf.nbytes for leaf in leaves))
    block = 1
    if data.checked and data.steps:  # arrays in memory
        block = max(1, min(data.steps, STEPS, BYTES // size))
    platform = next(iter(state.step.devices())).platform
    small, work = SMALL.get(platform, SMALL_ELSEWHERE), count(state.params) * leaves[0].shape[0]
    single = Calls(max(1, min(block, UNREAD * small // max(work, PER_BYTE * size))), block=block)
    together = (block if work <= small else 1) if auto else min(steps, data.steps or steps)
    if together == 1:
        return single
    state = step.prepare(state, batch)
    traced = step.one.trace(state.flat, state.key_data, batch)
    changed = _changed(state.live, traced.out_info[0].live)
    if changed and not auto:
        error = ValueError(
            f"expected a model whose state keeps its shapes and dtypes for several steps in one call, "
            f"received steps_per_call={steps!r} and one where {changed}; use steps_per_call=1"
        )
        raise about(error, steps_per_call=steps)
    convolutions = platform == "cpu" and "conv_general_dilated" in primitives(traced.jaxpr)
    if changed or convolutions:
        return single if auto else Calls(together, block=block)
    return Calls(together, looped=True, block=together)


def _changed(before: Live, after: Any) -> str | None:
    """The parts of a state whose form differs from the form before the step, in words."""

    def forms(live: Any) -> dict[str, Any]:
        paths = jax.tree_util.tree_leaves_with_path(live)
        return {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype) for path, leaf in paths}

    old, new = forms(before), forms(after)
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            return f"{path.lstrip('.')} goes from {old.get(path)} to {new.get(path)}"
    return None


def moved(item: Any) -> Any:
    """The items of a stream, with their arrays on the device.

    They are copied first: a source may fill the same memory again for its next batch.
    """
    return jax.tree.map(lambda a: jax.device_put(np.array(a)) if isinstance(a, np.ndarray) else a, item)


def ahead(
    data: Batches, prepare: Callable[[Any], Any] = lambda batch: batch
) -> contextlib.AbstractContextManager[Iterator[Any]]:
    """The batches of an epoch, prepared; those of a stream in a thread, moved to the device ahead of use."""
    if data.checked:
        return contextlib.nullcontext(map(prepare, data.epoch()))
    return Ahead(data.epoch, lambda batch: moved(prepare(batch)))


class Runner:
    """Holds the one live state, and moves it over batches.

    Between the call of a compiled step and the assignment of what it returns, the old state is gone and the
    new one has no name yet: an interruption waits until then.

    Attributes:
        flat: the live state, as the last dispatch gave it; the one before it is gone.
        step: how many steps were taken, those of earlier fits included.
        waiting: how long it was waited for batches of a stream.
    """

    def __init__(
        self,
        program: TrainStep,
        state: TrainState,
        calls: Calls,
        every: Sequence[int] = (),
        at: Sequence[int] = (),
        waiting: Waiting | None = None,
        interrupts: Interruptions | None = None,
    ):
        self.program = program
        self.flat, self.key_data = state.flat, state.key_data
        self.step = int(state.step)
        self.calls = calls
        self.every = every  # at multiples of these numbers of steps a callback wants to look
        self.at = at  # and after these steps
        self.interrupts = Interruptions() if interrupts is None else interrupts
        self.waiting = Waiting() if waiting is None else waiting
        self.is_last: Callable[[], bool] = lambda: False  # whether a stream has ended with the last step
        self._next: Iterator[tuple[Any, int]] | None = None  # blocks of the epoch to come

    def epoch(self, data: Batches, number: int, start: int) -> Generator[Logs | None, None, None]:
        """Takes the steps of an epoch from batch `start` on; gives the logs so far, several times.

        None in their place at the end of an epoch of arrays, where they are read together with other things.
        """
        if data.checked:
            blocks, self._next = self._next or self._blocks(data, number, start), None
            last = None if data.steps is None else self.step + data.steps - start
            logs = None
            for batches, steps in blocks:
                before = logs
                for logs in self._steps(batches, steps, last):
                    yield logs
                jax.block_until_ready(before)  # so that no more than two blocks wait on the device
            return
        blocks = lambda: self._blocks(data, number, start)  # noqa: E731
        with Ahead(blocks, moved, self.waiting) as items:
            for batches, steps in items:
                end = self.step + steps
                for logs in self._steps(batches, steps):
                    items.until = functools.partial(jax.block_until_ready, logs)
                    self.is_last = lambda end=end: self.step == end and items.ended()
                    yield logs

    def _steps(self, batches: Any, steps: int, last: int | None = None) -> Iterator[Logs | None]:
        """The steps over a block of batches, or over a single one.

        An interruption waits until whoever takes the logs asks for the next ones: a state that a checkpoint
        keeps is one that all callbacks have heard of.
        """
        program = self.program
        if not self.flat.form.measured:
            self._begin(batches)
        if self.calls.single:
            with self.interrupts.held():
                yield self._call(program.one, 1, batches)
            return
        done, first = 0, None
        while done < steps:
            look = self._until_look()
            now = min(steps - done, self.calls.steps, look)
            with self.interrupts.held():
                if self.calls.looped:
                    logs = self._call(program.many, now, batches, np.int32(done), np.int32(now))
                else:
                    first = copied(self.flat.live.step) if first is None else first
                    self._each(now, batches, first)
                    unread = self.step == last and now < look
                    logs = None if unread else program.logs(self.flat, one_of(batches))
                done += now
                yield logs

    def _until_look(self) -> int:
        """The number of steps until a callback wants to look."""
        looks = [n - self.step % n for n in self.every] + [n - self.step for n in self.at]
        return min((n for n in looks if n > 0), default=sys.maxsize)

    def look_ahead(self, data: Batches, number: int) -> None:
        """Cuts the first block of an epoch of arrays, while the device still works on the one before."""
        if data.checked and (self.calls.looped or self.calls.block > 1):
            blocks = self._blocks(data, number, 0)
            self._next = itertools.chain(list(itertools.islice(blocks, 1)), blocks)

    def _blocks(self, data: Batches, number: int, start: int) -> Iterator[tuple[Any, int]]:
        """Stacked batches, and how many are meant; or batches as they come."""
        if self.calls.single:
            yield from ((batch, 1) for batch in data.epoch(number, start))
            return
        for batches, steps in data.blocks(self.calls.block, number, start):
            # Used once in a loop: to move them beforehand costs more than it saves.
            yield (batches if self.calls.looped else copied(batches)), steps

    def _begin(self, batches: Any) -> None:
        """Puts accumulators in place, for batches of this form."""
        live, batch = self.flat.live, batches if self.calls.single else one_of(batches)
        zeros = self.program.tasks.accumulators(live.params, live.state, batch)
        self.flat = self.flat.replace(metrics=zeros)

    def _call(self, program: Any, steps: int, *arguments: Any) -> Logs:
        """One dispatch of so many steps."""
        self.flat, logs = program(self.flat, self.key_data, *arguments)
        self.step += steps
        return logs

    def _each(self, steps: int, batches: Any, first: jax.Array) -> None:
        """Dispatches of one step each, with as little Python as can be between two of them."""
        nth, key_data, interrupts = self.program.nth, self.key_data, self.interrupts
        for _ in range(steps):
            self.flat = nth(self.flat, key_data, batches, first)
            self.step += 1
            if interrupts.received is not None:
                break
