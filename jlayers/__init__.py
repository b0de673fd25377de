"""jlayers: Keras's ease in stax's form. A layer is a pure `init`/`apply` pair over a parameter pytree."""

from jlayers import (
    activations,
    constraints,
    data,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    preprocessing,
    regularizers,
    testing,
    train,
)
from jlayers.adapt import adapt
from jlayers.carry import reset_state
from jlayers.compose import Remat, Repeat, Residual, Sequential
from jlayers.core import Layer, MissingKeyError, layer, need_key, no_params
from jlayers.draw import draw
from jlayers.flops import flops
from jlayers.freeze import freeze, trainable_mask, unfreeze
from jlayers.graph import Graph, Input, Model, Node, graph
from jlayers.layers import *
from jlayers.lora import LoRA, merge_lora
from jlayers.masks import Masked, keeps_mask
from jlayers.node_table import InputLayer
from jlayers.precision import Policy, with_precision
from jlayers.preprocessing import HashedCrossing, Hashing, IntegerLookup, StringLookup, TextVectorization
from jlayers.regularizers import l1, l1_l2, l2
from jlayers.summary import Summary, summary
from jlayers.train import *

__version__ = "0.1.0"

__all__ = [
    "Graph",
    "HashedCrossing",
    "Hashing",
    "Input",
    "InputLayer",
    "IntegerLookup",
    "Layer",
    "LoRA",
    "Masked",
    "MissingKeyError",
    "Model",
    "Node",
    "Policy",
    "Remat",
    "Repeat",
    "Residual",
    "Sequential",
    "StringLookup",
    "Summary",
    "TextVectorization",
    "activations",
    "adapt",
    "constraints",
    "data",
    "draw",
    "flops",
    "freeze",
    "graph",
    "initializers",
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
    "reset_state",
    "summary",
    "testing",
    "train",
    "trainable_mask",
    "unfreeze",
    "with_precision",
]
__all__ += layers.__all__
__all__ += train.__all__
