"""Runs on disk: the folder of a training run, and weights in safetensors."""

from jlayers.runs.environment import environment
from jlayers.runs.folder import Run
from jlayers.runs.own_code import OwnCode, OwnCodeError, read_own_code
from jlayers.runs.restored import (
    RunWarning,
    evaluate_run,
    evaluate_seeds_run,
    experiment_to_resume,
    predict_run,
)
from jlayers.runs.training import train_run
from jlayers.saving.loading import load_weights
from jlayers.saving.weights import save_weights
from jlayers.train.interruptions import Interrupted

__all__ = [
    "Interrupted",
    "OwnCode",
    "OwnCodeError",
    "Run",
    "RunWarning",
    "environment",
    "evaluate_run",
    "evaluate_seeds_run",
    "experiment_to_resume",
    "load_weights",
    "predict_run",
    "read_own_code",
    "save_weights",
    "train_run",
]
