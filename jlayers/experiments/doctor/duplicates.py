"""Check "duplicates": samples that are in the training data and in what is held out."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from jlayers.data.lazy import is_lazy
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding

__all__ = ["check_duplicates"]

LEAST_SHARE = 0.01  # of the held-out samples
LAZY_BYTES = 2**28  # data that are read as they are needed are looked at up to this size


def check_duplicates(case: Case) -> list[Finding]:
    """Held-out samples that equal a training sample, bit for bit.

    Samples of few possible values repeat by nature, such as rows of a few yes-or-no columns. So the expected
    number of coincidences is computed from how often each value occurs in each column, as if the columns did
    not depend on each other; what does not clearly exceed it is not a finding.
    """
    if not case.held_out or _too_large(case.x):
        return []
    known: dict[bytes, int] = {}
    for row, digest in enumerate(_digests(case, case.x)):
        known.setdefault(digest, row)
    found = []
    for part, (x, _) in case.held_out.items():
        if _too_large(x):
            continue
        pairs = [(row, known[digest]) for row, digest in enumerate(_digests(case, x)) if digest in known]
        rows = len(_arrays(case, x)[0])
        expected = rows * min(1.0, len(known) * _coincidence(case))
        if len(pairs) < max(2, LEAST_SHARE * rows) or len(pairs) < 3 * expected:
            continue
        row, other = pairs[0]
        found.append(
            Finding(
                "duplicates",
                "error" if len(pairs) > 0.5 * rows else "warning",
                part,
                f"{len(pairs)} of {rows} samples of the {part} data are in the training data, too "
                f"({len(pairs) / rows:.0%}), such as row {row}, which equals training row {other}: results "
                f"on them do not tell how the model does on new samples",
                f"remove these samples from the {part} data, or split before samples are copied or "
                f"augmented; samples that belong together (one patient, one document) go to one part",
                {"count": len(pairs), "of": rows, "pairs": pairs[:100]},
            )
        )
    return found


def _arrays(case: Case, x: Any) -> list[Any]:
    return list(case.arrays_by_name(x, "x").values())


def _too_large(x: Any) -> bool:
    import jax

    return any(is_lazy(leaf) and leaf.nbytes > LAZY_BYTES for leaf in jax.tree.leaves(x))


def _digests(case: Case, x: Any) -> list[bytes]:
    """A short hash of each sample."""
    arrays = [np.ascontiguousarray(np.asarray(array)) for array in _arrays(case, x)]
    made = []
    for row in range(len(arrays[0])):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            value = array[row]
            digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
        made.append(digest.digest())
    return made


def _coincidence(case: Case) -> float:
    """The probability that two samples are equal by chance, if columns were independent."""
    log = 0.0
    for array in case.arrays_by_name(case.sample(1000).x, "x").values():
        flat = array.reshape(len(array), -1)
        for column in range(flat.shape[1]):
            counts = np.unique(flat[:, column], return_counts=True)[1] / len(flat)
            log += float(np.log(np.square(counts).sum()))
            if log < -60:
                return 0.0
    return float(np.exp(log))
