"""From a function that builds a family to the constructors of its members."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jlayers.applications.published import Published, publish
from jlayers.core.layer import Layer, layer

__all__ = ["application"]

_EXAMPLE = """
>>> import jlayers as jl
>>> jl.applications.{name}({arguments})
applications.{name}({arguments})
"""


def application(
    name: str, build: Callable[..., Layer], facts: Published, example: str = "include_top=False", **fixed: Any
) -> Callable[..., Layer]:
    """The constructor of one member of a family, a registered layer called `applications.<name>`.

    Args:
        name: name of the member, as in Keras where Keras has it.
        build: makes a member. Its docstring tells of the family.
        facts: what was published with the member.
        example: arguments of the example in the docstring.
        **fixed: the arguments of `build` that make this member; the others are the constructor's.
    """
    signature = inspect.signature(build)
    open_ = [p for p in signature.parameters.values() if p.name not in fixed]

    def constructor(*args: Any, **kwargs: Any) -> Layer:
        return build(*args, **fixed, **kwargs)

    doc = f"{name}: {inspect.cleandoc(build.__doc__ or '')}\n"
    constructor.__doc__ = doc + _EXAMPLE.format(name=name, arguments=example)
    constructor.__module__ = build.__module__
    constructor.__annotations__ = {p.name: p.annotation for p in open_}
    vars(constructor)["__signature__"] = signature.replace(parameters=open_)
    publish(f"applications.{name}", facts)
    return layer(constructor, f"applications.{name}")
