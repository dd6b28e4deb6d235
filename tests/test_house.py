"""House rules of the package that a program can check: imports, floors, names, options."""

import ast
import graphlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilefold

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "tilefold"

# The floors of the package, as ARCHITECTURE.md draws them. A file may import from floors below its
# own, and from folders of its own floor as long as folders do not import each other in a circle.
FLOORS = [
    {"_native", "reference"},
    {
        "devices",
        "integers",
        "progress",
        "ragged_lists",
        "table_columns",
        "testing",
        "threads",
        "version",
        "wrapping",
    },
    {"arrays", "extension"},
    {"placement"},
    {"files", "torch_ops"},
    {"distributed"},
    {"activations", "losses", "retrieval"},
    {"__init__"},
    {"data", "models"},
    {"confidence", "evaluate", "exposure", "mining", "report", "scale", "train", "world"},
    {"aar", "invar", "mechanisms"},
    {"studies", "service"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
# One package for each system that the library builds; what two of them need is on a floor below.
SYSTEMS = {"aar", "invar", "mechanisms"}
# Correct is defined without the code that it judges.
STANDS_ALONE = {"_native", "reference"}

BANNED = {"utils", "helpers", "common", "misc", "base", "manager", "impl", "new", "v2"}


def sources(folder: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.rglob(pattern))


def named(folder: Path, *patterns: str):
    """A parametrisation over files that shows their names."""
    files = sources(folder, *patterns)
    names = [path.relative_to(folder).as_posix() for path in files]
    return pytest.mark.parametrize("path", files, ids=names)


def dotted(path: Path) -> str:
    """The name of a file of the package, as in tilefold.<name>; a package's for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts if len(parts) == 1 or parts[-1] != "__init__" else parts[:-1])


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports, relative ones as tilefold.*; at its top level only, if asked."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = []
            if node.level:
                above = path.parents[node.level - 1].relative_to(PACKAGE.parent)
                package = list(above.parts)
            module = ".".join(filter(None, [*package, node.module]))
            if not (PACKAGE.parent / module.replace(".", "/") / "__init__.py").exists():
                yield module
            else:
                yield from (f"{module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Names of modules of the package that a file imports; __init__ for the package itself."""
    known = {dotted(file) for file in sources(PACKAGE, "*.py")} | {"_native"}
    found = set()
    for module in imports(path):
        package, _, name = module.partition(".")
        if package == "tilefold":
            while name and name not in known:
                name = name.rpartition(".")[0]
            found.add(name or "__init__")
    return found - {dotted(path)}


def floor_of(name: str) -> int:
    """A package lives on one floor as a whole."""
    for floor, modules in enumerate(FLOORS):
        if name.partition(".")[0] in modules:
            return floor
    pytest.fail(f"say in FLOORS of {Path(__file__).name} on which floor {name} is")


@named(PACKAGE, "*.py")
def test_imports_point_down(path):
    here = dotted(path)
    for name in ours(path):
        assert floor_of(name) <= floor_of(here), f"{here} must not import {name}"
    if here in STANDS_ALONE:
        assert not ours(path)


def test_nothing_imports_in_a_circle():
    graph = {dotted(path): ours(path) for path in sources(PACKAGE, "*.py")}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_folders_do_not_import_each_other_in_a_circle():
    folders: dict[str, set[str]] = {}
    for path in sources(PACKAGE, "*.py"):
        here = dotted(path).partition(".")[0]
        folders.setdefault(here, set()).update(name.partition(".")[0] for name in ours(path))
        folders[here].discard(here)
    list(graphlib.TopologicalSorter(folders).static_order())


@named(PACKAGE, "*.py")
def test_systems_do_not_import_each_other(path):
    here = dotted(path).partition(".")[0]
    if here in SYSTEMS:
        assert not {name.partition(".")[0] for name in ours(path)} & (SYSTEMS - {here})


def test_a_file_name_is_used_once_in_the_package():
    names = [path.name for path in sources(PACKAGE, "*.py") if path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_tests_have_a_folder_for_each_folder_of_the_package():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders - {path.name for path in (ROOT / "tests").iterdir()} == {"torch_ops"}


def test_floors_name_modules_that_exist():
    known = {dotted(path).partition(".")[0] for path in sources(PACKAGE, "*.py")} | {"_native"}
    assert set().union(*FLOORS) == known


@pytest.mark.parametrize(("here", "there"), [("tests", "bench"), ("bench", "tests")])
def test_tests_and_benchmarks_do_not_import_each_other(here, there):
    """Nor one test another; what several need has a file without tests."""
    own, others = ({path.stem for path in sources(ROOT / name, "*.py")} for name in (here, there))
    cases = {name for name in own if name.startswith("test_")}
    for path in sources(ROOT / here, "*.py"):
        found = {name.partition(".")[0] for name in imports(path)}
        assert not found & (cases | (others - own) | {"tests", "bench", "conftest"}), path


@named(PACKAGE, "*.py")
def test_extras_are_imported_where_they_are_used(path):
    """Only what runs under torch anyway may import it when it is imported."""
    allowed = set(sys.stdlib_module_names) | {"numpy", "safetensors", "tilefold"}
    if dotted(path).partition(".")[0] in {
        "aar",
        "activations",
        "confidence",
        "distributed",
        "integrations",
        "invar",
        "losses",
        "mechanisms",
        "mining",
        "models",
        "studies",
        "torch_ops",
        "train",
        "world",
    }:
        allowed |= {"torch"}
    # The __init__ of train says what to install; a trainer and a log of training extend classes.
    trainers = {"invar.generation.generator_arguments", "invar.generation.generator_trainer"}
    extending = trainers | {"cli.training_log"}
    if dotted(path).startswith("train.") or dotted(path) in extending:
        allowed |= {"transformers"}
    if dotted(path).startswith("service."):
        allowed |= {"prometheus_client", "pydantic", "starlette", "uvicorn"}
    if dotted(path).startswith("report"):
        allowed |= {"jinja2", "matplotlib"}
    if dotted(path).partition(".")[0] in {"confidence", "mechanisms", "studies"}:
        allowed |= {"scipy", "sklearn", "transformers"}
    assert {module.partition(".")[0] for module in imports(path, top_level=True)} <= allowed


def python(code: str) -> str:
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    child = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_importing_tilefold_imports_numpy_and_safetensors_only():
    code = "import json, sys; before = set(sys.modules); import tilefold;"
    code += "json.dump(sorted(set(sys.modules) - before), sys.stdout)"
    loaded = {name.partition(".")[0] for name in json.loads(python(code))}
    assert loaded - set(sys.stdlib_module_names) <= {"numpy", "safetensors", "tilefold"}


def test_a_missing_extension_says_how_to_build_it():
    code = "import sys; sys.modules['tilefold._native'] = None\n"
    code += "try: import tilefold\nexcept ImportError as error: print(error)"
    assert "pip install ." in python(code)


@named(PACKAGE, "*.py")
def test_progress_alone_draws_bars(path):
    if dotted(path) != "progress":
        assert not {"tqdm"} & {module.partition(".")[0] for module in imports(path)}


@named(PACKAGE, "*.py")
def test_nothing_is_ever_unpickled(path):
    assert not {"pickle", "dill", "cloudpickle", "joblib", "shelve"} & set(imports(path))
    text = path.read_text(encoding="utf-8")
    assert "allow_pickle=True" not in text
    assert "weights_only=False" not in text


def test_no_file_has_a_name_that_says_nothing():
    folders = ["csrc", "cuda", "python", "tests", "bench", "examples", "docs"]
    for path in (file for folder in folders for file in (ROOT / folder).rglob("*")):
        if not {"__pycache__", ".hypothesis"} & set(path.parts):
            words = set(re.split(r"[_.\-]", path.relative_to(ROOT).name.lower()))
            assert not words & BANNED, f"{path.relative_to(ROOT)}: name what it is about"


def test_every_search_has_the_same_options_by_keyword():
    options = []
    for search in (tilefold.search, tilefold.FlatIndex.search, tilefold.HnswIndex.search):
        parameters = inspect.signature(search).parameters.values()
        assert all((p.default is p.empty) == (p.kind is not p.KEYWORD_ONLY) for p in parameters)
        options.append({p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY})
    assert options[0].pop("metric") == "ip"  # an index has one for all its searches
    assert options[0] == options[1]
    assert options[0].items() <= options[2].items()
    streamed = inspect.signature(tilefold.search_shards).parameters
    assert options[0].items() <= {p.name: p.default for p in streamed.values()}.items()
