"""Plain data back to YAML, as the run folder keeps it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

__all__ = ["to_yaml"]


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, in the order of the data."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 100
    yaml.default_flow_style = None  # innermost lists and mappings on one line
    text = io.StringIO()
    yaml.dump(dict(data), text)
    return text.getvalue()
