"""Arguments of Keras's optimizers, and what to write here in their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["keras_word", "refuse_keras_words"]

# Arguments of Keras's optimizers: the argument here, for optimizers that have it, or what to write instead.
_RENAMED = {
    "adam_beta_1": "adam_b1",
    "adam_beta_2": "adam_b2",
    "beta_1": "b1",
    "beta_2": "b2",
    "betas": "b1",
    "exclude_layers": "exclude",
    "lr": "learning_rate",
    "momentum": "beta",
    "rho": "decay",
    "rms_rate": "consistent_rms",
}
_ELSEWHERE = {
    "amsgrad": "the optimizer amsgrad",
    "clipnorm": "[{{'clip_by_norm': {{'max_norm': {value}}}}}, '{name}']",
    "clipvalue": "[{{'clip': {{'max_delta': {value}}}}}, '{name}']",
    "ema_momentum": "jl.compile(..., ema={value})",
    "ema_overwrite_frequency": "jl.compile(..., ema=0.99), which keeps the average beside the weights",
    "global_clipnorm": "[{{'clip_by_global_norm': {{'max_norm': {value}}}}}, '{name}']",
    "gradient_accumulation_steps": "jl.compile(..., accumulate={value})",
    "loss_scale_factor": "jl.compile(..., loss_scale={value})",
    "use_ema": "jl.compile(..., ema=0.99)",
}
_WITH_DECAY = {"adam": "adamw", "adamax": "adamaxw", "nadam": "nadamw"}


def keras_word(name: str, known: Iterable[str], word: str, value: Any) -> str | None:
    """The text to write here in place of an argument of Keras's optimizer of that name."""
    known = set(known)
    if word == "epsilon":
        found = [here for here in ("epsilon_hat", "eps") if here in known]
        return f"{found[0]}={value!r}" if found else None
    if word == "weight_decay":
        other = _WITH_DECAY.get(name)
        return f"{other}(weight_decay={value!r})" if other else "kernel_regularizer='l2' in the layers"
    if _RENAMED.get(word) in known:
        return f"{_RENAMED[word]}={value!r}"
    return _ELSEWHERE[word].format(value=repr(value), name=name) if word in _ELSEWHERE else None


def refuse_keras_words(name: str, known: Iterable[str], keywords: Mapping[str, Any]) -> None:
    for word, value in keywords.items():
        if word not in known and (instead := keras_word(name, known, word, value)):
            raise TypeError(f"{name} has no argument {word!r} (received {word}={value!r}): write {instead}")
