"""The house rules that a program can check: imports, includes, exported symbols, names."""

import ast
import graphlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilefold
from tilefold import _native

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE = ROOT / "csrc", ROOT / "python" / "tilefold"

# The floors of the package, as ARCHITECTURE.md draws them. A file may import from floors below its
# own, and from folders of its own floor as long as folders do not import each other in a circle.
FLOORS = [
    {"_native", "reference"},
    {"devices", "progress", "ragged_lists", "testing", "threads", "version"},
    {"arrays"},
    {"files", "torch_ops"},
    {"distributed"},
    {"activations", "losses", "retrieval"},
    {"__init__"},
    {"data", "models"},
    {"evaluate", "mining", "report", "train", "world"},
    {"mechanisms"},
    {"studies"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
# Correct is defined without the code that it judges.
STANDS_ALONE = {"_native", "reference"}

# What the files of a C++ folder may include besides their own folder: folders and files of csrc, as
# in ARCHITECTURE.md. A file that is named has a list of its own.
TOP = {"check.h", "device_names.h", "kernels.h", "parallel.h", "pulse.h", "view.h"}
CPP_MAY_INCLUDE = {
    "bind": {"ops", "contract", "check.h", "parallel.h", "pulse.h", "view.h"},
    "ops": {"contract", *TOP},
    # Concerns the rows of the CPU, below the op table.
    "ops/rows.cpp": {"cpu/host", "cpu/rows", "cpu/lanes", "contract", *TOP},
    "kernels.h": {"contract", "check.h", "device_names.h", "pulse.h"},
    "kernels.cpp": {"kernels.h"},
    "view.h": {"contract", "dlpack.h"},
    "view.cpp": {"view.h", "check.h", "device_names.h"},
    "device_names.h": {"contract"},
    "parallel.cpp": {"parallel.h", "check.h"},
    "cpu/host": {"cpu/rows", "cpu/lanes", "contract", "parallel.h", "pulse.h"},
    # Enters the op table.
    "cpu/host/implementation.cpp": {"kernels.h"},
    "cpu/rows": {"cpu/lanes", "contract"},
    "cpu/rows/table.cpp": {"check.h"},
    "cpu/lanes": {"contract"},
    "contract": set(),
}
BANNED = {"utils", "helpers", "common", "misc", "base", "manager", "impl", "new", "v2"}


def sources(folder: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.rglob(pattern))


def named(folder: Path, *patterns: str):
    """A parametrisation over files that shows their names."""
    files = sources(folder, *patterns)
    names = [path.relative_to(folder).as_posix() for path in files]
    return pytest.mark.parametrize("path", files, ids=names)


# ---- Python --------------------------------------------------------------------------------------


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
        "activations",
        "distributed",
        "integrations",
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
    # The __init__ of train says what to install; the log of a training extends callbacks.
    if dotted(path).startswith("train.") or dotted(path) == "cli.training_log":
        allowed |= {"transformers"}
    if dotted(path).startswith("report"):
        allowed |= {"jinja2", "matplotlib"}
    if dotted(path).partition(".")[0] in {"mechanisms", "studies"}:
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


# ---- C++ -----------------------------------------------------------------------------------------


def code_of(path: Path) -> str:
    """A C++ file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def included(path: Path) -> tuple[set[str], set[str]]:
    """What a C++ file includes: files of ours relative to csrc, and headers of others."""
    code = code_of(path)
    mine = set(re.findall(r'#\s*include\s+"([^"]+)"', code))
    return mine, set(re.findall(r"#\s*include\s+<([^>]+)>", code))


CPP = sources(CSRC, "*.h", "*.cpp")
LANES = [path for path in CPP if path.parent == CSRC / "cpu" / "lanes"]
BY_NAME = pytest.mark.parametrize(
    "path", CPP, ids=[path.relative_to(CSRC).as_posix() for path in CPP]
)


def folder_of(name: str) -> str:
    """The folder of a file of csrc; a file at the top stands for itself."""
    folder = name.rpartition("/")[0]
    return folder or name


@BY_NAME
def test_includes_follow_the_directions(path):
    here = path.relative_to(CSRC).as_posix()
    allowed = CPP_MAY_INCLUDE.get(here, CPP_MAY_INCLUDE.get(folder_of(here), set()))
    for name in included(path)[0]:
        assert (CSRC / name).is_file(), f"{here} includes {name} by another path than from csrc"
        same = folder_of(name) == folder_of(here)
        assert same or folder_of(name) in allowed, f"{here} must not include {name}"


def test_includes_form_no_circle():
    graph = {path.relative_to(CSRC).as_posix(): included(path)[0] for path in CPP}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_directions_name_what_exists():
    names = CPP_MAY_INCLUDE.keys() | set().union(*CPP_MAY_INCLUDE.values())
    assert not [name for name in names if not (CSRC / name).exists()]


@pytest.mark.parametrize(
    "path",
    [path for path in CPP if path.parent in {CSRC / "cpu" / "lanes", CSRC / "contract"}],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_kernels_and_contracts_use_no_templates_of_the_standard_library(path):
    """Compiled for a row, they would become shared symbols with the row's instructions."""
    _, others = included(path)
    allowed = {"math.h", "string.h", "cstdint"}
    if path.name.startswith(("lanes_", "tile_", "emulated_")):
        allowed |= {name for name in others if name.startswith(("simde/", "immintrin.h", "arm_"))}
    assert others <= allowed


def test_the_table_of_rows_uses_no_templates_of_the_standard_library():
    for name in ("row.h", "table.h", "supports.h"):
        assert not included(CSRC / "cpu" / "rows" / name)[1]


@BY_NAME
def test_python_is_touched_at_the_border_only(path):
    _, others = included(path)
    if path.parent.name != "bind" and path.name not in {"view.h", "view.cpp"}:
        assert not {name for name in others if name.startswith(("pybind11", "Python"))}
        # The GIL, too, is taken and given back where Python calls in.
        assert not re.search(r"\bpy(bind11)?::|\bPy[A-Z_]", code_of(path))


@BY_NAME
def test_intrinsics_live_in_lanes_and_tiles(path):
    if not path.name.startswith(("lanes_", "tile_", "emulated_")):
        assert not re.search(r"\b_mm\d*_|\b__m(128|256|512)|\basm\b|__asm__", code_of(path))
        assert "intrin.h" not in code_of(path)


@BY_NAME
def test_cpu_features_are_asked_for_in_one_place(path):
    if path.name != "supports.cpp":
        assert not re.search(r"cpu_supports|cpuid|getauxval|__AVX", code_of(path))


@BY_NAME
def test_checks_alone_throw(path):
    """Passing on an exception of Python or of another thread is not throwing one."""
    thrown = re.findall(r"\bthrow\b\s*([^;]*);", code_of(path))
    if path.name != "check.h":
        assert set(thrown) <= {"", "py::error_already_set()"}
    if path in LANES:
        assert not re.search(r"\b(throw|new|malloc|free|delete|abort|exit|assert)\b", code_of(path))


@BY_NAME
def test_the_pool_alone_starts_threads(path):
    code = code_of(path)
    if path.name != "parallel.cpp":
        assert not re.search(r"std::(thread\b(?!::id)|jthread|async|execution)|pthread_", code)
    assert not re.search(r"#\s*pragma\s+omp|omp\.h", code)


@BY_NAME
def test_the_library_never_prints(path):
    assert not re.search(r"std::(cout|cerr|clog)|\bf?printf\b|\bputs\b|py::print", code_of(path))


def test_the_build_is_for_no_machine_in_particular():
    text = (ROOT / "CMakeLists.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    assert not re.search(r"m(arch|tune|cpu)=native|openmp|-ffast-math|-Ofast", text, re.IGNORECASE)


def test_an_object_of_a_row_defines_one_symbol():
    """The linker could keep another symbol's copy, with the row's instructions, for all callers."""
    nm = shutil.which("nm")
    objects = [
        path
        for path in (ROOT / "build").rglob("*.o")
        if re.search(r"csrc/cpu/rows/(scalar|avx\w*)\.cpp\.o$", path.as_posix())
    ]
    if nm is None or not objects:
        pytest.skip("needs nm and a build folder in the checkout")
    for path in objects:
        command = [nm, "-g", "-C", "--defined-only", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        symbols = [line.split(maxsplit=2)[2] for line in lines.splitlines()]
        if not any("asan" in name for name in symbols):
            assert symbols == [f"tilefold::cpu::{path.name.partition('.')[0]}_row"], path


def test_only_the_entry_point_is_exported():
    """Everything else could clash with another library; weak symbols are the C++ runtime's own."""
    nm = shutil.which("nm")
    if nm is None or sys.platform != "linux":
        pytest.skip("needs nm and an ELF library")
    command = [nm, "-D", "-C", "--defined-only", str(_native.__file__)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split(maxsplit=2)[1:] for line in lines]
    if any("asan" in name for _, name in symbols):
        pytest.skip("the sanitizer exports symbols of its own")
    assert [name for kind, name in symbols if kind in "TDBRSG"] == ["PyInit__native"]
    assert not [name for _, name in symbols if re.search("tilefold|pybind11", name)]


# ---- names ---------------------------------------------------------------------------------------


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


# ---- the stub of the extension -------------------------------------------------------------------

Signature = list[tuple[str, str]]  # names, with the text of their defaults


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "_native.pyi").read_text(encoding="utf-8"))


def signature_of_stub(node: ast.FunctionDef) -> Signature:
    a = node.args
    defaults: list[ast.expr | None] = [None] * (len(a.args) - len(a.defaults)) + [*a.defaults]
    pairs = [*zip(a.args, defaults, strict=True)]
    keywords = [*zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    as_text = [(arg.arg, ast.unparse(value) if value else "") for arg, value in pairs + keywords]
    return as_text[: len(pairs)] + ([("*", "")] if keywords else []) + as_text[len(pairs) :]


def signature_of_docstring(function: object) -> Signature:
    """pybind11 writes `name(argument: type = default, ...) -> type`; no default has a comma."""
    line = str(function.__doc__).partition("\n")[0]
    inside = line[line.index("(") + 1 : line.rindex(") ->")]
    found = []
    for argument in filter(None, inside.split(", ")):
        name, _, rest = argument.partition(":")
        found.append((name, rest.partition(" = ")[2]))
    return found


def test_the_stub_names_what_the_extension_has():
    functions = {node.name for node in stub().body if isinstance(node, ast.FunctionDef)}
    constants = {node.target.id for node in stub().body if isinstance(node, ast.AnnAssign)}
    public = {name for name in dir(_native) if not name.startswith("_")}
    assert {name for name in public if callable(getattr(_native, name))} == functions
    assert public - functions == constants
    assert all(type(getattr(_native, name)) is int for name in constants)


@pytest.mark.parametrize(
    "node", [n for n in stub().body if isinstance(n, ast.FunctionDef)], ids=lambda node: node.name
)
def test_the_stub_has_the_arguments_of_the_extension(node):
    assert signature_of_stub(node) == signature_of_docstring(getattr(_native, node.name))
