"""Whole experiments: runs read, compared and trained again."""

from jlayers.experiments.record import RunRecord, find_runs, read_run

__all__ = ["RunRecord", "find_runs", "read_run"]
