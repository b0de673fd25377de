"""A user's own layers, losses, metrics, ... from Python files that the user names: `--use my_layers.py`.

This is the only door through which a command runs code, and only the person at the keyboard opens it: no YAML
file, run folder or weights file can name such a file. A run keeps a copy of each file, to be read by people
and compared; the copy never runs by itself.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import linecache
import os
import pathlib
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from jlayers.core.errors import text_of
from jlayers.saving.files import sha256

__all__ = [
    "CODE",
    "OwnCode",
    "OwnCodeError",
    "check_own_code",
    "execute",
    "place_in_own_code",
    "read_own_code",
]

CODE = "code"  # the folder, inside a run's, that holds copies
_OURS = "jlayers --use"  # marks the modules that were made here
MAX_BYTES = 1 << 20


class OwnCodeError(ValueError):
    """A file that `--use` names cannot be used; the message says where and why."""


@dataclasses.dataclass(frozen=True)
class OwnCode:
    """A Python file of the user's, as it was read.

    Attributes:
        path: as the user named it.
        content: its bytes. What runs, what is kept and what is hashed are these.
    """

    path: pathlib.Path
    content: bytes

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    @property
    def sha256(self) -> str:
        """The SHA-256 of the content in hexadecimal digits."""
        return sha256(self.content)


def read_own_code(paths: Iterable[str | os.PathLike[str]]) -> list[OwnCode]:
    """The files, none of them run yet.

    Raises:
        OwnCodeError: no such file, a name that is not a module's, or two files of one name.
    """
    found: list[OwnCode] = []
    for path in map(pathlib.Path, paths):
        if path.suffix != ".py" or not path.stem.isidentifier():
            raise OwnCodeError(f"--use {path}: expected a Python file such as my_layers.py")
        if path.name in [code.name for code in found]:
            raise OwnCodeError(f"--use {path}: two files have the name {path.name}: rename one")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise OwnCodeError(f"--use {path}: cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise OwnCodeError(f"--use {path}: expected at most {MAX_BYTES:,} bytes")
        found.append(OwnCode(path, content))
    return found


def execute(files: Sequence[OwnCode]) -> None:
    """Run the files in their order, each as a module; what they register can then be named.

    A later file can import an earlier one by its name.

    Raises:
        OwnCodeError: an error in a file, with its line; a name that an installed module has.
    """
    for code in files:
        stem = code.path.stem
        if _is_taken(stem):
            raise OwnCodeError(f"--use {code.path}: a module {stem!r} is installed already: rename the file")
        module = ModuleType(stem)
        module.__file__ = str(code.path)
        module.__spec__ = ModuleSpec(stem, None, origin=str(code.path), loader_state=_OURS)
        before = sys.modules.get(stem)
        sys.modules[stem] = module
        try:
            compiled = _compiled(code)
            exec(compiled, vars(module))  # the user has named this file on the command line
        except (Exception, SystemExit) as error:
            place = place_in_own_code(error) or code.path
            sys.modules.pop(stem)
            if before is not None:
                sys.modules[stem] = before
            if isinstance(error, OwnCodeError):
                raise
            raise OwnCodeError(f"{place}: {type(error).__name__}: {_said(error)}") from error


def check_own_code(
    needed: Mapping[str, str], given: Sequence[OwnCode], run: pathlib.Path, accept_changed: bool = False
) -> list[str]:
    """Compare the files that are given with those that a run was trained with, before any of them runs.

    Args:
        needed: SHA-256 by name, as the run noted them.
        given: files to be run.
        run: the run's folder.
        accept_changed: accept a file of the right name with another content.

    Returns:
        remarks for people on what differs.

    Raises:
        OwnCodeError: a file is missing, or its content differs and that was not accepted.
    """
    found = {code.name: code for code in given}
    for name, known in needed.items():
        kept = shlex.quote(str(run / CODE / name))
        if name not in found:
            raise OwnCodeError(
                f"{run} was trained with your own code in {name} (sha256 {known[:12]}), which never runs "
                f"by itself: add --use {name}, or read the run's copy and add --use {kept}"
            )
        if found[name].sha256 != known and not accept_changed:
            raise OwnCodeError(
                f"{found[name].path} has changed since {run} was trained (sha256 {known[:12]} then, "
                f"{found[name].sha256[:12]} now): use the run's copy, --use {kept}, or add "
                f"--accept-changed-code"
            )
    changed = [name for name, known in needed.items() if found[name].sha256 != known]
    more = [name for name in found if name not in needed]
    return [
        *(f"{name} has changed since this run was trained" for name in changed),
        *(f"this run was trained without {name}" for name in more),
    ]


def _compiled(code: OwnCode) -> CodeType:
    path = str(code.path)
    # Tracebacks show the lines that run, even if the file has changed since.
    text = code.content.decode("utf-8", errors="replace")
    linecache.cache[path] = (len(code.content), None, text.splitlines(keepends=True), path)
    try:
        return compile(code.content, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else error
        raise OwnCodeError(f"{path}{line}: {type(error).__name__}: {said}") from None


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "the file ended the program"
    return text_of(error)


def _is_taken(stem: str) -> bool:
    """True if a module of this name would hide an installed one."""
    if stem in sys.modules:
        return getattr(sys.modules[stem].__spec__, "loader_state", None) != _OURS
    spec = importlib.util.find_spec(stem)
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    origin = pathlib.Path((spec and spec.origin) or "")
    return stem in sys.stdlib_module_names or any(origin.is_relative_to(folder) for folder in installed)


def place_in_own_code(error: BaseException) -> str:
    """The line at which an error left a user's file, `my_layers.py:12`; empty if it passed no such file."""
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    paths = {spec.origin for spec in specs if getattr(spec, "loader_state", None) == _OURS and spec}
    for one in _chain(error):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            if frame.filename in paths:
                return f"{frame.filename}:{frame.lineno}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, the first cause first."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    yield from reversed(chain)
