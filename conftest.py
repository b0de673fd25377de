"""Tests run under strict dtype and rank promotion, examples as users run them; Keras runs on JAX.

Most of the time goes into making small programs: they are compiled without LLVM's expensive passes, in one
piece, and kept in a folder for all processes and later runs. The oldest JAX that we support still has
emitters that take a third of the time of those by MLIR, which the newer ones test.
"""

import gc
import importlib.metadata
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import compile_cache

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")  # tests/test_sharding.py
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
    # Later ones stop on a flag that they do not know.
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers inherit it from the first process
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compile_cache.folder()

import jax
import pytest

from jlayers.core.registry import Registry

# Tracing makes many small objects that live on. Looking through them often takes a third of the time.
gc.set_threshold(100_000, 20, 100)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        compile_cache.prune(compile_cache.root())


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def strict_promotion(request):
    if isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def closed_registries():
    """What a test or an example registers is gone after it."""
    tables = ("_constructors", "_functions", "_by_key")
    kept = [(r, name, dict(getattr(r, name))) for r in Registry.all() for name in tables]
    yield
    for registry, name, table in kept:
        setattr(registry, name, table)


tests = itertools.count(1)


@pytest.fixture(autouse=True)
def little_memory():
    """A worker that keeps all programs grows to 4 GiB; those that come again are in the folder."""
    yield
    if next(tests) % 100 == 0:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key():
    return jax.random.key(0)
