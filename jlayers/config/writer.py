"""Plain data back to YAML, as the run folder keeps it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from jlayers.config.variables import escaped

__all__ = ["to_yaml"]


def to_yaml(data: Mapping[str, Any], escape: bool = True) -> str:
    """Plain data as YAML, in the order of the data.

    Args:
        data: plain data.
        escape: whether texts that look like variables are to be read as texts.
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 100
    yaml.default_flow_style = None  # innermost lists and mappings on one line
    text = io.StringIO()
    yaml.dump(_escaped(dict(data)) if escape else dict(data), text)
    return text.getvalue()


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(part) for part in value]
    return escaped(value) if isinstance(value, str) else value
