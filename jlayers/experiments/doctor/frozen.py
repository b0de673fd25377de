"""Check "frozen": a frozen base is a plan, a frozen head with fresh weights is a mistake."""

from __future__ import annotations

from jlayers.core.tree import flatten
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.inside import layers_with_weights

__all__ = ["check_frozen"]


def check_frozen(case: Case) -> list[Finding]:
    """Layers that are not trained, by their order in the forward pass."""
    later = any(len(trainer.stages) > 1 for trainer in [case.trainer])
    trained: dict[str, bool] = {}
    for update in case.trainer.updates:
        for path, flag in flatten(update.task.mask(case.state.params)).items():
            trained[path] = trained.get(path, False) or flag
    if not trained:
        return []
    if not any(trained.values()):
        advice = "freeze less: the layers that are to learn must not match a pattern in freeze"
        text = f"all {len(trained)} arrays of the model are frozen: nothing is trained"
        return [] if later else [Finding("frozen", "error", "", text, advice)]
    if case.task is None or all(trained.values()) or later:
        return []
    order = layers_with_weights(case)
    flags = {path: _flag(trained, path) for path in order}
    if "" in flags or not order or any(flags[path] is None for path in order):
        return []
    last = order[-1]
    before = [path for path in order[:-1] if flags[path]]
    if flags[last] or not before or case.is_given(last):
        return []
    return [
        Finding(
            "frozen",
            "error",
            last,
            f"the last layer with weights is frozen and its weights are fresh, while {len(before)} layers "
            f"before it are trained ({before[-1]} last): the others learn to please random numbers",
            f"freeze the base and not the head: take {last!r} out of the frozen layers, or load its weights",
            {"frozen": [path for path in order if not flags[path]], "trained": before},
        )
    ]


def _flag(trained: dict[str, bool], path: str) -> bool | None:
    """True if an own array of the layer is trained; None if the mask does not know it."""
    own = [flag for name, flag in trained.items() if name.rpartition("/")[0] == path]
    return any(own) if own else None
