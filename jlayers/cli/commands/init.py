"""Look at your data and write a first configuration for them, with comments."""

from __future__ import annotations

import argparse
import pathlib
import shlex

from jlayers.cli.own_code import use_code
from jlayers.cli.terminal import console

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a .csv, .parquet or .npz file, or a folder with a subfolder of pictures or .txt files for "
        "each class",
    )
    parser.add_argument(
        "--output", metavar="FILE.yaml", help="the file to write (default: the name of DATA, in this folder)"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column of a .csv or .parquet file to predict")
    parser.add_argument(
        "--task",
        choices=["classification", "regression"],
        help="whether to predict classes or numbers (default: by the values of the target)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that exists")


def main(arguments: argparse.Namespace) -> None:
    from jlayers.config import loads
    from jlayers.experiments.starter import starter
    from jlayers.runs.environment import first_device
    from jlayers.saving.files import write_atomically

    use_code(arguments)
    data = pathlib.Path(arguments.data)
    path = pathlib.Path(arguments.output or f"{data.resolve().stem}.yaml")
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(f"expected a .yaml file to write, received --output {path}")
    if (path.exists() or path.is_symlink()) and not arguments.force:
        raise FileExistsError(f"{path} exists already: choose another name by --output, or pass --force")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it first")
    first_device()
    made = starter(data, path.parent, shlex.quote(str(path)), arguments.target, arguments.task)
    loads(made.text, base=path.parent).check()  # what is written trains
    write_atomically(path, made.text.encode())
    out = console()
    for sentence in made.seen:
        out.print(sentence, highlight=False)
    out.print(
        f"wrote {path}; train with: jlayers train {shlex.quote(str(path))}", style="dim", highlight=False
    )
