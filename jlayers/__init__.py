"""jlayers: Keras's ease in stax's form. A layer is a pure `init`/`apply` pair over a parameter pytree."""

from jlayers.compose import Sequential
from jlayers.core import Layer, MissingKeyError, layer, need_key
from jlayers.freeze import freeze, trainable_mask, unfreeze
from jlayers.graph import Graph, Input, Model, Node, graph
from jlayers.node_table import InputLayer
