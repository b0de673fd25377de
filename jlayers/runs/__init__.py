"""Runs on disk: the folder of a training run, and weights in safetensors."""

from jlayers.runs.environment import environment
from jlayers.runs.execute import evaluate_run, predict_run, train_run
from jlayers.runs.folder import Run
from jlayers.runs.weights import load_weights, save_weights

__all__ = [
    "Run",
    "environment",
    "evaluate_run",
    "load_weights",
    "predict_run",
    "save_weights",
    "train_run",
]
