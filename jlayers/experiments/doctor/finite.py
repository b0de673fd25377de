"""Check "values": NaN and infinity in the data, by row and column."""

from __future__ import annotations

import numpy as np

from jlayers.data.lazy import is_lazy
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding

__all__ = ["check_values", "rows_not_finite"]

SHOWN = 5
LAZY_ROWS = 256  # that are read of an array that memory does not hold


def rows_not_finite(case: Case) -> dict[str, np.ndarray]:
    """By the name of a part, which of its samples hold a number that is not finite; lazy arrays are left."""
    marked = {}
    for part, (x, y) in case.parts.items():
        bad = None
        for array in [*case.arrays_by_name(x, "x").values(), *case.arrays_by_name(y, "y").values()]:
            if is_lazy(array) or array.dtype.kind not in "fc" or np.isfinite(array).all():
                continue
            own = ~np.isfinite(array.reshape(len(array), -1)).all(1)
            bad = own if bad is None else bad | own
        if bad is not None:
            marked[part] = bad
    return marked


def check_values(case: Case) -> list[Finding]:
    """NaN and infinity in inputs and targets."""
    found = []
    for part, (x, y) in case.parts.items():
        for name, array in {**case.arrays_by_name(x, "x"), **case.arrays_by_name(y, "y")}.items():
            if is_lazy(array):
                array = array.take(
                    np.linspace(0, len(array) - 1, min(len(array), LAZY_ROWS)).astype(np.int64)
                )
            if array.dtype.kind not in "fc":
                continue
            bad = ~np.isfinite(array)
            if not bad.any():
                continue
            places = np.argwhere(bad)
            row, column = int(places[0][0]), tuple(map(int, places[0][1:]))
            value = array[tuple(places[0])]
            rows = np.unique(places[:, 0])
            columns = np.unique(places[:, 1]).tolist() if array.ndim == 2 else []
            where = f"{name}[{', '.join(map(str, (row, *column)))}]"
            among = f", all in the columns {_listed(columns)}" if columns and len(columns) <= SHOWN else ""
            found.append(
                Finding(
                    "values",
                    "error",
                    where if part == "training" else f"{part}: {where}",
                    f"{int(bad.sum())} of {array.size} numbers are not finite, in {len(rows)} of "
                    f"{len(array)} samples of the {part} data{among}; the first is {value} at row {row}"
                    + (f", column {', '.join(map(str, column))}" if column else ""),
                    "remove these samples, fill the gaps (with the column's median, say), or mend the file",
                    {
                        "part": part,
                        "rows": rows[:100].tolist(),
                        "columns": columns[:100],
                        "count": int(bad.sum()),
                        "first": [row, *column],
                    },
                )
            )
    return found


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))
