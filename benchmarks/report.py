"""What a run found, as Markdown, JSON and a picture. Writes numbers and no opinions."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from statistics import quantiles
from typing import Any

from benchmarks.goals import FASTEST, GOALS, Results, against, fastest_peer, median, verdict
from benchmarks.peers import HAND, LIBRARIES, OURS, TORCH

__all__ = ["draw", "goals_table", "markdown", "write"]

Rows = Iterable[Iterable[str]]


def write(results: Results, output: pathlib.Path) -> list[pathlib.Path]:
    """The three files, named after `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    paths = [output.with_suffix(f".{ending}") for ending in ("json", "md", "png")]
    paths[0].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(markdown(results, paths[2].name), encoding="utf-8")
    draw(results, paths[2])
    return paths


# ------------------------------------------------------------------------------------------- cells


def table(head: Iterable[str], rows: Rows) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    rule = ["---", *["---:"] * (len(cells[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))


def seconds(value: float) -> str:
    """Three digits, in the unit that suits: `12.3 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value / 1e-6)} µs"


def digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def spread(times: list[float]) -> str:
    """The median, and between what the middle half lies."""
    if not times:
        return "–"
    if len(times) < 3:
        return seconds(median(times))
    low, _, high = quantiles(times, n=4, method="inclusive")
    return f"{seconds(median(times))} ({seconds(low)} – {seconds(high)})"


def times_as(numbers: list[float], ours: list[float] | None) -> str:
    return f"{median(numbers) / median(ours):.2f}" if numbers and ours else "–"


def megabytes(numbers: list[float]) -> str:
    return digits(median(numbers) / 2**20) if numbers else "–"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


# ------------------------------------------------------------------------------------------- Markdown


def markdown(results: Results, picture: str) -> str:
    machine, packages = results["machine"], results["versions"]
    parts = [
        "# jlayers and its peers, side by side",
        f"{results['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"load before the run {machine['load before']:.1f}. "
        + ", ".join(f"{name} {version}" for name, version in packages.items())
        + f". Float32, Adam; medians of {results['rounds']} rounds in which the libraries took turns, in "
        "brackets the middle half of the rounds.",
    ]
    if results["absent"]:
        parts.append(f"Not installed: {', '.join(results['absent'])}.")
    parts += [f"![Time of a training step]({picture})", "## Goals", goals_table(results)]
    parts += ["## Ratios", ratios(results)]
    for name, measured in results["workloads"].items():
        parts += [f"## {name}", sizes(results["sizes"][name]), workload(measured)]
    if results.get("loops"):
        parts += ["## Loops around the step of the tiny MLP", loops(results["loops"])]
    if results.get("scaling"):
        parts += ["## Scaling", *scaling(results["scaling"])]
    if results["problems"]:
        parts += ["## Problems", "\n".join(f"- {problem}" for problem in results["problems"])]
    return "\n\n".join(parts) + "\n"


def goals_table(results: Results) -> str:
    """Each goal with its ratio, and whether it is hit."""
    rows = []
    for goal in GOALS:
        found, word = verdict(goal, results)
        rows.append(
            (goal.text, f"≤ {goal.limit:.2f}", number(found), f"**{word}**" if word == "miss" else word)
        )
    return table(("jlayers / other", "goal", "measured", ""), rows)


def ratios(results: Results) -> str:
    """Ours by theirs: below 1 jlayers is faster."""
    others = {FASTEST: FASTEST, HAND: LIBRARIES[HAND], TORCH: LIBRARIES[TORCH]}
    head = ["jlayers /", *(f"{what}: {other}" for what in ("step", "inference") for other in others.values())]
    rows = []
    for name, measured in results["workloads"].items():
        row = [name]
        for measure in ("train", "predict"):
            row += [number(against(results, name, measure, other)) for other in others]
            peer = fastest_peer(measured, measure)
            row[-len(others)] += f" ({LIBRARIES[peer]})" if peer else ""
        rows.append(row)
    return table(head, rows)


def sizes(workload: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in workload.items()) + "."


def workload(measured: Mapping[str, Any]) -> str:
    head = (
        *("", "training step", "× jlayers", "inference", "× jlayers"),
        *("to first step", "import", "init", "trace, compile, step"),
        *("step's memory, MB", "process, MB", "parameters"),
    )
    ours = measured.get(OURS, {})
    rows = []
    for library, found in measured.items():
        row = [LIBRARIES[library]]
        for measure in ("train", "predict"):
            row += [spread(found[measure]), times_as(found[measure], ours.get(measure))]
        row += [seconds(median(found[part])) for part in ("first_step", "import", "init", "first")]
        row += [megabytes(found["program"]), megabytes(found["process"]), f"{found['parameters']:,}"]
        rows.append(row)
    return table(head, rows)


def loops(measured: Mapping[str, list[float]]) -> str:
    bare = measured.get("bare loop")
    rows = [(name, spread(times), times_as(times, bare)) for name, times in measured.items()]
    return table(("", "per step", "× bare loop"), rows)


def scaling(found: Mapping[str, Any]) -> list[str]:
    """Per axis the step, and init with the first step, in a process that has imported everything."""
    parts = []
    for axis, by_value in found.items():
        rows = []
        for library in next(iter(by_value.values())):
            cells = [by_value[value][library] for value in by_value]
            rows.append(
                [
                    LIBRARIES[library],
                    *(seconds(median(cell["train"])) for cell in cells),
                    *(seconds(median(cell["build"])) for cell in cells),
                ]
            )
        head = ["", *(f"step, {value}" for value in by_value), *(f"build, {value}" for value in by_value)]
        parts += [f"### {axis}", table(head, rows)]
    return parts


# ------------------------------------------------------------------------------------------- the picture

INK, OTHERS, GRAY = "#c44e1c", "#9fb0c3", "#444444"


def draw(results: Results, path: pathlib.Path) -> None:
    """Bars per workload: the time of a training step, jlayers being 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {name: measured for name, measured in results["workloads"].items() if measured}
    columns = min(4, max(1, len(shown)))
    rows = -(-len(shown) // columns) or 1
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(3.6 * columns + 1, 2.7 * rows + 0.7), squeeze=False, layout="constrained"
    )
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    for panel, (name, measured) in zip(panels.flat, shown.items(), strict=False):
        bars(panel, name, measured)
    figure.suptitle("Time of a training step, jlayers = 1 (shorter is faster)", fontsize=12)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def bars(panel: Any, name: str, measured: Mapping[str, Any]) -> None:
    libraries = list(measured)
    times = [median(measured[library]["train"]) for library in libraries]
    unit = times[libraries.index(OURS)] if OURS in libraries else min(times)
    lengths = [time / unit for time in times]
    colors = [INK if library == OURS else OTHERS for library in libraries]
    panel.barh([LIBRARIES[library] for library in libraries], lengths, color=colors)
    panel.invert_yaxis()
    panel.axvline(1, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    for place, (length, time) in enumerate(zip(lengths, times, strict=True)):
        label = f"{length:.2f}  {seconds(time)}"
        plain = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the dotted line
        offset = {"xytext": (4, 0), "textcoords": "offset points"}
        panel.annotate(label, (length, place), **offset, va="center", fontsize=7, color=GRAY, bbox=plain)
    panel.set_xlim(0, max(lengths) * 1.5)
    panel.set_title(name, fontsize=10)
    panel.tick_params(labelsize=8, length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
