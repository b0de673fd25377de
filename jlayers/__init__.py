"""jlayers: Keras's ease in stax's form. A layer is a pure `init`/`apply` pair over a parameter pytree."""

from jlayers import (
    activations,
    data,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    testing,
    train,
)
from jlayers.compose import Remat, Repeat, Residual, Sequential
from jlayers.core import Layer, MissingKeyError, layer, need_key, no_params
from jlayers.draw import draw
from jlayers.flops import flops
from jlayers.freeze import freeze, trainable_mask, unfreeze
from jlayers.graph import Graph, Input, Model, Node, graph
from jlayers.layers import *
from jlayers.masks import Masked, keeps_mask
from jlayers.node_table import InputLayer
from jlayers.regularizers import l1, l1_l2, l2
from jlayers.summary import Summary, summary
from jlayers.train import *

__version__ = "0.1.0"

__all__ = [
    "Graph",
    "Input",
    "InputLayer",
    "Layer",
    "Masked",
    "MissingKeyError",
    "Model",
    "Node",
    "Remat",
    "Repeat",
    "Residual",
    "Sequential",
    "Summary",
    "activations",
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
    "metrics",
    "need_key",
    "no_params",
    "optimizers",
    "regularizers",
    "summary",
    "testing",
    "train",
    "trainable_mask",
    "unfreeze",
]
__all__ += layers.__all__
__all__ += train.__all__
