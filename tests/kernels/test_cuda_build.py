"""CUDA kernels compile for every GPU that wheels are for, use tensor cores, and spill nothing."""

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
    """What the assembler reports of a kernel."""

    name: str
    architecture: str
    registers: int
    stack: int
    spilled: int


def nvcc(source: Path, *options: str) -> str:
    include = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}"]
    command = [
        NVCC,
        "-std=c++17",
        "-O3",
        "--expt-relaxed-constexpr",
        *include,
        *options,
        str(source),
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def report(source: Path, architecture: str, folder: Path) -> list[Kernel]:
    binary = folder / f"{source.stem}.{architecture}.cubin"
    log = nvcc(source, f"-arch={architecture}", "-cubin", "-Xptxas=-v", "-o", str(binary))
    found = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        log,
        re.DOTALL,
    )
    return [
        Kernel(name, made_for, int(registers), int(stack), int(stores) + int(loads))
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
    compiled = {name for name in declared for k in kernels if name in k.name}
    assert compiled == declared


def test_no_kernel_spills_registers(kernels):
    assert [k for k in kernels if k.spilled] == []


@pytest.mark.parametrize("name", ["filter", "multiply", "multiply_as_bf16"])
def test_hot_kernels_keep_their_sums_in_registers(kernels, name):
    hot = [k for k in kernels if re.search(rf"\d{name}I", k.name)]
    assert hot
    assert [k for k in hot if k.stack] == []


@pytest.mark.parametrize(
    ("source", "instruction"),
    [
        ("search/search.cu", "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32"),
        ("search/search.cu", "cp.async.cg.shared.global"),
        ("losses/contrastive.cu", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        ("losses/contrastive.cu", "fma.rn.f32"),
        ("losses/contrastive.cu", "fma.rn.f64"),
    ],
)
def test_the_expected_instructions_are_there(source, instruction, tmp_path):
    out = tmp_path / "kernels.ptx"
    nvcc(ROOT / "cuda" / source, "-arch=compute_80", "-ptx", "-o", str(out))
    assert instruction in out.read_text()
