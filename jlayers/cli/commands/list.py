"""List what a file can name: layers, applications, losses, metrics, ..."""

from __future__ import annotations

import argparse
from typing import Any

from jlayers.cli.own_code import use_code
from jlayers.cli.terminal import console

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as layers or losses (default: all kinds)"
    )


def main(arguments: argparse.Namespace) -> None:
    from jlayers.config.signatures import KINDS, documentation, names_of, registry_of, shown
    from jlayers.core.spelling import nearest

    use_code(arguments)
    registries = {registry.plural: registry for kind in KINDS if (registry := registry_of(kind)) is not None}
    wanted = next((p for p, r in registries.items() if arguments.kind in (p, r.kind)), None)
    is_applications = arguments.kind in ("application", "applications")
    if arguments.kind is not None and wanted is None and not is_applications:
        known = [*registries, "applications"]
        raise ValueError(
            f"expected a kind to list, received {arguments.kind!r}: {nearest(arguments.kind, known)}"
        )
    out = console()
    if arguments.kind is None or is_applications:
        _list_applications(out)
    for plural, registry in registries.items():
        if is_applications or wanted not in (None, plural):
            continue
        out.print(plural, style="bold cyan")
        for name in registry if plural == "layers" else names_of(registry):  # they have a list of their own
            print(f"  {shown(name, registry[name])}")
            if wanted and (text := documentation(registry[name])):
                out.print(f"      {text}", style="dim")


def _list_applications(out: Any) -> None:
    """Every application with what it costs and how good its published weights are."""
    from jlayers.applications import costs, published

    out.print("applications", style="bold cyan")
    print(f"  {'':<32}{'parameters':>12}{'GFLOPs':>9}{'size':>6}{'top-1':>7}")
    for name, cost in sorted(costs().items()):
        facts = published(name)
        top1 = "" if facts.top1 is None else f"{facts.top1:.1f}"
        numbers = f"{cost['parameters']:>12,}{cost['flops'] / 1e9:>9.2f}{facts.size:>6}{top1:>7}"
        print(f"  {'applications.' + name:<32}{numbers}")
