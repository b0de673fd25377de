"""A run as one self-contained HTML page."""

from jlayers.experiments.report.page import report

__all__ = ["report"]
