"""Nodes of a graph: `Input` makes one, and so does a layer that is called on nodes.

Nodes are immutable values; nothing is registered anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from jlayers.core.calls import taught
from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.masks import is_masked, leaves, values_of
from jlayers.core.node_table import InputLayer
from jlayers.core.notes import note_errors
from jlayers.core.operators import Operators
from jlayers.core.shapes import describe, shape_text
from jlayers.core.sizes import infer, symbolic

__all__ = ["Input", "LayerCall", "Node", "connect"]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCall:
    """One use of a layer (or, without a layer, an input of the graph)."""

    layer: Layer | None
    inputs: tuple[Any, ...]
    spec: Any
    name: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Node(Operators):
    """One value of a graph: output number `index` of a call. Made by `Input` and by calling layers.

    `a + b`, `a * 2`, `-a`, `a / b` and `a[:, 0]` make layers. Its `spec` is a `Masked` of specs where the
    value has a mask; shape and dtype are those of the values.
    """

    call: LayerCall
    index: int = 0

    @property
    def spec(self) -> Any:
        return leaves(self.call.spec)[self.index]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, with None for dimensions that are not fixed; the batch comes first."""
        return tuple(d if isinstance(d, int) else None for d in values_of(self.spec).shape)

    @property
    def dtype(self) -> Any:
        return values_of(self.spec).dtype

    def __repr__(self) -> str:
        made_by = "Input" if self.call.layer is None else repr(self.call.layer)
        return f"<Node {self.dtype}{shape_text(values_of(self.spec).shape)} of {self.call.name or made_by}>"

    def feed(self, layer: Layer, inputs: tuple[Any, ...]) -> Any:
        """Connect `layer` to `inputs`; a single list or tuple stands for several inputs, as in Keras."""
        return connect(layer, inputs)

    def as_layer(self) -> Layer:
        """For an input at the head of a `Sequential`: the layer that checks its shape."""
        if self.call.layer is not None:
            raise TypeError(f"Sequential takes layers and, at its head, an Input; received {self!r}")
        return InputLayer(self.shape[1:], dtype=str(self.dtype), name=self.call.name)


@taught
def Input(shape: Sequence[int | None], dtype: Any = "float32", name: str | None = None) -> Node:
    """An input of a graph, as in Keras.

    Args:
        shape: without the batch dimension; None for a dimension that may vary.
        dtype: dtype of the data.
        name: by which named data find this input.

    >>> import jlayers as jl
    >>> image = jl.Input((28, 28, 1))
    >>> jl.Flatten()(image).shape
    (None, 784)
    """
    if isinstance(shape, int) or not all(d is None or (isinstance(d, int) and d >= 0) for d in shape):
        raise refused(
            ValueError,
            "expected a shape without the batch dimension, such as (28, 28, 1)",
            raised_by="Input",
            shape=shape,
        )
    if dtype is str or (isinstance(dtype, str) and dtype in ("string", "str", "object")):
        raise refused(
            TypeError,
            "expected a dtype of numbers, for text is not an array in JAX",
            instead="turn text into numbers on the host, before the model: "
            "jl.adapt(jl.TextVectorization(), texts)(texts), and write jl.Input(shape, "
            "dtype='int32')",
            raised_by="Input",
            dtype=dtype,
        )
    spec = jax.ShapeDtypeStruct(symbolic(shape), jax.dtypes.canonicalize_dtype(dtype))
    return Node(LayerCall(None, (), spec, name))


def connect(layer: Layer, inputs: tuple[Any, ...], name: str | None = None) -> Any:
    """The nodes that a layer makes of nodes; `name` stands in errors and in the model's table."""
    if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
        inputs = tuple(inputs[0])
    for leaf in jax.tree.leaves(inputs):
        if not isinstance(leaf, Node):
            raise TypeError(
                f"{layer!r}: expected every input to be a node, received {describe(leaf)}; "
                f"make constants inside a jl.Lambda"
            )
    specs = jax.tree.map(lambda node: node.spec, inputs)
    with note_errors(name or layer.name or layer.spec.stem, layer, specs):
        output = infer(functools.partial(_output, layer), *specs)
    call = LayerCall(layer, inputs, output, name)
    values, tree = jax.tree.flatten(output, is_leaf=is_masked)
    return jax.tree.unflatten(tree, [Node(call, i) for i in range(len(values))])


def _output(layer: Layer, *specs: Any) -> Any:
    """Specs of the parameters, and of the output in inference."""
    params, state = jax.eval_shape(lambda key: layer.init(key, *specs), jax.random.key(0))
    return params, jax.eval_shape(layer.keyed, params, state, *specs)[0]
