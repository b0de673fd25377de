"""Print the JSON Schema of the YAML files, for editors."""

from __future__ import annotations

import argparse
import json

from jlayers.cli.own_code import use_code

__all__ = ["main"]


def main(arguments: argparse.Namespace) -> None:
    from jlayers.config import json_schema

    use_code(arguments)
    print(json.dumps(json_schema(), indent=2))
