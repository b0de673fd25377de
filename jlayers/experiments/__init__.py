"""Work with whole runs: train them again, compare them, search settings, find what is wrong."""

from jlayers.experiments.compare import Comparison, compare, draw_comparison
from jlayers.experiments.container import write_container
from jlayers.experiments.outcomes import Outcomes, draw_outcomes, find_outcomes
from jlayers.experiments.record import RunRecord, find_runs, read_run
from jlayers.experiments.report import report
from jlayers.experiments.reproduce import Difference, Reproduction, compare_bits, reproduce
from jlayers.experiments.sweep.start import sweep

__all__ = [
    "Comparison",
    "Difference",
    "Outcomes",
    "Reproduction",
    "RunRecord",
    "compare",
    "compare_bits",
    "draw_comparison",
    "draw_outcomes",
    "find_outcomes",
    "find_runs",
    "read_run",
    "report",
    "reproduce",
    "sweep",
    "write_container",
]
