"""jlayers: Keras's ease in stax's form. A layer is a pure `init`/`apply` pair over a parameter pytree."""

import importlib
from typing import TYPE_CHECKING

from jlayers import (
    activations,
    constraints,
    data,
    initializers,
    interop,
    layers,
    losses,
    metrics,
    optimizers,
    preprocessing,
    regularizers,
    saving,
    testing,
    train,
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
from jlayers.inspect.diff import Diff, diff
from jlayers.inspect.draw import draw
from jlayers.inspect.flops import flops
from jlayers.inspect.summary import Summary, summary
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
from jlayers.saving import *
from jlayers.train import *
from jlayers.transform.freeze import freeze, trainable_mask, trained_params, unfreeze
from jlayers.transform.lora import LoRA, merge_lora
from jlayers.transform.substitute import substitute
from jlayers.transform.surgery import cut, insert, replace_head
from jlayers.transform.tap import Tap

__version__ = "0.1.0"

__all__ = [
    "Diff",
    "Graph",
    "HashedCrossing",
    "Hashing",
    "Inference",
    "Input",
    "InputLayer",
    "IntegerLookup",
    "Layer",
    "LoRA",
    "Masked",
    "MissingKeyError",
    "Model",
    "Node",
    "Pair",
    "Pipeline",
    "Policy",
    "Remat",
    "Repeat",
    "Residual",
    "Sequential",
    "StringLookup",
    "Summary",
    "Tap",
    "TextVectorization",
    "Wiring",
    "WordPiece",
    "activations",
    "adapt",
    "applications",
    "constraints",
    "cut",
    "data",
    "diff",
    "doctor",
    "draw",
    "experiments",
    "flops",
    "freeze",
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
    "losses",
    "merge_lora",
    "metrics",
    "need_key",
    "no_params",
    "optimizers",
    "preprocessing",
    "regularizers",
    "replace_head",
    "reset_state",
    "routed",
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
__all__ += saving.__all__
__all__ += train.__all__


_layers.add_group("applications", lambda: importlib.import_module("jlayers.applications"))

if TYPE_CHECKING:
    from jlayers import applications, experiments
    from jlayers.experiments.doctor import doctor
else:  # type checkers would take any name to exist

    def __getattr__(name):
        if name in ("applications", "experiments"):  # loaded when used
            return importlib.import_module(f"jlayers.{name}")
        if name == "doctor":
            return importlib.import_module("jlayers.experiments.doctor").doctor
        raise missing_name("jlayers", name, __all__)
