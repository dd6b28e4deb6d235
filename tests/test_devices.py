"""Ops run on the device of their arrays, or say where they could run."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilefold import _native

ROOT = Path(__file__).resolve().parents[1]


class OnDevice:
    """An array that claims to be on another device; its memory is the host's."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.device = array, device
        self.exported, self.stream = 0, None

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        self.exported += 1
        self.stream = stream
        return self.array.__dlpack__(**options)


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ints(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


VIEW = (floats(1, 8), floats(4, 8), None, None, 1.0, "")
CALLS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "search": (
        [floats(1, 8), floats(4, 8), floats(1, 2), ints(1, 2)],
        {"k": 2},
        "search: queries are",
    ),
    "pack": (
        [floats(4, 8), np.zeros((1, 2, 32, 4), np.uint8), floats(1, 4, 32), np.zeros(1, np.uint32)],
        {},
        "pack: documents are",
    ),
    "finite_rows": (
        [floats(4, 8), np.zeros(4, np.uint8)],
        {},
        "finite_rows: vectors are",
    ),
    "score": (
        [floats(1, 8), floats(4, 8), ints(1, 2), floats(1, 2)],
        {},
        "score: queries are",
    ),
    "contrastive": (
        [floats(1, 8), floats(4, 8), np.array([0, 1]), ints(1), np.zeros(1)],
        {"scale": 1.0},
        "contrastive: queries are",
    ),
    "divergence": (
        ["alignment_loss", [VIEW, VIEW], np.zeros((2, 1)), np.zeros(1), np.zeros(1)],
        {},
        "alignment_loss: queries are",
    ),
    "statistics": (
        [
            *(floats(3, 8), ints(2), ints(1), np.zeros(8), np.zeros(8), floats(8), floats(8)),
            *(floats(1), ints(1, 8)),
        ],
        {},
        "statistics: x is",
    ),
    "examples": (
        [floats(3, 8), ints(2), np.array([0, 2]), ints(1), floats(8, 1), ints(8, 1)],
        {},
        "examples: x is",
    ),
    "second_moment": (
        [floats(3, 8), ints(2), np.zeros((8, 8))],
        {},
        "second_moment: x is",
    ),
}


def moved(argument: Any, device: tuple[int, int]) -> Any:
    if isinstance(argument, np.ndarray):
        return OnDevice(argument.copy(), device)
    if isinstance(argument, (list, tuple)):
        return type(argument)(moved(part, device) for part in argument)
    return argument


def call(op: str, device: tuple[int, int]) -> None:
    arguments, options, _ = CALLS[op]
    getattr(_native, op)(*moved(arguments, device), **options)


@pytest.mark.parametrize("op", CALLS)
def test_an_op_without_an_implementation_for_the_device_names_those_it_has(op):
    _, _, start = CALLS[op]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        call(op, (10, 0))
    devices = "cpu" if _native.CUDA == "none" else "cpu, cuda"
    assert str(error.value) == f"{start} on rocm:0, and this build has kernels for: {devices}"


def test_a_library_is_not_asked_for_an_array_that_no_implementation_takes():
    finite = OnDevice(np.zeros(4, np.uint8), (10, 0))
    with pytest.raises(
        ValueError, match=r"^finite_rows: finite is on rocm:0, and this build has kernels for: cpu"
    ):
        _native.finite_rows(None, finite)
    assert not finite.exported


@pytest.mark.parametrize(
    ("device", "name"),
    [((10, 3), "rocm:3"), ((14, 0), "DLPack device type 14:0"), ((8, 0), "DLPack device type 8:0")],
)
def test_devices_are_named(device, name):
    with pytest.raises(ValueError, match=f"score: queries are on {name}, and this build has"):
        call("score", device)


@pytest.mark.parametrize("op", CALLS)
def test_pinned_memory_is_read_as_memory_of_the_cpu(op):
    call(op, (3, 0))


def searched(**arrays: Any) -> Callable[[], None]:
    given = {
        "queries": floats(1, 8),
        "documents": floats(4, 8),
        "scores": floats(1, 2),
        "ids": ints(1, 2),
    }
    return lambda: _native.search(**(given | arrays), k=2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"documents": (2, 0)}, "documents must be on cpu like queries, got cuda:0"),
        ({"queries": (2, 1)}, "documents must be on cuda:1 like queries, got cpu"),
        ({"ids": (2, 0)}, "ids must be on cpu like queries, got cuda:0"),
        ({"min_score": (2, 0)}, "min_score must be on cpu like queries, got cuda:0"),
    ],
)
def test_arrays_of_one_call_are_on_one_device(arrays, message):
    moved_arrays = {name: OnDevice(floats(1, 8), device) for name, device in arrays.items()}
    with pytest.raises(ValueError, match=f"^search: {message}$"):
        searched(**moved_arrays)()
    assert not any(array.exported for array in moved_arrays.values())


@pytest.mark.parametrize("op", CALLS)
def test_a_stream_is_of_cuda(op):
    arguments, options, _ = CALLS[op]
    with pytest.raises(ValueError, match=r"stream must be 0 where arrays are on cpu, got 7$"):
        getattr(_native, op)(*arguments, **options, stream=7)


@pytest.mark.parametrize("op", CALLS)
def test_memory_of_the_caller_is_of_cuda(op):
    arguments, options, _ = CALLS[op]
    with pytest.raises(ValueError, match="workspace must be None where arrays are on cpu, got"):
        getattr(_native, op)(*arguments, **options, workspace=lambda size: 0)


def test_views_of_a_divergence_are_on_one_device():
    arguments, _, _ = CALLS["divergence"]
    views = [VIEW, (VIEW[0], OnDevice(VIEW[1]), *VIEW[2:])]
    with pytest.raises(ValueError, match="documents must be on cpu like queries, got cuda:0"):
        _native.divergence(arguments[0], views, *arguments[2:])


def test_an_implementation_may_have_some_ops_and_not_others(tmp_path):
    """A table of its own, because this build has one implementation with all ops."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not (ROOT / "csrc").exists():
        pytest.skip("needs a C++ compiler and the sources")
    program = tmp_path / "op_table"
    source = ROOT / "tests" / "op_table.cpp"
    flags = ["-std=c++17", "-pthread", f"-I{ROOT / 'csrc'}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [
        "ran on 1",
        "ran on 2",
        "search: queries are on rocm:0, and this build has search for: cpu, cuda",
        "ran on 1",
        "pack: queries are on cuda:1, and this build has pack for: cpu",
        "score: queries are on cpu, and this build has score for: no device",
        "search: queries are on DLPack device type 77:0, and this build has search for: cpu, cuda",
    ]
