"""Facts beside the configuration that a result depends on: versions, device, flags, JAX's settings."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
from importlib import metadata
from typing import Any

import jax

__all__ = ["environment", "first_device", "installed", "processor_features", "source_hash", "versions"]

_PACKAGES = ("jlayers", "jax", "jaxlib", "numpy", "optax")
_SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_disable_jit",
)
_FLAGS = ("XLA_", "JAX_", "LIBTPU_", "NVIDIA_", "CUDA_", "OMP_")  # beginnings of variables
_NO_MATTER = ("CACHE", "TRACEBACK", "LOG", "DEBUG")  # no bit of a result depends on variables with these


def environment() -> dict[str, Any]:
    """Versions, machine, device, flags and settings as plain data.

    `source` is a hash of the files of jlayers itself, for a checkout whose version stays the same while it
    is changed. `flags` are the environment variables that XLA, JAX and their libraries read.

    >>> environment()["versions"]["jlayers"] is not None, environment()["settings"]["jax_enable_x64"]
    (True, False)
    """
    device = first_device()
    return {
        "versions": versions(),
        "source": source_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "runtime": str(device.client.platform_version),
        "flags": {name: value for name, value in sorted(os.environ.items()) if _is_flag(name)},
        "settings": {name: getattr(jax.config, name, None) for name in _SETTINGS},
    }


def versions() -> dict[str, str | None]:
    """The installed versions of jlayers and of what it computes with."""
    return {name: installed(name) for name in _PACKAGES}


def first_device() -> Any:
    """The device that JAX computes on by default.

    Raises:
        ValueError: JAX cannot start on the platform that it was told to use.
    """
    try:
        return jax.devices()[0]
    except Exception as error:  # JAX raises several types, some without a text
        wanted = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        reason = (str(error).splitlines() or ["no such platform here"])[0]
        raise ValueError(
            f"JAX cannot start on the platform {wanted!r} ({reason}): unset JAX_PLATFORMS, or install JAX "
            f"for that platform"
        ) from error


def processor_features() -> str:
    """The features of the processor that compiled code may use, as the system names them."""
    return _of_processor("flags", "Features") or f"{platform.machine()} {platform.processor()}"


def _processor() -> str:
    """The kind of the processor, its features as a short hash, and how many of them this process may use."""
    name = _of_processor("model name") or platform.processor() or platform.machine()
    features = hashlib.sha256(processor_features().encode()).hexdigest()[:8]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, features {features}, {usable} cores"


def _of_processor(*keys: str) -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in keys:
                return " ".join(sorted(value.split())) if len(keys) > 1 else value.strip()
    return ""


def _is_flag(name: str) -> bool:
    return name.startswith(_FLAGS) and not any(part in name for part in _NO_MATTER)


@functools.cache
def source_hash() -> str:
    """A SHA-256 over the Python files of jlayers, in the order of their paths."""
    folder, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def installed(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
