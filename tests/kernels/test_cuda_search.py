"""The stages of CUDA's search, under emulation: bits of the reference whichever stage answers."""

from typing import Any

import numpy as np
import pytest

from tilefold import _native, reference
from tilefold.placement import EmulatedArray
from tilefold.retrieval.packing import pack_as

pytestmark = pytest.mark.skipif(
    _native.CUDA != "emulated", reason="needs a build with emulated CUDA (make test-cuda)"
)


@pytest.fixture(params=["warps", "groups of warps"], autouse=True)
def products(request, monkeypatch):
    """Runs every test with both products of the filter."""
    monkeypatch.setenv("TILEFOLD_CUDA_GROUPS", str(int(request.param != "warps")))


class OnCuda(EmulatedArray):
    """Records the streams for which it is exported."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array)
        self.streams: list[int | None] = []

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        self.streams.append(stream)
        return super().__dlpack__(stream=stream, **options)


def search(
    queries: np.ndarray, documents: np.ndarray, k: int, *, packed: Any = None, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, ids, and how many documents each query scored canonically."""
    n = len(queries)
    scores = np.full((n, k), -np.inf, np.float32)
    ids = np.full((n, k), -1, np.int64)
    refined = np.zeros(n, np.int64)
    if packed is None:
        packed, _, _ = pack_as(documents)
    arrays = {
        "codes": packed.codes,
        "bounds": packed.bounds,
        "direction": packed.direction,
        "refined": refined,
    } | options
    on_cuda = {
        name: OnCuda(value) if isinstance(value, np.ndarray) else value
        for name, value in arrays.items()
    }
    arguments = (OnCuda(array) for array in (queries, documents, scores, ids))
    _native.search(*arguments, k, rotated=packed.rotated, **on_cuda)
    return scores, ids, refined


def assert_exact(found: tuple[np.ndarray, ...], expected: Any) -> None:
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].tobytes() == expected[0].tobytes()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def gaussian(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_most_queries_are_answered_by_likely_thresholds(rng):
    queries, documents = gaussian(rng, 9, 40), gaussian(rng, 9000, 40)
    found = search(queries, documents, 5)
    assert_exact(found, reference.search(queries, documents, 5))
    assert (found[2] < 1000).all()


def test_more_tiles_of_queries_than_one(rng):
    queries, documents = gaussian(rng, 300, 33), gaussian(rng, 700, 33)
    assert_exact(search(queries, documents, 7), reference.search(queries, documents, 7))


def test_a_lost_wager_is_made_good(rng):
    """The first tiles of the order have the best documents, so that thresholds are too high."""
    tiles = 79
    stride = int(0.618 * tiles)
    while np.gcd(stride, tiles) != 1:
        stride += 1
    queries, documents = gaussian(rng, 3, 16), gaussian(rng, tiles * 128, 16) * 1e-3
    documents[:, 0] = 0
    first = [place * stride % tiles for place in range(16)]
    for tile in first:
        documents[tile * 128 : tile * 128 + 64, 0] = rng.uniform(1, 2, 64)
    queries[:, 0] = [1, -1, 2]
    assert_exact(search(queries, documents, 900), reference.search(queries, documents, 900))


@pytest.mark.parametrize("k", [1, 40])
def test_documents_that_do_not_fit_in_a_list_are_scored_one_by_one(rng, k):
    """All documents are equal, so that every one of them reaches every threshold."""
    queries = gaussian(rng, 2, 8)
    documents = np.repeat(gaussian(rng, 1, 8), 6000, axis=0)
    found = search(queries, documents, k)
    assert_exact(found, reference.search(queries, documents, k))
    assert (found[2] >= 6000).all()


def test_bounds_that_scores_contradict_are_not_believed(rng):
    queries, documents = gaussian(rng, 3, 24), gaussian(rng, 5000, 24)
    packed, _, _ = pack_as(documents)
    packed.bounds[:, 1:3] = 0  # norms and radii: every bound is narrower than the truth
    packed.bounds[:, 0] *= 1.01
    found = search(queries, documents, 6, packed=packed)
    assert_exact(found, reference.search(queries, documents, 6))
    assert (found[2] >= 5000).all()


def test_ties_at_the_last_place_go_to_the_smallest_ids(rng):
    queries = gaussian(rng, 2, 8)
    documents = gaussian(rng, 50, 8)[rng.integers(0, 50, 3000)]
    ids = rng.permutation(10**6)[:3000]
    expected_scores, rows = reference.search(queries, documents, 3000)
    best_first = np.lexsort((ids[rows], -expected_scores))
    found = search(queries, documents, 77, document_ids=ids)
    np.testing.assert_array_equal(found[1], np.take_along_axis(ids[rows], best_first, 1)[:, :77])


def test_the_largest_k(rng):
    queries, documents = gaussian(rng, 2, 8), gaussian(rng, 20_000, 8)
    assert_exact(search(queries, documents, 4096), reference.search(queries, documents, 4096))
    with pytest.raises(ValueError, match=r"^search: k must be at most 4096 on cuda, got 4097; "):
        search(queries, documents, 4097)


def test_arrays_are_exported_for_the_stream_of_the_call(rng):
    vectors = OnCuda(gaussian(rng, 4, 8))
    finite = OnCuda(np.zeros(4, np.uint8))
    _native.finite_rows(vectors, finite)
    _native.finite_rows(vectors, finite, stream=77)
    assert vectors.streams == finite.streams == [1, 77]  # DLPack's number of the default stream
    assert finite.array.all()


def test_arrays_of_another_device_are_refused(rng):
    scores, ids = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64)
    with pytest.raises(ValueError, match="documents must be on cuda:0 like queries, got cpu"):
        _native.search(OnCuda(gaussian(rng, 1, 4)), gaussian(rng, 2, 4), scores, ids, 1)
