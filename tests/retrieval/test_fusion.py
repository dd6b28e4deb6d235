"""fuse(): reciprocal rank fusion, like its formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.retrieval.fusion import fuse


def by_formula(rankings: list[list[int]], k: int) -> tuple[list[float], list[int]]:
    scores: dict[int, float] = {}
    for document in {d for ranking in rankings for d in ranking if d >= 0}:
        parts = sorted(1 / (60 + r.index(document) + 1) for r in rankings if document in r)
        scores[document] = np.float32(sum(parts))
    best = sorted(scores, key=lambda document: (-scores[document], document))[:k]
    padding = k - len(best)
    return [*(scores[d] for d in best), *[-np.inf] * padding], [*best, *[-1] * padding]


def ranking(length: int) -> st.SearchStrategy[list[int]]:
    order = st.permutations(range(12)).map(lambda ids: ids[:length])
    return st.builds(lambda ids, n: [*ids[:n], *[-1] * (length - n)], order, st.integers(0, length))


@given(st.lists(ranking(6), min_size=1, max_size=4), st.integers(1, 14))
def test_fusion_equals_the_formula_for_any_rankings(rankings: list[list[int]], k: int):
    scores, ids = fuse([[ranking] for ranking in rankings], k)
    expected_scores, expected_ids = by_formula(rankings, k)
    assert ids.tolist() == [expected_ids]
    assert scores.tolist() == [expected_scores]


def test_queries_do_not_mix_and_the_order_of_rankings_does_not_matter():
    rng = np.random.default_rng(0)
    rankings = [np.array([rng.permutation(30)[:10] for _ in range(20)]) for _ in range(3)]
    whole = fuse(rankings, 15)
    for row in range(20):
        alone = fuse([ranking[row : row + 1] for ranking in rankings[::-1]], 15)
        np.testing.assert_array_equal(whole.ids[row], alone.ids[0])
        np.testing.assert_array_equal(whole.scores[row], alone.scores[0])


def test_rankings_of_different_depth_fuse():
    assert fuse([[[1, 2, 3]], [[3]]], 2).ids.tolist() == [[3, 1]]


def test_nothing_to_fuse_is_an_error():
    with pytest.raises(ValueError, match="rankings not empty"):
        fuse([], 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        fuse([[[1]]], 0)
