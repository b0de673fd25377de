"""Optimizers of Keras that optax does not have, or has in another form, as optax transformations."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jlayers.core.errors import refused

__all__ = ["adam", "adamw", "clip_by_norm", "ftrl", "muon"]


class FtrlState(NamedTuple):
    """`n` and `z` of the paper, beside the number of steps."""

    count: Any
    accumulator: Any
    linear: Any


def ftrl(
    learning_rate: Any = 1e-3,
    learning_rate_power: float = -0.5,
    initial_accumulator_value: float = 0.1,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
) -> optax.GradientTransformation:
    """Follow the regularized leader (McMahan et al., 2013), for wide and sparse linear models. As in Keras.

    With an L1 strength, parameters that do not help become exactly 0. A parameter whose accumulator is 0 has
    not met a gradient yet and stays as it is; in Keras it becomes NaN. A learning rate of 0 moves nothing.
    """
    if learning_rate_power > 0:
        raise refused(
            ValueError,
            "expected a power of at most 0",
            raised_by="ftrl",
            learning_rate_power=learning_rate_power,
        )
    strengths = {
        "initial_accumulator_value": initial_accumulator_value,
        "l1_regularization_strength": l1_regularization_strength,
        "l2_regularization_strength": l2_regularization_strength,
        "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        "beta": beta,
    }
    for name, value in strengths.items():
        if value < 0:
            raise refused(ValueError, "expected a number of at least 0", raised_by="ftrl", **{name: value})

    def init(params: Any) -> FtrlState:
        accumulator = jax.tree.map(lambda w: jnp.full_like(w, initial_accumulator_value), params)
        return FtrlState(jnp.zeros((), jnp.int32), accumulator, jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: FtrlState, params: Any = None) -> tuple[Any, FtrlState]:
        if params is None:
            raise refused(ValueError, "expected the parameters", raised_by="ftrl", params=None)
        rate: Any = learning_rate(state.count) if callable(learning_rate) else learning_rate
        safe = jnp.where(rate == 0, 1.0, rate)

        def power(n: Any) -> Any:
            return n**-learning_rate_power

        def one(g: Any, n: Any, z: Any, w: Any) -> tuple[Any, Any, Any]:
            new_n = n + g**2
            shrunk = g + 2 * l2_shrinkage_regularization_strength * w
            new_z = z + shrunk - (power(new_n) - power(n)) / safe * w
            divisor = (power(new_n) + beta) / safe + 2 * l2_regularization_strength
            clipped = jnp.clip(new_z, -l1_regularization_strength, l1_regularization_strength)
            new_w = (clipped - new_z) / jnp.where(divisor == 0, 1.0, divisor)
            still = (rate == 0) | (divisor == 0)
            moved = (jnp.where(still, 0.0, new_w - w), jnp.where(still, n, new_n), jnp.where(still, z, new_z))
            return tuple(leaf.astype(w.dtype) for leaf in moved)  # type: ignore[return-value]

        leaves, structure = jax.tree.flatten(gradients)
        rest = (jax.tree.leaves(tree) for tree in (state.accumulator, state.linear, params))
        results = [one(*each) for each in zip(leaves, *rest, strict=True)]
        updates, accumulator, linear = (structure.unflatten([m[i] for m in results]) for i in range(3))
        return updates, FtrlState(state.count + 1, accumulator, linear)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def clip_by_norm(max_norm: float) -> optax.GradientTransformation:
    """Clip the gradient of each parameter by its own Euclidean norm: Keras's `clipnorm`."""

    def clipped(gradient: Any) -> Any:
        norm = jnp.sqrt(jnp.sum(gradient**2))
        factor = jnp.where(norm > max_norm, max_norm / jnp.where(norm > 0, norm, 1.0), 1.0)
        return gradient * factor.astype(gradient.dtype)

    return optax.stateless(lambda gradients, params: jax.tree.map(clipped, gradients))


def _scale_by_adam(epsilon_hat: float, b1: float, b2: float, **options: Any) -> optax.GradientTransformation:
    """Adam with an epsilon that is added before the bias correction: `eps` of optax that changes by steps."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        eps = epsilon_hat / jnp.sqrt(1 - b2 ** (state.count + 1).astype(jnp.float32))
        return optax.scale_by_adam(b1, b2, eps=eps, **options).update(gradients, state, params)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, **options).init, update)  # type: ignore[arg-type]


def adam(
    learning_rate: Any = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    nesterov: bool = False,
    epsilon_hat: float | None = None,
) -> optax.GradientTransformation:
    """The Adam optimizer (Kingma and Ba, 2015).

    `epsilon_hat`, if it is given, takes the place of `eps` and is added before the bias correction of the
    second moment, which is where Keras adds its `epsilon`: Keras's Adam is `adam(epsilon_hat=1e-7)`.
    """
    if epsilon_hat is None:
        return optax.adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    scaled = _scale_by_adam(epsilon_hat, b1, b2, eps_root=eps_root, mu_dtype=mu_dtype, nesterov=nesterov)
    return optax.chain(scaled, optax.scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: Any = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: float = 1e-4,
    mask: Any = None,
    nesterov: bool = False,
    epsilon_hat: float | None = None,
) -> optax.GradientTransformation:
    """Adam with weight decay beside the gradient (Loshchilov and Hutter, 2019).

    `epsilon_hat`, if it is given, takes the place of `eps` and is added before the bias correction of the
    second moment: Keras's AdamW is `adamw(epsilon_hat=1e-7, weight_decay=0.004)`.
    """
    if epsilon_hat is None:
        return optax.adamw(
            learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov
        )
    scaled = _scale_by_adam(epsilon_hat, b1, b2, eps_root=eps_root, mu_dtype=mu_dtype, nesterov=nesterov)
    return optax.chain(
        scaled,
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def muon(
    learning_rate: Any = 1e-3,
    ns_coeffs: Any = (3.4445, -4.775, 2.0315),
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    adam_weight_decay: float = 0.0,
    adam_learning_rate: Any = None,
    consistent_rms: float | None = None,
    exclude: Any = None,
    exclude_embeddings: bool = True,
) -> Any:
    """Muon, which makes the momentum of each matrix orthogonal (Jordan, 2024): `optax.contrib.muon`.

    Parameters that are not matrices go to AdamW, and so do, as in Keras, the tables of embeddings and what
    `exclude` names by patterns of paths, usually the kernel of the last layer: `exclude="head/kernel"`.
    Keras's default scale of the steps is `consistent_rms=0.2`; optax's, which is the default here, is 1 for
    square matrices.
    """

    def dimensions(params: Any) -> Any:
        pairs, structure = jax.tree_util.tree_flatten_with_path(params)
        out = [False] * len(pairs) if exclude is None else jax.tree.leaves(exclude.among(params))
        chosen = [
            leaf.ndim == 2
            and not (excluded or (exclude_embeddings and "embeddings" in jax.tree_util.keystr(path[-1:])))
            for (path, leaf), excluded in zip(pairs, out, strict=True)
        ]
        numbers = optax.contrib.MuonDimensionNumbers()
        return structure.unflatten([numbers if matrix else None for matrix in chosen])

    optimizer = optax.contrib.muon(
        learning_rate,
        ns_coeffs,
        ns_steps,
        beta,
        eps,
        weight_decay,
        weight_decay_mask,
        mu_dtype,
        nesterov=nesterov,
        adaptive=adaptive,
        preconditioning=preconditioning,  # type: ignore[arg-type]
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps_root=adam_eps_root,
        adam_weight_decay=adam_weight_decay,
        adam_learning_rate=adam_learning_rate,
        muon_weight_dimension_numbers=dimensions,
        consistent_rms=consistent_rms,
    )

    def init(params: Any) -> Any:
        if exclude is not None:
            exclude(params)  # raises on a pattern that fits nothing
        return optimizer.init(params)

    return optax.GradientTransformationExtraArgs(init, optimizer.update)  # type: ignore[arg-type]
