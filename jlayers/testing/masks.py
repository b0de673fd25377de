"""The property of masks: padding must not change what is computed of the rest."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.masks import LostMaskError, Masked, is_masked, values_of, with_mask
from jlayers.testing.case import Case, agree, is_float, jitted

__all__ = ["check_mask"]


def check_mask(case: Case) -> None:
    sequences = [is_float(x) and x.ndim > 2 and x.shape[1] > 0 for x in case.leaves]
    if not any(sequences):
        return
    masks = [_ragged(x) if s else None for x, s in zip(case.leaves, sequences, strict=True)]

    def masked(values: Any, masks: Any) -> Any:
        pairs = zip(values, masks, strict=True)
        return jax.tree.unflatten(jax.tree.structure(case.inputs), [with_mask(x, mask) for x, mask in pairs])

    try:
        jax.eval_shape(case.layer.apply, *case.made, *masked(case.leaves, masks))
    except LostMaskError:
        return
    others = [
        x if mask is None else _filled(x, mask, np.asarray(x) + 1 + np.square(x))
        for x, mask in zip(case.leaves, masks, strict=True)
    ]
    everywhere = [None if mask is None else jnp.ones_like(mask) for mask in masks]
    for train in case.modes:
        compiled = jitted(functools.partial(case.layer.apply, train=train))

        def run(*args: Any, apply: Any = compiled, key: Any = case.key if train else None) -> Any:
            return apply(*case.made, *masked(*args), key=key)

        what = f"(output, state) with train={train}"
        agree(_real(run(others, masks)), _real(run(case.leaves, masks)), f"{what} for other padding")
        plain = case.trained if train else case.inferred
        agree(_plain(run(case.leaves, everywhere)), _plain(plain), f"{what} for a mask without padding")


def _ragged(x: Any) -> jax.Array:
    """A mask with padding at the end of the first row, and at the beginning of the others."""
    real = np.ones(x.shape[:2], bool)
    real[:1, -1] = x.shape[1] == 1
    real[1:, 0] = False
    return jnp.asarray(real)


def _real(tree: Any) -> Any:
    """Masked values with zeros in place of padding."""

    def real(x: Any) -> Any:
        if not is_masked(x):
            return x
        return Masked(_filled(x.values, x.mask, np.zeros_like(x.values)), x.mask)

    return jax.tree.map(real, tree, is_leaf=is_masked)


def _filled(values: Any, mask: Any, padding: Any) -> jax.Array:
    """The values where they are real, and those of `padding` elsewhere."""
    real = np.reshape(mask, (*mask.shape, *(1,) * (values.ndim - mask.ndim)))
    return jnp.asarray(np.where(real, values, padding))


def _plain(tree: Any) -> Any:
    return jax.tree.map(values_of, tree, is_leaf=is_masked)
