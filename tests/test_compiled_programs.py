"""The command line keeps compiled programs: a second start compiles nothing."""

import os
import pathlib
import re
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers.cli import compiled

NET = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model: {Dense: 1}
loss: mse
training: {epochs: 1}
"""


@pytest.fixture
def folder(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :1])
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path


def last_line(folder):
    """What a process of its own says after it has trained."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment["PYTHONPATH"] = str(pathlib.Path(jl.__file__).parents[1])
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-m", "jlayers.cli", "train", "net.yaml"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_second_start_compiles_nothing(folder):
    first = last_line(folder)
    assert re.match(r"compiling took [\d.]+ m?s for \d+ programs \(kept in .*; off with --no-comp", first)
    second = last_line(folder)
    assert re.match(r"nothing was compiled: \d+ programs were read in", second)
    (kept,) = (folder / "cache" / "jlayers" / "programs").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700  # a program that is read is run


@pytest.mark.parametrize(
    ("wanted", "variable", "told", "kept"),
    [
        (True, None, None, "ours"),
        (False, None, None, None),
        (True, "0", None, None),
        (True, None, "told", "told"),
    ],
)
def test_where_programs_are_kept(tmp_path, monkeypatch, wanted, variable, told, kept):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JLAYERS_COMPILE_CACHE", raising=False)
    if variable:
        monkeypatch.setenv("JLAYERS_COMPILE_CACHE", variable)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", told and str(tmp_path / told))
    try:
        with compiled.kept_programs(wanted) as found:
            assert jax.config.jax_enable_compilation_cache == (kept is not None)
            if kept:
                assert jax.config.jax_compilation_cache_dir == str(found.folder)
        assert jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    if kept == "told":
        assert found.folder == tmp_path / told
    elif kept:
        assert found.folder.parent == tmp_path / "jlayers" / "programs"
    assert ("kept in" in str(found)) == (kept is not None)
    assert ("off with" in str(found)) == (kept == "ours")


def test_old_programs_go(tmp_path, monkeypatch):
    old, new, large = (tmp_path / name for name in ("old", "new", "large"))
    for path in (old, new, large):
        path.write_bytes(b"x" * 10)
    past = time.time() - 40 * 86400
    os.utime(old, (past, past))
    os.utime(large, (time.time() - 100, time.time() - 100))
    monkeypatch.setattr(compiled, "BYTES", 15)
    compiled._sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_without_a_place_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled._folder() is None
    before = jax.config.jax_compilation_cache_dir
    with compiled.kept_programs(False) as found:
        assert found.folder is None
        assert not jax.config.jax_enable_compilation_cache
    assert jax.config.jax_enable_compilation_cache
    assert jax.config.jax_compilation_cache_dir == before
