"""Thresholds that start from a sample of the documents, and directions that documents share.

The sample is every sixteenth block of 32 documents (of at most 16,384 blocks). What it says may be
wrong in any way: answers have the bits of the reference all the same.
"""

import numpy as np
import pytest

import tilefold
from tilefold import _native, reference
from tilefold.retrieval.packing import mean_direction, pack, pack_as

ROWS = 6400
BLOCKS = ROWS // 32
SAMPLED = np.repeat(np.arange(BLOCKS) % 16 == 8, 32)
KS = (1, 10, 100, 1600)


def gaussian(n: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def assert_answers(queries, documents, k, *, parts=(), meaning=None, **options):
    """One index, with segments of some sizes, against the reference; by one thread and by two."""
    index = tilefold.FlatIndex(documents.shape[1])
    for part in np.split(documents, np.cumsum(parts)[:-1]) if parts else [documents]:
        index.add(part)
    assert len(index.segments) == max(1, len(parts))
    expected = reference.search(queries, documents, k, **(meaning or options))
    for threads in (1, 2):
        found = index.search(queries, k, num_threads=threads, return_certificate=True, **options)
        np.testing.assert_array_equal(found.ids, expected[1])
        assert found.scores.tobytes() == np.asarray(expected[0]).tobytes()
        assert found.certificate.holds
    return found


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("best", ["in the sample", "outside the sample", "anywhere"])
def test_a_sample_may_mislead(isa, best, k):
    """With the best documents in the sample, thresholds are far too high, and bets are lost."""
    queries, documents = gaussian(40, seed=1), gaussian(ROWS)
    queries[:, 0] = documents[:, 0] = 1
    if best != "anywhere":
        documents[(best == "in the sample") == SAMPLED, 0] = 50
    assert_answers(queries, documents, k)
    assert_answers(queries, np.concatenate([documents, documents[:3000]]), k, parts=(ROWS, 3000))


@pytest.mark.parametrize("k", KS)
def test_some_of_the_queries_may_lose_their_bet(isa, k):
    queries, documents = gaussian(40, seed=1), gaussian(ROWS)
    queries[:, 0] = np.arange(40) % 4 == 0
    documents[:, 0] = 50 * SAMPLED
    assert_answers(queries, documents, k)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("kept", ["the sample", "the rest", "one of the sample", "one of the rest"])
def test_filters_may_empty_the_sample(isa, kept, k):
    queries, documents = gaussian(40, seed=1), gaussian(ROWS)
    mask = SAMPLED if "sample" in kept else ~SAMPLED
    if "one" in kept:
        mask = np.arange(ROWS) == np.flatnonzero(mask)[70]
    assert_answers(queries, documents, k, allowed=mask)
    excluded = np.tile(~mask, (40, 1))
    excluded[::3] = False
    lists = [np.flatnonzero(row) for row in excluded]
    assert_answers(queries, documents, k, exclude=lists, meaning={"excluded": excluded})


@pytest.mark.parametrize("k", KS)
def test_score_windows_bound_the_sample(isa, k):
    queries, documents = gaussian(40, seed=1), gaussian(ROWS)
    scores = np.sort(reference.canonical_scores(queries, documents), axis=1)
    for low, high in ((-2000, -1), (-40, -20), (0, ROWS // 2)):
        window = {"min_score": scores[:, low], "max_score": scores[:, high]}
        assert_answers(queries, documents, k, **window)


@pytest.mark.parametrize("k", [1, 10, 1600])
def test_ties_across_the_sample_are_kept(isa, k):
    documents = np.tile(gaussian(5), (ROWS // 5, 1))
    assert_answers(gaussian(40, seed=1), documents, k)


# ---- directions ----------------------------------------------------------------------------------


def with_mean(size: float, n: int = ROWS, dim: int = 24, seed: int = 0) -> np.ndarray:
    vectors = gaussian(n, dim, seed).astype(np.float64)
    direction = gaussian(1, dim, 9)[0].astype(np.float64)
    return (vectors + size * direction / np.linalg.norm(direction)).astype(np.float32)


@pytest.mark.parametrize("size", [3.0, 1e3, 1e6])
@pytest.mark.parametrize("k", KS)
def test_a_common_mean_of_any_size(isa, size, k):
    documents = with_mean(size)
    assert mean_direction(documents[:1000]) is not None
    assert_answers(gaussian(40, seed=1), documents, k)
    assert_answers(with_mean(size, 40, seed=1), documents, k)


def test_one_direction_carries_everything(isa):
    """Documents are multiples of one vector, so that codes hold nothing but rounding."""
    factors = np.random.default_rng(0).uniform(0.5, 2, (ROWS, 1))
    documents = (factors * gaussian(1, 24, 9)).astype(np.float32)
    for k in KS:
        assert_answers(gaussian(40, seed=1), documents, k)


def test_segments_have_directions_of_their_own(isa):
    """And documents added later may have none, or the opposite one."""
    later = [
        with_mean(5, 16_000),
        -with_mean(5, 8_000, seed=2),
        gaussian(4_000, seed=3),
        with_mean(1e5, 2_000, seed=4),
    ]
    documents = np.concatenate(later)
    queries = np.concatenate([gaussian(20, seed=1), documents[::1500]])
    index = tilefold.FlatIndex(24)
    for part in later:
        index.add(part)
    directions = [segment.packed.direction for segment in index.segments]
    assert [direction is None for direction in directions] == [False, False, True, False]
    assert directions[0] @ directions[1] < -0.9
    for k in (1, 10, 100):
        found = index.search(queries, k, return_certificate=True)
        expected = reference.search(queries, documents, k)
        np.testing.assert_array_equal(found.ids, expected[1])
        assert found.scores.tobytes() == expected[0].tobytes()
        assert found.certificate.holds


def test_a_direction_narrows_bounds(isa):
    """Or the answer would be right, but slow: most of these documents' length is their mean."""
    documents = with_mean(20, 640, 128)
    (plain, *_), (split, _) = pack_as(documents), pack(documents)
    assert split.direction is not None
    norms, radii = ([packed.bounds[:, part].mean() for packed in (plain, split)] for part in (1, 2))
    assert norms[1] < 0.6 * norms[0]
    assert radii[1] < 0.6 * radii[0]


@pytest.mark.parametrize(
    "direction", [[0.5, 0.5, 0.5, 0.6], [0, 0, 0, 0], [np.nan, 0, 0, 0], [np.inf, 0, 0, 0]]
)
def test_a_direction_that_is_no_unit_vector_is_refused(direction):
    documents, finite = gaussian(32, 4), np.zeros(1, np.uint32)
    codes, bounds = np.zeros((1, 2, 32, 4), np.uint8), np.zeros((1, 4, 32), np.float32)
    with pytest.raises(ValueError, match="pack: direction must be a unit vector"):
        _native.pack(documents, codes, bounds, finite, direction=np.float32(direction))
    scores, ids = np.full((1, 1), -np.inf, np.float32), np.full((1, 1), -1)
    with pytest.raises(ValueError, match="search: direction must be a unit vector"):
        _native.search(
            documents[:1],
            documents,
            scores,
            ids,
            1,
            codes=codes,
            bounds=bounds,
            direction=np.float32(direction),
        )
    with pytest.raises(ValueError, match="search: direction needs codes"):
        _native.search(documents[:1], documents, scores, ids, 1, direction=np.float32([1, 0, 0, 0]))
