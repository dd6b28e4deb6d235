"""What the emulation of CUDA shows of kernels that are wrong, and that right ones pass."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
ORDERS = ["forward", "backward", "shuffled:0", "shuffled:1"]
POISON = -0x5A5A5A5B  # 0xa5a5a5a5

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def compiled(folder: Path, *options: str) -> Path:
    program = folder / "faulty_kernels"
    sources = [ROOT / "tests/kernels/faulty_kernels.cpp", *ROOT.glob("cuda/emulation/*.cpp")]
    include = [f"-I{ROOT}", f"-I{ROOT / 'csrc'}", "-DTILEFOLD_EMULATE_CUDA"]
    command = [COMPILER, "-std=c++17", "-O1", "-g", *options, *include, *sources, "-o", program]
    subprocess.run([str(word) for word in command], check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("kernels"), "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def checked_program(tmp_path_factory):
    """The same under AddressSanitizer and UndefinedBehaviorSanitizer."""
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    return compiled(tmp_path_factory.mktemp("checked"), *sanitize)


def run(program: Path, name: str, order: str = "forward") -> tuple[int, str]:
    done = subprocess.run(
        [program, name],
        env=os.environ
        | {"TILEFOLD_CUDA_ORDER": order, "ASAN_OPTIONS": "detect_leaks=0:exitcode=99"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def values(program: Path, name: str, order: str) -> list[int]:
    status, output = run(program, name, order)
    assert status == 0, output
    return [int(word) for word in output.split()]


@pytest.mark.parametrize("order", ORDERS)
def test_right_kernels_give_the_same_results_in_every_order(program, order):
    assert values(program, "right", order) == list(range(64, 0, -1))
    assert values(program, "sums", order) == [64 * 63 // 2] * 64
    # The first copy is of zeros.
    assert values(program, "copy", order) == [0, 0, 0, 0, *range(5, 65)]


@pytest.mark.parametrize("order", ORDERS)
def test_steps_of_a_warp_are_those_of_shuffles(program, order):
    higher = [sum(range(t + 1, t // 32 * 32 + 32)) for t in range(64)]
    assert values(program, "reductions", order) == higher


@pytest.mark.parametrize("order", ORDERS)
def test_products_of_groups_of_warps(program, order):
    assert values(program, "products", order) == [1 + 2] * 128
    # Without a fence they do not see what threads have stored.
    assert values(program, "no_fence", order) != [1 + 2] * 128
    assert values(program, "no_wait", order) == [0] * 128


def test_operands_that_are_overwritten_too_early_show_in_some_order(program):
    results = [values(program, "overwritten", order) for order in ORDERS]
    assert any(result != [1 + 2] * 128 for result in results)


@pytest.mark.parametrize("name", ["missing_barrier", "race"])
def test_a_race_gives_other_results_in_another_order(program, name):
    results = {tuple(values(program, name, order)) for order in ORDERS}
    assert len(results) >= 3


def test_shared_memory_is_poisoned_until_a_thread_has_written_it(program):
    assert values(program, "missing_barrier", "forward")[:32] == [POISON] * 32
    assert values(program, "copy_without_wait", "forward") == [POISON] * 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_barriers", r"divergent barrier: thread (0, 0, 0) waits at"),
        ("left_early", "54 threads have finished"),
        ("half_a_warp", "divergent barrier: thread (0, 0, 0) waits at"),
        ("beyond_the_end", "thread (63, 0, 0): index 64 of a shared array of 64"),
        ("too_little_memory", "uses 260 shared bytes, and was launched with 256"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_faults_are_errors_that_name_kernel_and_place(program, name, message, order):
    status, output = run(program, name, order)
    assert status == 1
    assert output.startswith(f"{name}, block (0, 0, 0)")
    assert message in output


def test_an_unknown_order_is_an_error(program):
    status, output = run(program, "right", "sideways")
    assert status == 1
    assert "must be forward, backward or shuffled:SEED, got sideways" in output


def test_sanitizers_know_the_stacks_of_fibers(checked_program):
    for order in ORDERS:
        assert values(checked_program, "right", order) == list(range(64, 0, -1))
    # Threads are unwound when one of them fails.
    assert run(checked_program, "two_barriers")[0] == 1
    status, output = run(checked_program, "beyond_the_launch")
    assert status == 99
    assert "heap-buffer-overflow" in output
