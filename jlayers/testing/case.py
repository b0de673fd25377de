"""One layer under test, with what several checks need made once, and comparisons that say what differs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.layer import Layer
from jlayers.core.shapes import describe

__all__ = ["Case", "agree", "agree_in_form", "dot", "equal", "is_float", "jitted", "program"]


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` that compiles fast rather than well: every program here runs a few times at most."""
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quick)


def program(layer: Layer, case: Case, train: bool, key: Any) -> str:
    """The program of `apply` as text: layers with equal programs have equal outputs, without running them."""

    def apply(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        return layer.apply(params, state, *inputs, key=key, train=train)

    return jax.jit(apply).lower(*case.made, case.inputs, key).as_text()


@dataclasses.dataclass
class Case:
    """One layer on one set of inputs; what several checks need is made once."""

    layer: Layer
    inputs: tuple[Any, ...]
    key: jax.Array
    rng: np.random.Generator
    traces: dict[bool, int] = dataclasses.field(default_factory=lambda: {False: 0, True: 0})

    @functools.cached_property
    def made(self) -> tuple[Any, Any]:
        return self.layer.init(self.key, *self.inputs)

    @functools.cached_property
    def programs(self) -> dict[bool, str]:
        return {
            train: self.compiled[train].lower(*self.arguments(train)).as_text() for train in (False, True)
        }

    def arguments(self, train: bool) -> tuple[Any, ...]:
        """Those of `compiled`: calling, lowering and `eval_shape` with equal ones share one trace."""
        return *self.made, self.inputs, self.key if train else None

    @functools.cached_property
    def modes(self) -> tuple[bool, ...]:
        """The values of `train` that make a difference: most layers run alike in training."""
        return (False,) if self.programs[False] == self.programs[True] else (False, True)

    @functools.cached_property
    def compiled(self) -> dict[bool, Any]:
        def of(train: bool) -> Callable[..., Any]:
            def apply(params: Any, state: Any, inputs: Any, key: Any) -> Any:
                self.traces[train] += 1
                return self.layer.apply(params, state, *inputs, key=key, train=train)

            return jitted(apply)

        return {train: of(train) for train in (False, True)}

    def run(
        self, train: bool, *, params: Any = None, state: Any = None, inputs: Any = None, key: Any = None
    ) -> Any:
        """The compiled layer; in training with a key."""
        train = train and True in self.modes
        return self.compiled[train](
            self.made[0] if params is None else params,
            self.made[1] if state is None else state,
            self.inputs if inputs is None else inputs,
            (self.key if key is None else key) if train else None,
        )

    @functools.cached_property
    def inferred(self) -> tuple[Any, Any]:
        return self.run(False)

    @functools.cached_property
    def trained(self) -> tuple[Any, Any]:
        return self.run(True) if True in self.modes else self.inferred

    @functools.cached_property
    def others(self) -> tuple[Any, ...]:
        """Inputs of the same shapes and dtypes with other values."""

        def other(x: Any) -> Any:
            rolled = np.roll(x, 1, axis=0) if x.ndim else np.asarray(x)
            return jnp.asarray(rolled * np.asarray(0.5, x.dtype) if is_float(x) else rolled)

        return jax.tree.map(other, self.inputs)

    @property
    def leaves(self) -> list[Any]:
        return jax.tree.leaves(self.inputs)

    @property
    def batch(self) -> int:
        return next((x.shape[0] for x in jax.tree.leaves(self.inputs) if x.ndim), 0)

    def rows(self, count: int) -> Any:
        """The first rows of the inputs."""
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[:count]) if x.ndim else x, self.inputs)


def is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def agree(received: Any, expected: Any, what: str, exact: bool = False) -> None:
    """Two pytrees of arrays are equal: in structure, shapes, dtypes, and in values up to rounding."""
    agree_in_form(received, expected, what)
    for (path, r), e in zip(
        jax.tree_util.tree_leaves_with_path(received), jax.tree.leaves(expected), strict=True
    ):
        narrow = is_float(r) and jnp.finfo(r.dtype).bits < 32
        r, e = (np.asarray(v, np.float64) if is_float(v) else np.asarray(v) for v in (r, e))
        rtol = 0.0 if exact else 2e-2 if narrow else 1e-4
        scale = np.max(np.abs(e), initial=0.0) if rtol and e.dtype == np.float64 else 0.0
        if not np.allclose(r, e, rtol=rtol, atol=rtol * scale, equal_nan=True):
            worst = np.unravel_index(np.argmax(np.abs(r - e)), r.shape) if r.dtype != bool else ()
            raise AssertionError(
                f"{what}{jax.tree_util.keystr(path)}: expected {e[worst]!r} at {tuple(map(int, worst))}, "
                f"received {r[worst]!r}"
            )


def agree_in_form(received: Any, expected: Any, what: str) -> None:
    if jax.tree.structure(received) != jax.tree.structure(expected):
        raise AssertionError(
            f"{what}: expected the structure {jax.tree.structure(expected)}, "
            f"received {jax.tree.structure(received)}"
        )
    for (path, r), e in zip(
        jax.tree_util.tree_leaves_with_path(received), jax.tree.leaves(expected), strict=True
    ):
        if r.shape != e.shape or r.dtype != e.dtype:
            raise AssertionError(
                f"{what}{jax.tree_util.keystr(path)}: expected {describe(e)}, received {describe(r)}"
            )


def equal(a: Any, b: Any) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def dot(a: Any, b: Any) -> float:
    return sum(
        float(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64)))
        for x, y in zip(a, b, strict=True)
    )
