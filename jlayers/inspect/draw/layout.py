"""Places for the boxes of a diagram: layers from top to bottom, few crossings, straight edges.

The method of Sugiyama, Tagawa and Toda (1981): a box stands one layer below the last it depends on, an
edge that skips layers passes through points on each, and the order within a layer follows the mean of the
neighbors. As with Brandes and Köpf (2001), what should be straight is one block when it is placed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

__all__ = ["Layout", "Path", "layout"]

_GAP, _POINT, _RISE, _MARGIN = 28.0, 10.0, 44.0, 24.0

Point = tuple[float, float]
Path = tuple[Point, ...]  # a start, then three points (two controls and an end) per Bézier curve


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions in pixels, y downwards.

    Attributes:
        width, height: of the whole picture.
        corners: left and top of each box.
        paths: the curve of each edge, from the bottom of a box to the top of another.
    """

    width: float
    height: float
    corners: tuple[Point, ...]
    paths: tuple[Path, ...]


def layout(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Layout:
    """Positions for boxes of these sizes (width, height), given in an order in which edges point forward."""
    ranks = _ranks(len(sizes), edges)
    chains, rows = _with_points(ranks, edges)
    links = [link for chain in chains for link in itertools.pairwise(chain)]
    above: dict[int, list[int]] = {item: [] for row in rows for item in row}
    below: dict[int, list[int]] = {item: [] for row in rows for item in row}
    for upper, lower in links:
        below[upper].append(lower)
        above[lower].append(upper)
    rows = _order(rows, above, below)
    widths = {item: sizes[item][0] if item < len(sizes) else _POINT for row in rows for item in row}
    x = _positions(rows, widths, above, below)

    heights = [max((sizes[i][1] for i in row if i < len(sizes)), default=0.0) for row in rows]
    left = min(x[i] - widths[i] / 2 for i in x) - _MARGIN
    x = {item: place - left for item, place in x.items()}
    tops, y = [], _MARGIN
    for height in heights:
        tops.append(y)
        y += height + _RISE
    rank_of = {item: rank for rank, row in enumerate(rows) for item in row}
    corners = tuple(
        (x[i] - w / 2, tops[rank_of[i]] + (heights[rank_of[i]] - h) / 2) for i, (w, h) in enumerate(sizes)
    )
    ends = _arrivals(edges, chains, x, sizes)
    bands = {item: (tops[rank], tops[rank] + heights[rank]) for item, rank in rank_of.items()}
    paths = tuple(
        _path(chain, x, corners, sizes, bands, end) for chain, end in zip(chains, ends, strict=True)
    )
    right = max(x[i] + widths[i] / 2 for i in x)
    return Layout(right + _MARGIN, y - _RISE + _MARGIN, corners, paths)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    ranks = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        ranks[target] = max(ranks[target], ranks[source] + 1)
    fed = {target for _, target in edges}
    for i in range(count):  # an input that is used late stands close to its use
        uses = [ranks[target] for source, target in edges if source == i]
        if i not in fed and uses:
            ranks[i] = min(uses) - 1
    return ranks


def _with_points(
    ranks: Sequence[int], edges: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Each edge as a chain of items over consecutive layers, and the items of each layer.

    Items below the number of boxes are boxes; the others are points that an edge passes.
    """
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=0) + 1)]
    for box, rank in enumerate(ranks):
        rows[rank].append(box)
    chains, item = [], len(ranks)
    for source, target in edges:
        chain = [source]
        for rank in range(ranks[source] + 1, ranks[target]):
            rows[rank].append(item)
            chain.append(item)
            item += 1
        chains.append([*chain, target])
    return chains, rows


Neighbors = Mapping[int, Sequence[int]]


def _order(rows: list[list[int]], above: Neighbors, below: Neighbors) -> list[list[int]]:
    """The order with the fewest crossings among those that sweeping down and up finds."""
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(12):
        down = sweep % 2 == 0
        rows = [list(row) for row in rows]
        for r in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = {item: float(i) for i, item in enumerate(rows[r - 1 if down else r + 1])}
            own = {item: float(i) for i, item in enumerate(rows[r])}
            near = above if down else below
            means = {item: _mean([fixed[n] for n in near[item]], own[item]) for item in rows[r]}
            rows[r].sort(key=means.__getitem__)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(rows: Sequence[Sequence[int]], below: Neighbors) -> int:
    total = 0
    for upper, lower in itertools.pairwise(rows):
        place = {item: i for i, item in enumerate(lower)}
        ends = [sorted(place[n] for n in below[item]) for item in upper]
        for i, first in enumerate(ends):
            for second in ends[i + 1 :]:
                total += sum(b < a for a in first for b in second)
    return total


def _positions(
    rows: Sequence[Sequence[int]], widths: Mapping[int, float], above: Neighbors, below: Neighbors
) -> dict[int, float]:
    """Items that are to stand exactly below each other form a block; blocks move as one towards the mean
    of their neighbors, as far as those beside them let them.
    """
    block = _blocks(rows, {item for item in widths if widths[item] != _POINT}, above, below)
    beside: dict[int, dict[int, float]] = {b: {} for b in block.values()}  # right neighbor -> distance
    for row in rows:
        for a, b in itertools.pairwise(row):
            apart = (widths[a] + widths[b]) / 2 + _GAP
            near = beside[block[a]]
            near[block[b]] = max(apart, near.get(block[b], 0.0))
    before: dict[int, dict[int, float]] = {b: {} for b in beside}
    for a, several in beside.items():
        for b, apart in several.items():
            before[b][a] = apart
    pulls: dict[int, list[int]] = {b: [] for b in beside}
    for item, lower in below.items():
        for other in lower:
            if block[item] != block[other]:
                pulls[block[item]].append(block[other])
                pulls[block[other]].append(block[item])

    x: dict[int, float] = {}
    order: list[int] = []
    waiting = dict.fromkeys(beside)
    while waiting:  # from left to right, each as far left as it goes
        ready = [b for b in waiting if all(a in x for a in before[b])]
        for b in ready:
            x[b] = max((x[a] + apart for a, apart in before[b].items()), default=0.0)
            del waiting[b]
        order += ready
    for sweep in range(60):
        for b in reversed(order) if sweep % 2 == 0 else order:
            if pulls[b]:
                low = max((x[a] + apart for a, apart in before[b].items()), default=-math.inf)
                high = min((x[c] - apart for c, apart in beside[b].items()), default=math.inf)
                x[b] = min(max(sum(x[p] for p in pulls[b]) / len(pulls[b]), low), high)
    return {item: x[of] for item, of in block.items()}


def _blocks(
    rows: Sequence[Sequence[int]], boxes: set[int], above: Neighbors, below: Neighbors
) -> dict[int, int]:
    """Item -> the top item of its block. Long edges are straight first of all, then the trunk of the graph.

    Two links of a pair of rows are both made vertical only if they do not cross.
    """
    top = {item: item for row in rows for item in row}
    for upper, lower in itertools.pairwise(rows):
        place = {item: i for row in (upper, lower) for i, item in enumerate(row)}
        ranked = sorted(
            (_precedence(a, b, boxes, above, below, place), a, b) for a in upper for b in below[a]
        )
        segments: list[tuple[int, int]] = []
        for _, a, b in ranked:
            if all((place[a] - place[c]) * (place[b] - place[d]) > 0 for c, d in segments):
                segments.append((a, b))
                top[b] = top[a]
    return top


def _precedence(
    a: int, b: int, boxes: set[int], above: Neighbors, below: Neighbors, place: Mapping[int, int]
) -> tuple[int, int]:
    """Points, then boxes, then mixed pairs; among them the links to the one in the middle."""

    def off_middle(item: int, near: Sequence[int]) -> int:
        alike = sorted(place[n] for n in near if n in boxes) or [place[item]]
        return abs(place[item] - alike[(len(alike) - 1) // 2])

    kind = 2 if (a in boxes) != (b in boxes) else int(a in boxes)
    return kind, off_middle(b, below[a]) + off_middle(a, above[b])


def _arrivals(
    edges: Sequence[tuple[int, int]],
    chains: Sequence[Sequence[int]],
    x: Mapping[int, float],
    sizes: Sequence[tuple[float, float]],
) -> list[float]:
    """The points at which edges meet the top of their box: side by side, in the order in which they come."""
    ends = [0.0] * len(edges)
    for target in {target for _, target in edges}:
        coming = [i for i, edge in enumerate(edges) if edge[1] == target]
        coming.sort(key=lambda i: x[chains[i][-2]])
        aside = [abs(x[chains[i][-2]] - x[target]) for i in coming]
        straight = min(aside) < 0.5  # what comes from right above meets the middle
        middle = aside.index(min(aside)) if straight else (len(coming) - 1) / 2
        step = min(18.0, sizes[target][0] / (2 * len(coming) + 1))
        for place, i in enumerate(coming):
            ends[i] = x[target] + (place - middle) * step
    return ends


def _path(
    chain: Sequence[int],
    x: Mapping[int, float],
    corners: Sequence[Point],
    sizes: Sequence[tuple[float, float]],
    bands: Mapping[int, Point],
    end: float,
) -> Path:
    """Down through the layers: a curve in each gap, a straight line past each layer in between."""
    source, target = chain[0], chain[-1]
    here = (x[source], corners[source][1] + sizes[source][1])
    path: list[Point] = [here]

    def curve(to: Point) -> None:
        start = path[-1]
        middle = (start[1] + to[1]) / 2
        path.extend([(start[0], middle), (to[0], middle), to])

    for item in chain[1:-1]:
        top, bottom = bands[item]
        curve((x[item], top))
        path.extend([(x[item], top), (x[item], bottom), (x[item], bottom)])
    curve((end, corners[target][1]))
    return tuple(path)
