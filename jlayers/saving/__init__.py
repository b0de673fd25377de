"""What is kept on disk: files written whole, weights, and models. Nothing that is loaded can run code."""

from jlayers.saving.loading import load_weights
from jlayers.saving.model import load, save
from jlayers.saving.weights import WeightsReport, save_weights

__all__ = ["WeightsReport", "load", "load_weights", "save", "save_weights"]
