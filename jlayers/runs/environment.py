"""Facts beside the configuration that a result depends on: versions, platform, JAX's numeric settings."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import jax

__all__ = ["environment", "first_device"]

_PACKAGES = ("jlayers", "jax", "jaxlib", "numpy", "optax")
_SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_enable_x64",
    "jax_default_matmul_precision",
)


def environment() -> dict[str, Any]:
    """Versions, machine and settings as plain data.

    >>> sorted(environment())
    ['device', 'devices', 'platform', 'python', 'settings', 'versions']
    """
    device = first_device()
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "settings": {name: getattr(jax.config, name, None) for name in _SETTINGS},
    }


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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
