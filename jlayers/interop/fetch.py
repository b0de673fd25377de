"""Files by their address: kept in a cache, checked, continued where a download broke off.

The environment variable `JLAYERS_WEIGHTS` names a folder that has the files, or the address of a mirror.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import urllib.error
import urllib.request
from typing import Any

from jlayers.core.errors import about, of_file
from jlayers.interop.limits import refused_file

__all__ = ["VARIABLE", "cache_folder", "fetch"]

VARIABLE = "JLAYERS_WEIGHTS"
_SECONDS = 30  # without a byte, after which a connection counts as lost
_TRIES = 3


def cache_folder() -> pathlib.Path:
    """The folder of fetched files: `~/.cache/jlayers/weights`, or under `XDG_CACHE_HOME`."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jlayers" / "weights"


def fetch(url: str, digest: str | None, folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The file at an address, from the cache if it is there, else by download.

    A download that breaks off leaves what it has in the cache, and the next call continues from there. A file
    counts only once its hash is right.

    Args:
        url: the address.
        digest: MD5 (32 hexadecimal digits) or SHA-256 (64) of the content; None if it is not known.
        folder: of the cache; by default `cache_folder()`.

    Returns:
        The path of the file.

    Raises:
        ConnectionError: there is no network, or the server does not give the file; the text says where to
            put a file that was brought by hand.
        FileNotFoundError: `JLAYERS_WEIGHTS` is a folder without the file.
        ValueError: the content has another hash.
        ImportError: pooch is not installed: `pip install 'jlayers[pretrained]'`.
    """
    name = url.rpartition("/")[2]
    if not name or name in (".", ".."):
        raise about(
            ValueError(f"expected an address that ends in the name of a file, received url={url!r}"), url=url
        )
    place = os.environ.get(VARIABLE, "")
    if place and "://" not in place:
        return _in_folder(pathlib.Path(place).expanduser(), name, digest)
    target = pathlib.Path(folder or cache_folder()) / name
    if target.is_file() and _is_right(target, digest):
        return target
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{name} is fetched by pooch: pip install 'jlayers[pretrained]', or put the file at {target}"
        ) from None
    address = f"{place.rstrip('/')}/{name}" if place else url
    known = f"{_algorithm(digest)}:{digest}" if digest else None
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # only the command line prints
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path = pooch.retrieve(address, known, name, target.parent, downloader=_download)
    except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
        raise ConnectionError(
            f"{address} cannot be fetched ({getattr(error, 'reason', error)}): check the network; or put the "
            f"file at {target}; or set {VARIABLE} to a folder that has it, or to a mirror"
        ) from error
    except ValueError as error:  # of pooch, which has removed what it has fetched
        raise ValueError(
            f"{address}: expected the published file, with the {_algorithm(digest).upper()} {digest}, "
            f"received another one; try again, or use another mirror"
        ) from error
    finally:
        logger.setLevel(level)
    return pathlib.Path(path)


def _in_folder(folder: pathlib.Path, name: str, digest: str | None) -> pathlib.Path:
    path = folder / name
    if not path.is_file():
        error = FileNotFoundError(
            f"{VARIABLE}={folder} has no file {name}: put it there, or unset the variable"
        )
        raise of_file(error, path)
    if not _is_right(path, digest):
        raise refused_file(
            path,
            f"expected the published file, with the hash {digest}, received another one",
            "fetch it again",
        )
    return path


def _algorithm(digest: str | None) -> str:
    return "md5" if digest and len(digest) == 32 else "sha256"


def _is_right(path: pathlib.Path, digest: str | None) -> bool:
    if digest is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, _algorithm(digest)).hexdigest() == digest


def _download(fname: str, action: Any, pooch: Any, *, check_only: bool | None = None) -> None:
    """Write what is at the address `fname` to the file `action`, for pooch, whose names these are.

    What breaks off is kept beside it.
    """
    part = pathlib.Path(action).parent / f"{fname.rpartition('/')[2]}.part"
    for left in reversed(range(_TRIES)):
        try:
            _continue(fname, part)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there is longer than the file
                part.unlink(missing_ok=True)
            elif error.code < 500:
                raise
            if not left:
                raise
        except OSError:
            if not left:
                raise
    os.replace(part, action)


def _continue(url: str, part: pathlib.Path) -> None:
    """Fetch what is missing in the file; all of it where the server cannot begin in the middle."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        length = answer.headers.get("Content-Length")
        with part.open("ab" if goes_on else "wb") as file:
            before = file.tell()
            shutil.copyfileobj(answer, file)
            if length is not None and file.tell() - before != int(length):
                raise ConnectionResetError(f"{url}: the connection broke before the end of the file")
