"""Hard negatives: equation (6) against a loop, the shuffle, what is left out, queries without."""

import numpy as np
import pytest

from tilefold.ragged_lists import Lists

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.positives import preference_negatives
from tilefold.retrieval.running_search import SearchResult


def naive_candidates(ids, positives, depth, groups):
    """ANN^M without D^a+, of one query, in the order of ranks."""
    left, seen = [], {groups[document] for document in positives}
    for document in ids[:depth]:
        if document >= 0 and groups[document] not in seen:
            seen.add(groups[document])
            left.append(document)
    return left


def a_case(rng):
    n, m, k = int(rng.integers(1, 7)), 30, int(rng.integers(1, 25))
    ids = np.stack([rng.permutation(m)[:k] for _ in range(n)])
    ids = np.where(np.arange(k) < rng.integers(0, k + 1, n)[:, None], ids, -1)
    positives = [rng.permutation(m)[: rng.integers(0, 8)] for _ in range(n)]
    groups = rng.integers(0, 20, m) if rng.integers(2) else np.arange(m)
    return ids, positives, groups


def test_negatives_are_a_sample_of_what_a_loop_leaves():
    rng = np.random.default_rng(0)
    seen = {"short": 0, "without": 0, "full": 0}
    for _ in range(300):
        ids, positives, groups = a_case(rng)
        depth = int(rng.integers(1, 21))
        n_kept = int(rng.integers(1, depth + 1))
        found = preference_negatives(
            ids, Lists.pack(positives), depth=depth, n_kept=n_kept, groups=groups, seed=3
        )
        without, short = [], []
        for query, own in enumerate(positives):
            left = naive_candidates(ids[query], own, depth, groups)
            drawn = found.negatives.of(query).tolist()
            assert len(set(drawn)) == len(drawn) == min(n_kept, len(left))
            assert set(drawn) <= set(left)
            without += [query] * (not left)
            short += [query] * (len(left) < n_kept)
        assert found.without.tolist() == without
        assert found.short.tolist() == short
        seen["without"] += len(without)
        seen["short"] += len(short) - len(without)
        seen["full"] += len(ids) - len(short)
    assert min(seen.values()) > 50


def test_every_candidate_is_drawn_equally_often():
    ids = np.tile(np.arange(10), (6000, 1))
    found = preference_negatives(ids, Lists.pack([[0, 1]] * 6000), depth=10, n_kept=2)
    first = found.negatives.indices[::2]
    for drawn in (first, found.negatives.indices):
        counts = np.bincount(drawn, minlength=10)
        assert counts[:2].sum() == 0
        # Eight documents, each with a binomial count: five standard deviations.
        share = len(drawn) / 8
        assert np.abs(counts[2:] - share).max() < 5 * np.sqrt(share)


def test_a_draw_depends_on_seed_row_and_own_ranking_alone():
    rng = np.random.default_rng(1)
    # More queries than are drawn at a time.
    ids = np.stack([rng.permutation(50)[:12] for _ in range(9000)])
    positives = Lists.pack(ids[:, :1])
    options = {"depth": 12, "n_kept": 3}
    whole = preference_negatives(ids, positives, seed=5, **options).negatives
    for rows in (range(10), range(8000)):
        part = preference_negatives(
            ids[: len(rows)], Lists.pack(ids[: len(rows), :1]), seed=5, **options
        )
        assert all(np.array_equal(part.negatives.of(row), whole.of(row)) for row in rows)
    changed = ids.copy()
    changed[4] = np.roll(changed[4], 3)
    others = preference_negatives(changed, Lists.pack(changed[:, :1]), seed=5, **options).negatives
    assert all(np.array_equal(others.of(row), whole.of(row)) for row in (3, 5, 8999))
    again = preference_negatives(ids, positives, seed=6, **options).negatives
    assert not np.array_equal(again.indices, whole.indices)


def test_positives_make_no_room_for_ranks_beyond_the_depth():
    ids = np.arange(200)[None]
    found = preference_negatives(ids, Lists.pack([[0, 5, 150]]), depth=100, n_kept=99)
    assert sorted(found.negatives.indices.tolist()) == [d for d in range(100) if d not in (0, 5)]
    assert found.n_positives == 2
    assert found.short.tolist() == [0]


def test_what_equals_a_positive_or_a_better_rank_is_no_negative():
    groups = np.array([0, 1, 2, 0, 1, 2])
    ranking = SearchResult(np.zeros((1, 5), np.float32), np.array([[3, 4, 1, 2, 5]]))
    found = preference_negatives(ranking, Lists.pack([[0]]), depth=5, n_kept=5, groups=groups)
    # 3 equals the positive, 1 the better ranked 4, and 5 the better ranked 2.
    assert sorted(found.negatives.indices.tolist()) == [2, 4]
    assert (found.n_positives, found.n_repeated) == (1, 2)


def test_the_query_itself_is_left_out_on_request():
    ids = np.array([[3, 4, 1], [4, 2, 0]])
    found = preference_negatives(
        ids, Lists.pack([[0], [0]]), depth=3, n_kept=3, exclude=Lists.pack([[4], []])
    )
    assert [sorted(found.negatives.of(q).tolist()) for q in range(2)] == [[1, 3], [2, 4]]


def test_progress_counts_queries():
    calls = []
    ids = np.tile(np.arange(5), (5000, 1))
    preference_negatives(
        ids, Lists.pack([[0]] * 5000), n_kept=1, progress=lambda *amounts: calls.append(amounts)
    )
    assert len(calls) > 1
    assert calls[-1] == (5000, 5000)


@pytest.mark.parametrize(
    ("ranking", "options", "message"),
    [
        ([[0, 1]], {"depth": 0}, "depth must be at least 1, got 0"),
        ([[0, 1]], {"n_kept": 0}, "n_kept must be at least 1, got 0"),
        ([[0, 1]], {"depth": 20, "n_kept": 21}, "n_kept must be at most depth, 20, got 21"),
        ([[0, 1]], {"seed": -1}, "seed must be at least 0, got -1"),
        ([0, 1], {}, r"ranking must be ids \[n, k\], got shape \(2,\)"),
        ([[0, 1]] * 2, {}, "positives must have 3 offsets for 2 queries, got 2"),
        ([[0, 7]], {"groups": np.arange(4)}, "expected ids below 4 as groups has, got 7"),
        ([[0]], {"exclude": Lists.pack([[0], [1]])}, "exclude must have 2 offsets for 1 queries"),
    ],
)
def test_arguments_that_do_not_fit_are_named(ranking, options, message):
    with pytest.raises(ValueError, match=f"^preference_negatives: {message}"):
        preference_negatives(np.array(ranking), Lists.pack([[1]]), **options)


@pytest.mark.parametrize("large", [2**40, 2**62 - 1, 2**63 - 1])
def test_ids_may_be_digests(large: int):
    positives = [[0], [1], [0], [0], [1]]
    expected, found = (
        preference_negatives([[0, 1, id]] * 5, positives, depth=3, n_kept=3).negatives
        for id in (9, large)
    )
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert np.where(found.indices == large, 9, found.indices).tolist() == expected.indices.tolist()
