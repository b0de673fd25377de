"""The rules of the house, read off the source: what imports what, who prints, what is documented."""

import ast
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest

import jlayers as jl
from jlayers.core.layer import layers

ROOT = pathlib.Path(jl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FOLDERS = {}  # one test for each: with one for each file, pytest itself takes seconds
for file in FILES:
    FOLDERS.setdefault(file.relative_to(ROOT).parts[0], []).append(file)

# A module imports from those before it in this list only. A folder that is named counts as one.
# fmt: off
ORDER = [
    "core/shapes", "core/errors", "core/sizes", "core/spelling", "core/elsewhere", "core/spec",
    "core/registry", "core/docstrings",
    "core/habits", "core/calls", "core/masks", "core/pair", "core/tree", "core/state", "core/lifting",
    "core/inference",
    "core/names", "core/notes", "core/penalties", "core/policy", "core/precision", "core/options",
    "core/structure", "core/written", "core/remaking", "core/base", "core/layer", "core/adapt",
    "initializers", "activations", "regularizers", "constraints",
    "core/wiring", "core/compose", "core/node_table", "core/operators", "core/node", "core/graph",
    "core/__init__",
    "ops", "layers", "transform", "inspect", "applications",
    "losses", "metrics", "optimizers", "preprocessing", "data", "interop", "saving", "train", "config",
    "runs", "experiments", "cli", "testing",
]
# fmt: on
JAX_ALONE = ORDER[: ORDER.index("transform") + 1]  # no optax, no YAML, no files
LIGHT = {"jax", "numpy", "jaxtyping", "jlayers"}
HEAVY = {
    "sklearn",
    "matplotlib",
    "pydantic",
    "ruamel",
    "rich",
    "safetensors",
    "h5py",
    "orbax",
    "grain",
    "PIL",
    "pyarrow",
    "keras",
    "pooch",
    "optuna",
}
MAY_BE_HEAVY = ("config", "cli")
MAY_DRAW_ON_A_TERMINAL = ("cli", "train/progress")


def place(path):
    """`layers/merging.py` is in `layers`, `core/masks.py` in `core/masks`, `__init__.py` nowhere."""
    return place_of(path.relative_to(ROOT).with_suffix("").parts)


def place_of(parts):
    """The entry of `ORDER` that a module or a name inside one belongs to; else its first part."""
    return next((p for n in (2, 1) if (p := "/".join(parts[:n])) in ORDER), parts[0] if parts else "")


def module_name(path):
    return ".".join(("jlayers", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node, inside_function=False):
    """Pairs of an imported module and whether the import waits in a function; `from a import b` is `a.b`."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, inside_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level and child.names[0].name == "*":  # a folder's __init__ gathers its files' names
                continue
            assert child.level == 0, f"line {child.lineno}: write imports in full, not relative"
            yield from ((f"{child.module}.{alias.name}", inside_function) for alias in child.names)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(child, inside_function or function)


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_modules_keep_the_rules(files):
    for path in files:
        keeps_the_rules(path)


def keeps_the_rules(path):
    tree, here = parsed(path), place(path)
    name = str(path.relative_to(ROOT))
    assert ast.get_docstring(tree), f"{name}: begin the module with a docstring that says its one idea"
    assert here in {*ORDER, "__init__", "__main__"}, f"{name}: give {here!r} a place in ORDER"
    for imported, waits in imports(tree):
        root, *rest = imported.split(".")
        if root == "jlayers" and here in ORDER:
            target = place_of(rest)
            assert target in ORDER[: ORDER.index(here) + 1], (
                f"{name} imports {imported}, which is not above it"
            )
        if here in JAX_ALONE:
            assert root in LIGHT or root in sys.stdlib_module_names, (
                f"{name} imports {imported}, not JAX alone"
            )
        if root in HEAVY and here not in MAY_BE_HEAVY:
            assert waits, f"{name} imports {imported} at the top: import it in the function that needs it"
        if root == "ruamel":
            assert here == "config", f"{name} imports {imported}: only config parses YAML"
        if root == "rich":
            assert name.startswith(MAY_DRAW_ON_A_TERMINAL), f"{name} imports {imported}: only cli prints"
    if here != "cli":
        for node in ast.walk(tree):
            printed = isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write")
            assert not printed, f"{name}, line {getattr(node, 'lineno', 0)} prints: only cli prints"


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_no_fact_is_read_off_a_name(files):
    pattern = r"(spec\.name|__name__) (==|!=|in|not in) (?!\"__main__\"|layers\b)"
    for path in files:
        asked = re.search(pattern, path.read_text("utf-8"))
        assert not asked, f"{path}: carry the fact as a value, such as a property of the Pair: {asked}"


# Errors of others that say what they are in their texts only.
MAY_TAKE_A_TEXT_APART = {
    "train/step": "JAX, of an array that was donated",
    "saving/checkpoints": "Orbax and TensorStore, of what could not be written",
}


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_no_fact_is_read_off_the_text_of_an_error(files):
    """Facts of an error are on its record (jlayers/core/errors.py); lines of its text may be shown."""
    for path in files:
        if module_name(path).removeprefix("jlayers.").replace(".", "/") not in MAY_TAKE_A_TEXT_APART:
            assert not list(texts_taken_apart(parsed(path))), path


def texts_taken_apart(tree):
    """The lines with `str(error).partition(...)`, `... in text_of(error)` and their like."""
    bound = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}

    def is_text(node):
        called = isinstance(node, ast.Call) and ast.unparse(node.func) in ("str", "text_of", "repr")
        return called and len(node.args) == 1 and ast.unparse(node.args[0]) in bound

    for node in ast.walk(tree):
        method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if method and is_text(node.func.value) and node.func.attr != "splitlines":
            yield node.lineno
        if isinstance(node, ast.Compare) and any(map(is_text, node.comparators)):
            yield node.lineno
        if method and ast.unparse(node.func.value) == "re" and any(map(is_text, node.args)):
            yield node.lineno


def test_the_reader_of_texts_sees_every_form():
    form = "try:\n    f()\nexcept ValueError as error:\n    {}\n"
    for line in ("str(error).startswith(x)", "'a' in str(error)", "re.match('a', text_of(error))"):
        assert list(texts_taken_apart(ast.parse(form.format(line))))
    for line in ("print(str(error))", "str(error).splitlines()", "x = f'{error}'"):
        assert not list(texts_taken_apart(ast.parse(form.format(line))))


@pytest.mark.parametrize("path", [p for p in FILES if p.stem == "__init__"], ids=str)
def test_no_module_takes_the_place_of_a_public_name(path):
    """Importing `jlayers.data.columns` sets `jlayers.data.columns`, over a function of that name."""
    modules = {child.stem for child in path.parent.iterdir() if child.suffix in ("", ".py")}
    package = ".".join(path.parent.relative_to(ROOT.parent).parts)
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.module != package:  # else it imports the module itself
            imported = set(str(node.module).split("."))  # these modules come first, and the name after them
            taken = {name.asname or name.name for name in node.names} & modules - imported
            assert not taken, f"{path}: {taken} of {node.module} and a module share a name: rename one"


def test_the_reader_of_imports_sees_every_form():
    source = """
import a.b as c
from d import e
if TYPE_CHECKING:
    import f
try:
    import g
except ImportError:
    def h():
        from i.j import k, l
"""
    assert list(imports(ast.parse(source))) == [
        ("a.b", False), ("d.e", False), ("g", False), ("i.j.k", True), ("i.j.l", True),
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "layers").rglob("*.py")), ids=lambda path: path.stem)
def test_layers_files_list_their_names(path):
    if path.stem == "__init__":
        return
    module = importlib.import_module(module_name(path))
    assert module.__all__ == sorted(module.__all__), "sort __all__"
    defined = {name for name in layers if layers[name].__module__ == module.__name__}
    if path.stem.startswith("_"):  # a helper
        assert not defined
    else:
        aliases = {n for n in module.__all__ if getattr(module, n).__name__ != n}
        assert set(module.__all__) - aliases == defined
        assert all(layers.find(alias) == getattr(module, alias).__name__ for alias in aliases)


OWN_LAYERS = [name for name in layers if layers[name].__module__.startswith("jlayers.")]


@pytest.mark.parametrize("name", OWN_LAYERS)
def test_registered_layer_is_public_and_documented(name):
    assert hasattr(jl, name), f"export {name} from jlayers"
    constructor = getattr(jl, name)
    text = inspect.getdoc(constructor) or ""
    assert ">>> " in text, f"{name}: add an example that runs"
    arguments = [
        a
        for a in inspect.signature(constructor).parameters
        if a not in ("name", "trainable", "frozen", "precision")
    ]
    if arguments:
        assert "Args:\n" in text, f"{name}: document its arguments under Args:"
        described = text.partition("Args:\n")[2]
        missing = [a for a in arguments if f"    {a}:" not in described and f"    *{a}:" not in described]
        assert not missing, f"{name}: document {', '.join(missing)} under Args:"


def test_importing_jlayers_loads_little():
    script = """
import json, sys
import jax, jaxtyping, numpy, optax
before = set(sys.modules)
import jlayers
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    _, added = json.loads(ran.stdout)
    foreign = {name.partition(".")[0] for name in added} - set(sys.stdlib_module_names) - {"jlayers"}
    assert foreign <= {"jax", "jaxlib", "numpy", "optax"}, (
        "import what is heavy in the functions that need it"
    )
    seldom = {"jax.extend", "pickletools", "urllib.request", *(f"jlayers.{name}" for name in jl._PACKAGES)}
    assert not seldom & set(added), "these are loaded at their first use"
    assert all(hasattr(jl, name) for name in jl.__all__)


DESIGN = ROOT.parent / "docs" / "design.md"
OPENED = ("core", "layers", "transform", "inspect")  # folders whose files the tree in design.md lists


def tree_in_design():
    """The tree of the house as `{folder: entries}`; the top level is ''."""
    block = DESIGN.read_text(encoding="utf-8").partition("## 5. The house")[2].partition("\n- ")[0]
    tree, folder, said = {"": []}, "", set()
    for line in block.splitlines():
        if not line.startswith("    "):
            continue
        name, _, text = line.strip().partition(" ")
        assert text.strip(), f"say in a few words what {name} holds"
        assert text.strip() not in said, f"{name} has the words of another entry: {text.strip()}"
        said.add(text.strip())
        if line.startswith("      "):
            tree.setdefault(folder, []).append(name)
        else:
            folder = name.rstrip("/")
            tree[""].append(name)
    return tree


def entries(folder):
    names = {p.name + "/" * p.is_dir() for p in folder.iterdir() if p.suffix == ".py" or p.is_dir()}
    return {name for name in names if not name.startswith("__")}


def test_the_tree_in_design_lists_the_house():
    tree = tree_in_design()
    assert set(tree) == {"", *OPENED}
    for folder, names in tree.items():
        assert len(names) == len(set(names))
        assert set(names) == entries(ROOT / folder), f"docs/design.md, section 5, {folder or 'top level'}"
    order = [entry.removeprefix("core/") + ".py" for entry in ORDER if entry.startswith("core/")]
    assert tree["core"] == [name for name in order if name != "__init__.py"], "as in ORDER"


def test_contributing_names_files_that_are_there():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.partition("| What | Files | Which |")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 9
    for what, count, which in (row.strip("| ").split(" | ") for row in rows):
        assert which.count(",") + 1 == int(count), what
        for file in re.findall(r"`([\w/]+/[\w.]*)`", which):
            assert (ROOT.parent / file).exists(), f"{what}: there is no {file}"
