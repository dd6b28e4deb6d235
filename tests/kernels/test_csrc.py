"""House rules of csrc that a program can check: includes, intrinsics, threads, exported symbols."""

import graphlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tilefold import _native

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"

# What the files of a C++ folder may include besides their own folder: folders and files of csrc, as
# in ARCHITECTURE.md. A file that is named has a list of its own.
TOP = {"check.h", "device_names.h", "kernels.h", "parallel.h", "pulse.h", "workspace.h", "view.h"}
CPP_MAY_INCLUDE = {
    "bind": {"ops", "contract", "check.h", "parallel.h", "pulse.h", "workspace.h", "view.h"},
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


# The same for cuda/, whose files are named from the root of the repository.
CUDA = ROOT / "cuda"
CUDA_MAY_INCLUDE = {
    "emulation": {"check.h", "parallel.h"},
    "platform": {"cuda/emulation", "contract", "check.h", "workspace.h"},
    "search": {"cuda/platform", "contract", "check.h", "pulse.h"},
    "losses": {"cuda/platform", "contract", "check.h", "pulse.h"},
    "statistics": {"cuda/platform", "contract", "pulse.h"},
    "implementation.cu": {"cuda/search", "cuda/losses", "cuda/statistics", "kernels.h"},
}


def code_of(path: Path) -> str:
    """A C++ file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def included(path: Path) -> tuple[set[str], set[str]]:
    """What a C++ file includes: files of ours relative to csrc, and headers of others."""
    code = code_of(path)
    mine = set(re.findall(r'#\s*include\s+"([^"]+)"', code))
    return mine, set(re.findall(r"#\s*include\s+<([^>]+)>", code))


CPP = sorted(path for pattern in ("*.h", "*.cpp") for path in CSRC.rglob(pattern))
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


CUDA_FILES = sorted(
    path for path in CUDA.rglob("*.*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"}
)


@pytest.mark.parametrize(
    "path", CUDA_FILES, ids=[p.relative_to(CUDA).as_posix() for p in CUDA_FILES]
)
def test_includes_of_cuda_follow_the_directions(path):
    here = path.relative_to(CUDA).as_posix()
    allowed = CUDA_MAY_INCLUDE[folder_of(here)]
    for name in included(path)[0]:
        assert (ROOT / name).is_file() or (CSRC / name).is_file(), f"{here} includes {name}"
        same = folder_of(name) == folder_of(f"cuda/{here}")
        assert same or folder_of(name) in allowed, f"{here} must not include {name}"
    code = code_of(path)
    if folder_of(here) not in {"platform", "emulation"}:
        assert not re.search(r"\basm\b|cuda[A-Z]\w+\(|<<<|TILEFOLD_EMULATE_CUDA", code)


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
    """And in the file that asks for the processor's features."""
    if path.name != "supports.cpp" and not path.name.startswith(("lanes_", "tile_", "emulated_")):
        assert not re.search(r"\b_mm\d*_|\b__m(128|256|512)|\basm\b|__asm__", code_of(path))
        assert not re.search(r"mmintrin\.h|arm_neon\.h|\bv\w+_[suf]\d+\(", code_of(path))


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
