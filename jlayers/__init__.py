"""jlayers: Keras's ease in stax's form. A layer is a pure `init`/`apply` pair over a parameter pytree."""

import importlib
from typing import TYPE_CHECKING

from jlayers import (
    activations,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    preprocessing,
    regularizers,
)
from jlayers.core.adapt import adapt
from jlayers.core.compose import Inference, Pipeline, Remat, Repeat, Residual, Sequential
from jlayers.core.elsewhere import missing_name
from jlayers.core.graph import Graph, Input, Model, Node, graph
from jlayers.core.layer import Layer, MissingKeyError, Wiring, layer, need_key, no_params
from jlayers.core.layer import layers as _layers
from jlayers.core.masks import Masked, keeps_mask
from jlayers.core.node_table import InputLayer
from jlayers.core.pair import Pair
from jlayers.core.policy import Policy
from jlayers.core.precision import with_precision
from jlayers.core.state import reset_state
from jlayers.core.wiring import routed
from jlayers.layers import *
from jlayers.preprocessing import (
    HashedCrossing,
    Hashing,
    IntegerLookup,
    StringLookup,
    TextVectorization,
    WordPiece,
)
from jlayers.regularizers import l1, l1_l2, l2
from jlayers.transform.freeze import freeze, trainable_mask, trained_params, unfreeze
from jlayers.transform.lora import LoRA, merge_lora
from jlayers.transform.substitute import substitute
from jlayers.transform.surgery import cut, insert, replace_head
from jlayers.transform.tap import Tap

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Callback",
    "Checkpoint",
    "Diff",
    "EarlyStopping",
    "Estimate",
    "FeatureCache",
    "Graph",
    "HashedCrossing",
    "Hashing",
    "Inference",
    "Input",
    "InputLayer",
    "IntegerLookup",
    "Layer",
    "LoRA",
    "Loss",
    "LossValue",
    "Masked",
    "MissingKeyError",
    "Model",
    "Node",
    "Pair",
    "Pipeline",
    "Policy",
    "ProgressBar",
    "Remat",
    "Repeat",
    "Residual",
    "Run",
    "SeedStates",
    "Sequential",
    "StringLookup",
    "Summary",
    "Tap",
    "Task",
    "TextVectorization",
    "TrainState",
    "Trainer",
    "Weights",
    "WeightsReport",
    "Wiring",
    "WordPiece",
    "activations",
    "adapt",
    "applications",
    "callbacks",
    "compile",
    "constraints",
    "cut",
    "data",
    "diff",
    "doctor",
    "draw",
    "estimate",
    "evaluate",
    "evaluate_seeds",
    "experiments",
    "fit",
    "fit_seeds",
    "flops",
    "freeze",
    "from_keras",
    "graph",
    "initializers",
    "insert",
    "interop",
    "keeps_mask",
    "l1",
    "l1_l2",
    "l2",
    "layer",
    "layers",
    "load",
    "load_weights",
    "losses",
    "make_eval_step",
    "make_predict_step",
    "make_train_step",
    "merge_lora",
    "metrics",
    "need_key",
    "no_params",
    "optimizers",
    "predict",
    "predict_seeds",
    "preprocessing",
    "regularizers",
    "replace_head",
    "reset_state",
    "routed",
    "save",
    "save_weights",
    "saving",
    "substitute",
    "summary",
    "testing",
    "train",
    "trainable_mask",
    "trained_params",
    "unfreeze",
    "with_precision",
]
__all__ += layers.__all__


_layers.add_group("applications", lambda: importlib.import_module("jlayers.applications"))

# Loaded at their first use, which keeps `import jlayers` quick.
_PACKAGES = ("applications", "data", "experiments", "interop", "saving", "testing", "train")
_EXPORTING = ("train", "saving")  # those with names that stand here, too: `jl.fit`
_MODULES = {  # single names, by their modules
    "Diff": "inspect.diff",
    "Summary": "inspect.summary",
    "diff": "inspect.diff",
    "doctor": "experiments.doctor",
    "draw": "inspect.draw",
    "flops": "inspect.flops",
    "summary": "inspect.summary",
}

if TYPE_CHECKING:
    from jlayers import applications, data, experiments, interop, saving, testing, train
    from jlayers.experiments.doctor import doctor
    from jlayers.inspect.diff import Diff, diff
    from jlayers.inspect.draw import draw
    from jlayers.inspect.flops import flops
    from jlayers.inspect.summary import Summary, summary
    from jlayers.saving import *
    from jlayers.train import *
else:  # type checkers would take any name to exist

    def __getattr__(name):
        if name in _PACKAGES:
            return importlib.import_module(f"jlayers.{name}")
        candidates = [_MODULES[name]] if name in _MODULES else _EXPORTING if name in __all__ else ()
        for candidate in candidates:
            module = importlib.import_module(f"jlayers.{candidate}")
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
        raise missing_name("jlayers", name, __all__)

    def __dir__():
        return sorted({*globals(), *__all__, *_PACKAGES})
