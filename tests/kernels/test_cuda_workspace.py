"""Memory that ops take from their caller, under emulation, and errors of the caller on the way."""

import gc
import sys

import numpy as np
import pytest

from tilefold import _native
from tilefold.placement import EmulatedArray

pytestmark = pytest.mark.skipif(
    _native.CUDA != "emulated", reason="needs a build with emulated CUDA (make test-cuda)"
)

N, M, DIM, K = 5, 200, 16, 3


class Workspace:
    """Records what an op takes; fails at the call of a number."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.kept: list[np.ndarray] = []
        self.fails_at = fails_at

    def __call__(self, size: int) -> int:
        if len(self.kept) == self.fails_at:
            raise MemoryError(f"no {size} bytes")
        self.kept.append(np.empty(size + 256, np.uint8))
        return self.kept[-1].ctypes.data // 256 * 256 + 256


def gaussian(*shape: int) -> EmulatedArray:
    return EmulatedArray(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def integers(*values: int) -> EmulatedArray:
    return EmulatedArray(np.array(values))


def search(**options):
    found = EmulatedArray(np.full((N, K), -np.inf, np.float32)), EmulatedArray(np.full((N, K), -1))
    _native.search(gaussian(N, DIM), gaussian(M, DIM), *found, K, **options)
    return [array.array for array in found]


def score(**options):
    scores = EmulatedArray(np.empty((N, K), np.float32))
    rows = EmulatedArray(np.arange(N * K).reshape(N, K))
    _native.score(gaussian(N, DIM), gaussian(M, DIM), rows, scores, **options)
    return [scores.array]


def pack(**options):
    blocks = -(-M // 32)
    codes = EmulatedArray(np.empty((blocks, DIM // 4, 32, 4), np.uint8))
    bounds = EmulatedArray(np.empty((blocks, 4, 32), np.float32))
    finite = EmulatedArray(np.empty(blocks, np.uint32))
    _native.pack(gaussian(M, DIM), codes, bounds, finite, rotate=True, **options)
    return [codes.array, bounds.array, finite.array]


def contrastive(**options):
    losses = EmulatedArray(np.empty(N))
    _native.contrastive(
        gaussian(N, DIM),
        gaussian(M, DIM),
        integers(*range(N + 1)),
        integers(*range(N)),
        losses,
        scale=2.0,
        **options,
    )
    return [losses.array]


OPS = [search, score, pack, contrastive]


@pytest.mark.parametrize("op", OPS)
def test_ops_take_the_memory_of_the_caller(op):
    workspace = Workspace()
    for found, expected in zip(op(workspace=workspace), op(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert workspace.kept


@pytest.mark.parametrize("op", OPS)
def test_an_error_of_the_caller_comes_through(op):
    number = len((counted := Workspace(), op(workspace=counted))[0].kept)
    for fails_at in range(number):
        workspace = Workspace(fails_at)
        with pytest.raises(MemoryError, match=r"^no \d+ bytes$"):
            op(workspace=workspace)
        assert len(workspace.kept) == fails_at
    assert op()  # the next call works


def test_the_function_is_not_kept():
    workspace = Workspace()
    before = sys.getrefcount(workspace)
    search(workspace=workspace)
    gc.collect()
    assert sys.getrefcount(workspace) == before


def test_an_address_is_a_number():
    with pytest.raises(RuntimeError, match="Unable to cast Python instance"):
        search(workspace=lambda size: "here")


@pytest.mark.parametrize("address", [0, 8])
def test_an_address_is_of_aligned_memory(address):
    with pytest.raises(ValueError, match=f"aligned to 256 bytes, got {address}"):
        search(workspace=lambda size: address)


def test_memory_for_the_cpu_is_refused():
    found = np.empty((N, K), np.float32), np.empty((N, K), np.int64)
    vectors = gaussian(N, DIM).array
    with pytest.raises(ValueError, match="workspace must be None where arrays are on cpu"):
        _native.search(vectors, vectors, *found, K, workspace=Workspace())
