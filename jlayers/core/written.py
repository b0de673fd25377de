"""A layer written down, as text and as plain data, with the options that changed since it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jlayers.core.precision import shortest_form

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["precision_of", "text_of", "to_data"]


def text_of(layer: Layer) -> str:
    """The call that makes the layer again, for people."""
    data = _options_of(layer)
    if layer.substituted:
        data["substituted"] = dict(layer.substituted)
    changes = [f"{k}={v!r}" for k, v in data.items()]
    text = repr(layer.spec)
    if not changes:
        return text
    return text[:-1] + ("" if text.endswith("()") else ", ") + ", ".join(changes) + ")"


def to_data(layer: Layer) -> Any:
    """The layer as plain data; see `Layer.to_data`."""
    if layer.substituted:
        raise TypeError(
            f"{layer.spec.name} cannot be written down: its constructor makes the layer "
            f"{next(iter(layer.substituted))!r}, and jl.substitute put another in its place; expected a "
            f"layer that its arguments describe: substitute inside a constructor under @jl.layer, or "
            f"again after loading"
        )
    data = layer.spec.to_data()
    options = _options_of(layer)
    if not options:
        return data
    return {layer.spec.name: {**({} if isinstance(data, str) else data[layer.spec.name]), **options}}


def precision_of(layer: Layer) -> dict[str, Any]:
    """The argument `precision` that gives the layer its policies; empty if its constructor does."""
    before = (layer.original or layer).precision
    if layer.precision == before:
        return {}
    return {"precision": shortest_form([path for path, _ in layer.walk()], before, layer.precision)}


def _options_of(layer: Layer) -> dict[str, Any]:
    return {**_frozen_of(layer), **precision_of(layer)}


def _frozen_of(layer: Layer) -> dict[str, Any]:
    if layer.frozen == (layer.original or layer).frozen:
        return {}
    if all(path in layer.frozen for path, _ in layer.walk()):
        return {"trainable": False}
    return {"frozen": sorted(layer.frozen)}
