"""Files on disk: weights and models, each written as a whole. Loading one never runs code."""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.saving.from_keras import from_keras
from jlayers.saving.loading import Weights, load_weights
from jlayers.saving.model import load, save
from jlayers.saving.weights import WeightsReport, save_weights

__all__ = ["Weights", "WeightsReport", "from_keras", "load", "load_weights", "save", "save_weights"]


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.saving", name, __all__)
