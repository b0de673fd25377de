"""Work with whole runs: train them again, compare them, search settings, find what is wrong."""

from jlayers.experiments.compare import Comparison, compare, draw_comparison
from jlayers.experiments.container import write_container
from jlayers.experiments.record import RunRecord, find_runs, read_run
from jlayers.experiments.reproduce import Difference, Reproduction, compare_bits, reproduce

__all__ = [
    "Comparison",
    "Difference",
    "Reproduction",
    "RunRecord",
    "compare",
    "compare_bits",
    "draw_comparison",
    "find_runs",
    "read_run",
    "reproduce",
    "write_container",
]
