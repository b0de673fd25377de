"""The connections of the layers inside a container, for tools to read: a table of nodes, or a chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax

from jlayers.core.pair import Pair

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["Chain", "Source", "Table", "Use", "Wiring"]


@dataclasses.dataclass(frozen=True)
class Source:
    """An input.

    Attributes:
        shape: without the batch; None for a dimension that may vary.
        dtype: dtype of the data.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Use:
    """One call of a child.

    Attributes:
        child: its name.
        inputs: names of the nodes that it is called on, each in any pytree; "lstm[1]" is output 1 of `lstm`.
    """

    child: str
    inputs: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """Named nodes, as in a `Model`.

    Attributes:
        inputs: names of sources in any pytree.
        nodes: every source and every use of a child, by name.
        outputs: names of nodes in any pytree.
    """

    inputs: Any
    nodes: Mapping[str, Source | Use]
    outputs: Any

    @property
    def sources(self) -> dict[str, Source]:
        """The inputs by name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, Source)}

    @property
    def output_names(self) -> list[str] | None:
        """A name for each output, as in Keras that of its node; None if two outputs are one."""
        refs = jax.tree.leaves(self.outputs)
        names = [ref.replace("[", "_").rstrip("]") for ref in refs]
        return names if len(set(refs)) == len(refs) else None


@dataclasses.dataclass(frozen=True)
class Chain:
    """Children one after the other, as in a `Sequential`.

    Attributes:
        order: their names; one that runs twice is there twice.
    """

    order: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """The result of a container's constructor: named children, and the pair that runs such children.

    So the same container can be made again around other children, which is how freezing, precision and
    substitution work. The other fields tell what the functions of the container do not show.

    Attributes:
        children: the layers inside, by name.
        wire: makes the short pair that runs such children.
        structure: how they are connected: a `Table` as in a `Model`, a `Chain` as in a `Sequential`, a
            `Source` for an input. Another kind of container may put its own value here.
        stacked: the children's arrays have a leading axis, one slice per use.
        repeats: how often the children run for each time that a trace sees them.
        wraps: the child whose inputs and outputs are those of the container, as in `Remat`.
    """

    children: Mapping[str, Layer]
    wire: Callable[[Mapping[str, Layer]], Pair]
    structure: Table | Chain | Source | Any = None
    stacked: bool = False
    repeats: int = 1
    wraps: str | None = None
