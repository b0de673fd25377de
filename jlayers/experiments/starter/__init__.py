"""A first configuration for data that are looked at: every line with a comment, and it trains as it is."""

from jlayers.experiments.starter.starter import DATA, Starter, starter

__all__ = ["DATA", "Starter", "starter"]
