"""Training: a state, pure compiled steps, and thin loops over them."""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.data.batches import Batch
from jlayers.train import callbacks
from jlayers.train.callbacks import Callback, EarlyStopping, Run
from jlayers.train.checkpoint import Checkpoint
from jlayers.train.compiling import compile, make_eval_step, make_predict_step, make_train_step
from jlayers.train.features import FeatureCache
from jlayers.train.fit import fit
from jlayers.train.inference import evaluate, predict
from jlayers.train.progress import ProgressBar
from jlayers.train.seeds.estimate import Estimate, estimate
from jlayers.train.seeds.fit import fit_seeds
from jlayers.train.seeds.inference import evaluate_seeds, predict_seeds
from jlayers.train.seeds.states import SeedStates
from jlayers.train.state import TrainState
from jlayers.train.task import Loss, LossValue, Task
from jlayers.train.trainer import Trainer

__all__ = [
    "Batch",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Estimate",
    "FeatureCache",
    "Loss",
    "LossValue",
    "ProgressBar",
    "Run",
    "SeedStates",
    "Task",
    "TrainState",
    "Trainer",
    "callbacks",
    "compile",
    "estimate",
    "evaluate",
    "evaluate_seeds",
    "fit",
    "fit_seeds",
    "make_eval_step",
    "make_predict_step",
    "make_train_step",
    "predict",
    "predict_seeds",
]


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.train", name, __all__)
