"""Outcomes of a trained model on the held-out data: which samples it gets wrong, and how sure it is."""

from jlayers.experiments.outcomes.held_out import find_outcomes, read_outcomes
from jlayers.experiments.outcomes.kinds import Classes, Labels, Numbers, Other, Outcomes
from jlayers.experiments.outcomes.pictures import draw_outcomes

__all__ = [
    "Classes",
    "Labels",
    "Numbers",
    "Other",
    "Outcomes",
    "draw_outcomes",
    "find_outcomes",
    "read_outcomes",
]
