"""Work with whole runs: train them again, compare them, search settings, find what is wrong."""

from jlayers.experiments.record import RunRecord, find_runs, read_run

__all__ = ["RunRecord", "find_runs", "read_run"]
