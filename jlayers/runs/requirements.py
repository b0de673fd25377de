"""The exact versions of the packages that a process has loaded, as a file for `pip install -r`."""

from __future__ import annotations

import functools
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

__all__ = ["read_requirements", "requirements"]


def requirements() -> str:
    """A line `name==version` for each installed package with a module that is loaded in this process.

    A package from a repository is named with its commit. One from a folder has no version to install; a
    comment names it.

    >>> any(line.startswith("numpy==") for line in requirements().splitlines())
    True
    """
    roots = {name.partition(".")[0] for name in list(sys.modules)}
    owners = _owners()
    names = {_normal(package): package for root in roots for package in owners.get(root) or _linked(root)}
    lines = [_line(names[name]) for name in sorted(names)]
    return "\n".join([f"# Python {platform.python_version()}", *lines, ""])


def read_requirements(text: str) -> dict[str, str]:
    r"""The versions by the names of the packages; other lines are left out.

    >>> read_requirements("# Python 3.11.7\nnumpy==2.4.6\nmine @ git+https://host/mine@abc\n")
    {'numpy': '2.4.6'}
    """
    found = (line.split("==") for line in text.splitlines() if re.fullmatch(r"[\w.-]+==[^\s=]+", line))
    return dict(found)


@functools.cache
def _owners() -> Mapping[str, Sequence[str]]:
    """The packages by the modules that they install."""
    return metadata.packages_distributions()


def _linked(root: str) -> list[str]:
    """A package that was installed by a link to its folder, which does not say what modules it has."""
    if root in sys.stdlib_module_names or root.startswith("_"):
        return []
    try:
        return [metadata.distribution(root).name]
    except (metadata.PackageNotFoundError, ValueError):
        return []


def _line(package: str) -> str:
    found = metadata.distribution(package)
    origin = _origin(found)
    if "vcs_info" in origin:
        kind, commit = origin["vcs_info"]["vcs"], origin["vcs_info"]["commit_id"]
        return f"{package} @ {kind}+{origin['url']}@{commit}"
    if "dir_info" in origin:
        return f"# {package} {found.version}, installed from a folder"
    return f"{package}=={found.version}"


def _origin(found: metadata.Distribution) -> dict:
    """The origin of a package that was not installed from an index, as pip notes it."""
    try:
        return json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
