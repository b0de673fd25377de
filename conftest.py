"""Tests run under strict dtype and rank promotion, examples as users run them; Keras runs on JAX.

Most of the time goes into making small programs: they are compiled without LLVM's expensive passes, in one
piece, and kept in a folder for all processes and later runs. The oldest JAX that we support still has
emitters that take a third of the time of those by MLIR, which the newer ones test.
"""

import gc
import importlib.metadata
import itertools
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import compile_cache

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JLAYERS_PICTURES", "0")  # after each training; tests/test_report.py draws them
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
import keras_values
import pytest
import shared_context

import jlayers.applications  # noqa: F401  registered once, and not within a test, after which it would be gone
from jlayers.core.registry import Registry

# Tracing makes many small objects that live on. Looking through them often takes a third of the time.
gc.set_threshold(100_000, 20, 100)

shared_context.share()


def pytest_addoption(parser):
    group = parser.getgroup("jlayers")
    group.addoption("--full", action="store_true", help="all conformance properties of all layers")
    group.addoption(
        "--record-keras", action="store_true", help="run Keras and write down what it gives (-n 0)"
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "live_keras: compares with Keras's values; selected, Keras itself runs"
    )
    config.addinivalue_line(
        "markers", "slow: takes seconds; left out of a run over everything, `pytest -m slow` runs them"
    )
    if config.option.record_keras:
        if config.option.numprocesses:
            raise pytest.UsageError("--record-keras writes one file for each test file: add -n 0")
        keras_values.mode = keras_values.RECORDING
    elif "live_keras" in config.option.markexpr:
        keras_values.mode = keras_values.LIVE
    if not hasattr(config, "workerinput"):
        compile_cache.prune(compile_cache.root())


def over_everything(config):
    """True if no file or folder was named on the command line."""
    if hasattr(config, "workerinput"):
        return config.workerinput["over_everything"]
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """The workers of xdist do not see the command line."""
    node.workerinput["over_everything"] = over_everything(node.config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in keras_values.comparing(items):
        item.add_marker("live_keras")
    chosen = config.option.markexpr or config.option.keyword or config.option.full
    if over_everything(config) and not chosen:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


def pytest_sessionfinish(session, exitstatus):
    if session.config.option.record_keras:
        chosen = session.config.option.keyword or any("::" in a for a in session.config.args)
        keras_values.write(whole=not chosen and exitstatus == pytest.ExitCode.OK)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and keras_values.mode == keras_values.RECORDED and item.name in keras_values.asked:
        text = f"if this row is new or changed, run: {keras_values.command(item.path.stem)}"
        report.sections.append(("Keras's values were recorded", text))
    return report


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
    if next(tests) % 400 == 0:  # seldom, as each time all that is common is traced and read again
        jax.clear_caches()
        shared_context.renew()
        gc.collect()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def usual_handlers():
    """Those of a terminal: a job in the background of a shell ignores SIGINT, one under `nohup` SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
