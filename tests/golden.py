"""What of every conformance row must not change: run this file to record it anew.

Weights on disk are found by these paths and shapes, and configurations by these reprs.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from test_conformance import ROWS

from jlayers.core.shapes import is_shape
from jlayers.core.tree import flatten

FILE = Path(__file__).parent / "recorded" / "golden_layers.json"


def forms(tree):
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in flatten(tree).items()}


def golden(layer, *inputs):
    inputs = [x for x in inputs if not isinstance(x, dict)]
    specs = [
        jax.ShapeDtypeStruct(x, jnp.float32) if is_shape(x) else jax.eval_shape(jnp.asarray, x)
        for x in inputs
    ]
    params, state = jax.eval_shape(layer.init, jax.random.key(0), *specs)
    return {"repr": repr(layer), "params": forms(params), "state": forms(state)}


def all_rows():
    return [golden(*row) for row in ROWS]


if __name__ == "__main__":
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, all_rows())) + "\n]\n")
