"""CUDA kernels compile for every GPU that wheels are for, use tensor cores, and spill nothing."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "cuda").rglob("*.cu"))
ARCHITECTURES = ["sm_80", "sm_89", "sm_90a"]
NVCC = os.environ.get("CUDACXX") or shutil.which("nvcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="no CUDA compiler"),
]


class Kernel(NamedTuple):
    """What the assembler reports of a kernel, and its machine code in words."""

    name: str
    architecture: str
    registers: int
    stack: int
    spilled: int
    code: str


def disassembler() -> Path | None:
    """Returns the cuobjdump of PyPI's package; it finds nvdisasm beside it."""
    try:
        files = importlib.metadata.files("nvidia-cuda-cuobjdump") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()) for file in files if file.name == "cuobjdump"), None)


CUOBJDUMP = disassembler()
needs_disassembler = pytest.mark.skipif(
    CUOBJDUMP is None, reason="nvidia-cuda-cuobjdump is not installed"
)


def output_of(command: list[object]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def nvcc(source: Path, *options: object) -> str:
    include = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    fixed = ["-std=c++17", "-O3", "--expt-relaxed-constexpr"]
    return output_of([NVCC, *fixed, *include, *options, source])


def report(source: Path, architecture: str, folder: Path) -> list[Kernel]:
    binary = folder / f"{source.stem}.{architecture}.cubin"
    log = nvcc(source, f"-arch={architecture}", "-cubin", "-Xptxas=-v", "-o", binary)
    found = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        log,
        re.DOTALL,
    )
    codes = {}
    if CUOBJDUMP is not None:
        functions = output_of([CUOBJDUMP, "-sass", binary]).split("Function : ")[1:]
        codes = {code.split(maxsplit=1)[0]: code for code in functions}
        assert codes.keys() >= {name for name, *_ in found}
    return [
        Kernel(
            name,
            made_for,
            int(registers),
            int(stack),
            int(stores) + int(loads),
            codes.get(name, ""),
        )
        for name, made_for, stack, stores, loads, registers in found
    ]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cubin")
    jobs = [(s, a, folder) for s in SOURCES for a in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        return [kernel for part in pool.map(lambda job: report(*job), jobs) for kernel in part]


def test_every_kernel_compiles_for_every_architecture(kernels):
    names = {a: {k.name for k in kernels if k.architecture == a} for a in ARCHITECTURES}
    assert names["sm_80"] == names["sm_89"] == names["sm_90a"]
    sources = "".join(p.read_text() for p in (ROOT / "cuda").rglob("*.cu*"))
    declared = set(
        re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(", sources)
    )
    # Names are mangled with their length before them.
    compiled = {name for name in declared for k in kernels if f"{len(name)}{name}" in k.name}
    assert compiled == declared


def test_no_kernel_spills_registers(kernels):
    assert [k[:5] for k in kernels if k.spilled] == []


@pytest.mark.parametrize("name", ["filter", "filter_by_groups", "multiply", "multiply_as_bf16"])
def test_hot_kernels_keep_their_sums_in_registers(kernels, name):
    hot = [k for k in kernels if re.search(rf"\d{name}I", k.name)]
    assert hot
    assert [k[:5] for k in hot if k.stack] == []


@needs_disassembler
@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        # 64 queries by 64 documents by 64 codes for each warp, and copies in the background.
        ("filterI", {"IMMA.16832.S8.U8": 64, "LDGSTS.E.BYPASS.128": 1}),
        ("multiply_as_bf16", {"HMMA.16816.F32.BF16": 32}),
        ("multiplyIf", {"FFMA": 64}),
        ("multiplyId", {"DFMA": 64}),
        ("score_candidates", {"DFMA": 1}),
    ],
)
def test_kernels_have_the_expected_instructions(kernels, name, instructions):
    """In the machine code of every architecture, and no access to local memory."""
    named = [k for k in kernels if re.search(rf"\d{name}", k.name)]
    assert {k.architecture for k in named} == set(ARCHITECTURES)
    for kernel in named:
        used = re.findall(r"\s([A-Z][A-Z0-9]+(?:\.[A-Z0-9_]+)*)\s", kernel.code)
        assert not [word for word in used if re.match(r"(STL|LDL)\b", word)], kernel[:5]
        for instruction, least in instructions.items():
            assert used.count(instruction) >= least, (kernel[:5], instruction)


@needs_disassembler
def test_products_of_groups_are_those_of_hopper(kernels):
    """128 queries by 128 documents by 64 codes, two of them 64 queries; nothing elsewhere."""
    for kernel in kernels:
        if "filter_by_groups" in kernel.name:
            expected = 4 if kernel.architecture == "sm_90a" else 0
            assert kernel.code.count("IGMMA.64x128x32.S8.U8") == expected, kernel[:5]
