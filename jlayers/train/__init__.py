"""Training: a state, pure compiled steps, and thin loops over them."""

from typing import TYPE_CHECKING

from jlayers.core.elsewhere import missing_name
from jlayers.data.batches import Batch
from jlayers.train import callbacks
from jlayers.train.callbacks import Callback, EarlyStopping, Run
from jlayers.train.checkpoint import Checkpoint
from jlayers.train.features import FeatureCache
from jlayers.train.inference import evaluate, predict
from jlayers.train.loop import fit
from jlayers.train.progress import ProgressBar
from jlayers.train.state import TrainState
from jlayers.train.task import Loss, LossValue, Task
from jlayers.train.trainer import Trainer, compile, make_eval_step, make_predict_step, make_train_step

__all__ = [
    "Batch",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "FeatureCache",
    "Loss",
    "LossValue",
    "ProgressBar",
    "Run",
    "Task",
    "TrainState",
    "Trainer",
    "callbacks",
    "compile",
    "evaluate",
    "fit",
    "make_eval_step",
    "make_predict_step",
    "make_train_step",
    "predict",
]


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.train", name, __all__)
