"""A file from which Docker or Podman make a container that trains a run again."""

from __future__ import annotations

import os
import pathlib
import re
import shlex

from jlayers.experiments.record import read_run
from jlayers.runs import Run
from jlayers.runs.environment import source_hash
from jlayers.runs.files import ENVIRONMENT, REQUIREMENTS
from jlayers.saving.files import read_json, write_atomically

__all__ = ["write_container"]

CONTAINERFILE = "Containerfile"

_TEXT = """\
# Trains {name} again and compares the two, bit for bit. Build and run it in the folder of the run:
#
#   docker build -f {file}{context} -t {tag} .
#   docker run --rm{data} {tag}
#
# podman takes the same arguments.{note}
FROM python:{python}-slim
{install}COPY . /runs/{name}
WORKDIR /runs
CMD ["jlayers", "reproduce", {arguments}]
"""

_FROM_FOLDER = """
# jlayers {version} was installed from a folder. {which}
"""
_SAME = "The one above has the same state today; elsewhere, give a checkout of it."
_OTHER = "Give that folder, or a checkout of the same state,\n# in place of JLAYERS."


def write_container(run: str | os.PathLike[str], to: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Write a container file with the run's version of Python and its packages, and return its path.

    Data that the configuration names by a path are not copied; the first lines of the file say how to mount
    them.

    Args:
        run: the folder of a run.
        to: the path of the file; `Containerfile` in the run's folder if not given.

    Raises:
        FileNotFoundError: no run there.
        FileExistsError: the file exists already.
        ValueError: the run is of an older version, which did not note its packages.
    """
    old, record = Run(run), read_run(run)
    path = old.path / CONTAINERFILE if to is None else pathlib.Path(to)
    if path.exists():
        raise FileExistsError(f"{path} exists already: remove it, or choose another name")
    if not (old.path / REQUIREMENTS).is_file():
        raise ValueError(f"{run} has no {REQUIREMENTS}, as runs of older versions: train it again")
    requirements = (old.path / REQUIREMENTS).read_text("utf-8")
    environment = read_json(old.path / ENVIRONMENT)
    of_folder = not re.search(r"^jlayers( @|==)", requirements, re.MULTILINE)
    files = [value for value in record.settings.values() if isinstance(value, str) and _is_there(value)]
    use = [part for name in old.code for part in ("--use", f"{record.name}/code/{name}")]
    flags = "".join(f"ENV {name}={_quoted(value)}\n" for name, value in environment.get("flags", {}).items())
    install = f"{flags}COPY {REQUIREMENTS} /\nRUN pip install --no-cache-dir -r /{REQUIREMENTS}\n"
    if of_folder:
        install += "COPY --from=jlayers . /jlayers\nRUN pip install --no-cache-dir --no-deps /jlayers\n"
    checkout = _checkout(environment.get("source"))
    note = _FROM_FOLDER.format(
        version=environment["versions"]["jlayers"], which=_OTHER if checkout is None else _SAME
    )
    context = f"jlayers={checkout or 'JLAYERS'}"
    text = _TEXT.format(
        name=record.name,
        file=shlex.quote(CONTAINERFILE if to is None else str(path.resolve())),
        context=f" --build-context {shlex.quote(context)}" * of_folder,
        tag=re.sub(r"[^a-z0-9._-]+", "-", record.name.lower()).strip("-._") or "run",
        data="".join(f" -v {shlex.quote(f'{file}:{file}:ro')}" for file in files),
        note=note.rstrip() * of_folder,
        python=environment["python"],
        install=install,
        arguments=", ".join(_quoted(part) for part in (record.name, *use)),
    )
    write_atomically(path, text.encode())
    return path


def _checkout(source: str | None) -> pathlib.Path | None:
    """The folder that jlayers is loaded from, if it can be installed and is what the run was trained with."""
    folder = pathlib.Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() and source_hash() == source else None


def _is_there(value: str) -> bool:
    return os.path.isabs(value) and os.path.exists(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
