"""Files that are written whole or not at all, and JSON files that may be damaged."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator
from typing import IO, Any

from jlayers.core.errors import of_file

__all__ = [
    "Lock",
    "damaged",
    "is_locked",
    "locked",
    "naming",
    "new_folder",
    "overwrite",
    "read_json",
    "replacing",
    "sha256",
    "sweep",
    "write_atomically",
]

_PART = ".part"  # ends the name of what is still being written
_HOUR = 3600.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends; after an error `path` is as before.

    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> [(path.name, path.read_text()) for path in folder.iterdir()]
    [('a.txt', 'whole')]
    """
    path = pathlib.Path(path)
    with naming(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=_PART)
    try:
        with naming(path):
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # after os.replace it has gone, even if a signal ended the block
            os.unlink(temporary)


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Errors of the system name this file, where they would name none or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Give the file this content or, if anything fails on the way, leave it as it was."""
    with replacing(path) as file:
        file.write(content)


def overwrite(path: str | os.PathLike[str], content: bytes) -> None:
    """Write into the file as it lies on the disk.

    This needs no free space while the content is no longer than the file. A power failure can tear it.
    """
    with pathlib.Path(path).open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def locked(path: pathlib.Path, refusal: str) -> int | None:
    """The handle of a file that only one process at a time can lock; to close it lets others in.

    The system opens the lock when the process ends, whatever ends it. None where there are no such locks.

    Raises:
        BlockingIOError: another process holds it; `refusal` says so.
        OSError: the file cannot be opened for writing.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    with naming(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(5):  # `is_locked` holds it for a moment
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if attempt < 4:
                time.sleep(0.02)
        except OSError:  # a file system without locks
            os.close(handle)
            return None
    os.close(handle)
    raise BlockingIOError(f"{refusal}: wait until it has ended, or choose another folder")


def is_locked(path: pathlib.Path) -> bool | None:
    """True if a process holds the lock of a file; None if that cannot be told."""
    if not path.is_file():
        return None
    try:
        handle = locked(path, "")
    except BlockingIOError:
        return True
    except OSError:
        return None
    if handle is None:
        return None
    os.close(handle)
    return False


class Lock:
    """A lock that an object may hold until it lets it go, is no longer there, or its process ends."""

    def __init__(self) -> None:
        self._let_go: weakref.finalize[..., Any] | None = None

    @property
    def held(self) -> bool:
        """True if this object holds it; never true where there are no such locks."""
        return self._let_go is not None

    def take(self, path: pathlib.Path, refusal: str) -> None:
        """Lock a file, if nothing is held yet; see `locked`.

        Raises:
            BlockingIOError: another process holds it; `refusal` says so.
        """
        if self._let_go is None and (handle := locked(path, refusal)) is not None:
            self._let_go = weakref.finalize(self, os.close, handle)

    def release(self) -> None:
        """Let others have it."""
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go()


@contextlib.contextmanager
def new_folder(path: pathlib.Path, reason: str) -> Iterator[pathlib.Path]:
    """A folder that gets the name `path` when the block ends; after an error nothing is left of it.

    >>> place = pathlib.Path(tempfile.mkdtemp()) / "new"
    >>> with new_folder(place, "it is kept") as folder:
    ...     _ = (folder / "a.txt").write_text("whole")
    ...     place.exists()
    False
    >>> [file.name for file in place.iterdir()]
    ['a.txt']

    Raises:
        FileExistsError: there is something at `path` already, and `reason`.
    """
    taken = FileExistsError(f"{path} exists already, and {reason}: choose another folder")
    if os.path.lexists(path):
        raise taken
    for old in path.parent.glob(f".{glob.escape(path.name)}-*{_PART}"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _HOUR:
                shutil.rmtree(old)
    folder = path.parent / f".{path.name}-{uuid.uuid4().hex[:8]}{_PART}"
    folder.mkdir()
    try:
        yield folder
        try:
            folder.rename(path)
        except OSError:
            raise (taken if os.path.lexists(path) else FileNotFoundError(f"{path} cannot be made")) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sweep(folder: pathlib.Path) -> None:
    """Remove what processes that were killed in the middle of a write have left."""
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            path.unlink()


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged; the message names it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    if not isinstance(found, dict):
        raise damaged(path, f"it holds a {type(found).__name__}, not an object")
    return found


def damaged(path: pathlib.Path, reason: object) -> ValueError:
    """The error of a file that cannot be read."""
    error = ValueError(f"{path} is damaged ({reason}): restore it from a copy, or train again")
    return of_file(error, path)
