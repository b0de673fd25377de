"""Results of many seeds as a table: a mean, how it varies, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.cli.terminal import number

__all__ = ["add_seed", "print_seeds", "seeds_text"]


def seeds_text(seeds: Any) -> str:
    """The numbers of seeds, for people.

    >>> seeds_text((3,)), seeds_text((0, 1, 2))
    ('seed 3', 'seeds 0 to 2 in one program')
    """
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]} in one program"


def add_seed(parser: Any, what: str) -> None:
    """`--seed`, for runs of many seeds."""
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help=f"{what} one seed of a run of many seeds, not the ensemble of all",
    )


def print_seeds(
    out: Any,
    title: str,
    parts: Mapping[str, Mapping[str, Mapping[str, Any]]],
    ensemble: Mapping[str, float] | None = None,
) -> None:
    """A table of results by seed.

    Args:
        out: a console.
        title: above the table.
        parts: by title, such as "held out", and by name of the result an `Estimate` as plain data.
        ensemble: the results of the mean of all predictions.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left")
    table.add_column("")
    for name in ("mean", "std", "95 % interval"):
        table.add_column(name, justify="right", style="bold" if name == "mean" else "")
    for part, results in parts.items():
        for name, found in results.items():
            ends = " to ".join(number(name, found[end]) for end in ("low", "high"))
            table.add_row(
                Text(f"{part} {name}"), number(name, found["mean"]), number(name, found["std"]), ends
            )
    for name, value in (ensemble or {}).items():
        table.add_row(Text(f"ensemble {name}"), number(name, value))
    out.print(table)
