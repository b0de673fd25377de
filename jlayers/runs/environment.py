"""What a result depends on besides the configuration: versions, platform, and JAX's numeric settings."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import jax

__all__ = ["environment"]

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
    device = jax.devices()[0]
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "settings": {name: getattr(jax.config, name, None) for name in _SETTINGS},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
