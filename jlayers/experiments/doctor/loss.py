"""Check "loss": outputs against what their losses take, logits or probabilities."""

from __future__ import annotations

import numpy as np

from jlayers.core.errors import details_of, told_apart
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.train.objective import Supervised

__all__ = ["check_loss"]

ROUNDING = 1e-3


def check_loss(case: Case) -> list[Finding]:
    """Findings for losses that the training refuses, and for outputs whose values do not fit the loss."""
    tasks, state = case.trainer.tasks, case.state
    advice = "make the end of the model fit the targets and the loss, in shape and as logits or probabilities"
    for look in (
        lambda: tasks.check_endings(case.review),
        lambda: tasks.check_predictions(case.review, state.params, state.state, case.first),
    ):
        try:
            look()
        except ValueError as error:
            text, fix = told_apart(error)
            where = details_of(error).path or ""  # a layer that ends in what the loss cannot use
            return [Finding("loss", "error", where, text, fix or advice)]
    if not isinstance(case.task, Supervised) or not case.targets:
        return []
    return _by_value(case, case.task)


def _by_value(case: Case, task: Supervised) -> list[Finding]:
    """Outputs for samples, and for the same samples times a thousand: only probabilities stay below 1."""
    names, losses, _ = task.judges(case.review.losses[""].outputs)
    if all(loss is None or loss.from_logits is None for loss in losses):
        return []
    outputs, larger = case.outputs(), case.outputs(1000)
    found = []
    for name, loss, output, wide in zip(names, losses, outputs, larger, strict=True):
        where = name or "output"
        if loss is None or loss.from_logits is None:
            continue
        least, most = float(output.min()), float(output.max())
        shares = output.shape[-1] > 1 and np.allclose(output.sum(-1), 1, atol=ROUNDING)
        bounded = min(least, float(wide.min())) >= 0 and max(most, float(wide.max())) <= 1 + ROUNDING
        values = {"least": least, "most": most}
        if loss.from_logits and bounded and (shares or loss.binary) and len(output) >= 8:
            found.append(
                Finding(
                    "loss",
                    "error",
                    where,
                    f"{loss.name} expects logits, and the model gives probabilities ({least:.3g} to "
                    f"{most:.3g}{', each row adds up to 1' if shares else ''}): it would take the softmax or "
                    f"sigmoid twice, and learn slowly and badly",
                    "leave the activation at the end of the model out, or from_logits out of the loss",
                    values,
                )
            )
        elif loss.from_logits is False and (least < -ROUNDING or (loss.binary and most > 1 + ROUNDING)):
            found.append(
                Finding(
                    "loss",
                    "error",
                    where,
                    f"{loss.name} expects probabilities, and the model gives numbers from {least:.3g} to "
                    f"{most:.3g}",
                    "end the model in activation='softmax' ('sigmoid' for yes-or-no targets), or set "
                    "from_logits=True in the loss",
                    values,
                )
            )
    return found
