"""Several optimizers, each for the parameters whose paths fit its pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jlayers.core.errors import refused
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest
from jlayers.core.tree import match
from jlayers.optimizers.base import Optimizer, OptimizerLike, registry, with_spec
from jlayers.optimizers.patterns import fits_frozen, paths_of

__all__ = ["multi_optimizer"]


def multi_optimizer(optimizers: dict[str, OptimizerLike], default: OptimizerLike | None = None) -> Optimizer:
    """Several optimizers, each for the parameters whose paths fit its pattern. Keras's `MultiOptimizer`.

    Where several patterns fit, the last one counts. Each optimizer sees only its own parameters, so that
    a norm over all gradients is one over all of its gradients.

    Args:
        optimizers: by patterns of parameters' paths, such as `"encoder/**"` or `"**/bias"`.
        default: for the parameters that no pattern fits; without one, each must fit.

    Raises:
        ValueError: when parameters are met: a pattern that none fits, or a parameter that fits none.

    >>> import jax, jlayers as jl
    >>> slow_start = jl.optimizers.multi_optimizer({"encoder/**": {"adam": {"learning_rate": 1e-5}}}, "adam")
    >>> slow_start
    multi_optimizer({'encoder/**': adam(learning_rate=1e-05)}, default=adam())
    """
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise refused(
            TypeError,
            "expected optimizers by patterns of paths, such as {'encoder/**': 'adam'}",
            raised_by="multi_optimizer",
            optimizers=optimizers,
        )
    members: dict[str, Any] = {pattern: registry.get(member) for pattern, member in optimizers.items()}
    rest = None if default is None else registry.get(default)

    def labels(params: Any) -> Any:
        paths = paths_of(params)
        found: dict[str, str] = {}
        for pattern in members:
            fits = match(pattern, paths)
            if paths and not fits and not fits_frozen(pattern):
                raise ValueError(
                    f"multi_optimizer: expected patterns that fit parameters, received the pattern "
                    f"{pattern!r}: {nearest(pattern, paths)}"
                )
            found |= dict.fromkeys(fits, pattern)
        missed = [path for path in paths if path not in found]
        if missed and rest is None:
            raise ValueError(
                f"multi_optimizer: expected an optimizer for each parameter, received none for "
                f"{', '.join(missed[:3])}; name one for the others: default='adam'"
            )
        return jax.tree.unflatten(jax.tree.structure(params), [found.get(path, "") for path in paths])

    groups: dict[Any, Any] = {**members, **({} if rest is None else {"": rest})}
    transformation = optax.partition(groups, labels, mask_compatible_extra_args=True)
    spec = Spec("optimizer", "multi_optimizer", {"optimizers": members, "default": rest})
    return with_spec(transformation, spec, by_paths=True, groups=groups)


registry.register("multi_optimizer", multi_optimizer)
