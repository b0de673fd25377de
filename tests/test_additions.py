"""Additions take no more files than CONTRIBUTING says: each is made in a copy of the package and used."""

import os
import shutil
import subprocess
import sys

import pytest
import test_house

CALLBACK = '''
"""The number of epochs that have ended."""

from jlayers.train.callbacks.base import Callback, register

__all__ = ["Tally"]


@register
class Tally(Callback):
    """Counts epochs.

    Args:
        start: the first number.
    """

    def __init__(self, start: int = 0):
        self.count = start

    def on_epoch_end(self, epoch, logs, state):
        self.count += 1
'''
COMMAND = '''
"""Say hello."""

__all__ = ["main"]


def main(arguments):
    print("hello from a new command")
'''
OP = '''
"""A sum of squares, without the array of squares."""

import jax
import jax.numpy as jnp

__all__ = ["square_sum", "square_sum_plain"]


def square_sum(x: jax.Array) -> jax.Array:
    """The fast form."""
    return jnp.vdot(x, x)


def square_sum_plain(x: jax.Array) -> jax.Array:
    """The plain twin."""
    return jnp.square(x).sum()
'''
LOSS = '''

@registry.factory()
def QuarticError() -> Loss:
    """The fourth power of the difference."""
    return elementwise(lambda t, p: (t - p) ** 4)
'''
USES = """
import io, contextlib, numpy as np, jlayers as jl
from jlayers.config import json_schema, loads
from jlayers.cli import main
from jlayers.ops.square_sum import square_sum, square_sum_plain

x = np.arange(6, dtype=np.float32).reshape(3, 2)
assert square_sum(x.ravel()) == square_sum_plain(x) == 55

text = "data: digits\\nmodel: {Sequential: [Flatten, {Dense: 10}]}\\nloss: QuarticError\\n"
experiment = loads(text + "training: {epochs: 1, callbacks: [{Tally: 3}]}\\n")
(tally,) = experiment.settings.training.callbacks
trainer = jl.compile(jl.Dense(2), loss="quartic_error")
assert float(jl.losses.get("QuarticError")(x, x + 2).mean()) == 16
jl.fit(trainer, x, x, epochs=2, callbacks=[tally])
assert tally.count == 5 and repr(tally) == "Tally(start=3)", tally
assert "callback.Tally" in json_schema()["$defs"]

printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    assert not main(["hello"])
    assert not main(["list", "callbacks"])
    assert not main(["list", "losses"])
for word in ("hello from a new command", "Tally", "QuarticError"):
    assert word in printed.getvalue(), word
"""


@pytest.mark.slow
def test_a_callback_a_command_an_op_and_a_loss_take_one_file_each_beside_their_test(tmp_path, monkeypatch):
    root = tmp_path / "jlayers"
    shutil.copytree(test_house.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    new = {
        "train/callbacks/tally.py": CALLBACK,
        "cli/commands/hello.py": COMMAND,
        "ops/square_sum.py": OP,
    }
    for name, text in new.items():
        (root / name).write_text(text.lstrip(), encoding="utf-8")
    losses = root / "losses" / "regression.py"
    text = losses.read_text(encoding="utf-8").replace("__all__ = [", '__all__ = [\n    "QuarticError",', 1)
    losses.write_text(text + LOSS, encoding="utf-8")

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", USES], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr

    monkeypatch.setattr(test_house, "ROOT", root)
    for name in new:  # the house has a place for each of them, and needs no new line
        test_house.keeps_the_rules(root / name)
    test_house.test_the_tree_in_design_lists_the_house()
