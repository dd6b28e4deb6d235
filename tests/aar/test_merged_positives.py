"""Positives of people and of a source LM: equation (5) against a loop, modes, ties, duplicates."""

import numpy as np
import pytest

from tilefold.ragged_lists import Lists

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.positives import MergedPositives, Origin, merge_positives, preferred_passages
from tilefold.retrieval.running_search import SearchResult

MODES = ["both", "human", "lm"]


def naive_favourites(ids, scores, k, groups):
    """Top-K of one query, ties by rank, equal texts once."""
    order = sorted(range(len(scores)), key=lambda rank: (-scores[rank], rank))
    found = []
    for rank in order:
        document = ids[rank]
        if document < 0 or groups[document] in {groups[other] for other in found}:
            continue
        if len(found) < k:
            found.append(document)
    return found


def naive_merge(human, ids, scores, k, groups, mode):
    """D^h+ united with Top-K, for one query: documents with their origins, in order."""
    own = []
    for document in human:
        if groups[document] not in {groups[other] for other in own}:
            own.append(document)
    liked = naive_favourites(ids, scores, k, groups)
    sides = {"both": own + liked, "human": own, "lm": liked}[mode]
    merged = {}
    for document in sides:
        origin = any(groups[document] == groups[d] for d in own) * Origin.HUMAN
        origin |= any(groups[document] == groups[d] for d in liked) * Origin.LM
        merged.setdefault(groups[document], (document, int(origin)))
    return list(merged.values())


def a_case(rng):
    """Few documents and few distinct scores, so that ties and duplicates are everywhere."""
    n, m, depth = rng.integers(1, 6), 12, int(rng.integers(1, 8))
    ids = np.stack([rng.permutation(m)[:depth] for _ in range(n)])
    scores = rng.choice([-2.0, 0.0, 0.5, 1.0], (n, depth)).astype(np.float32)
    there = np.arange(depth) < rng.integers(0, depth + 1, n)[:, None]
    ids, scores = np.where(there, ids, -1), np.where(there, scores, -np.inf)
    human = [rng.permutation(m)[: rng.integers(0, 4)] for _ in range(n)]
    groups = rng.integers(0, 8, m) if rng.integers(2) else np.arange(m)
    return human, ids, scores, groups


@pytest.mark.parametrize("mode", MODES)
def test_merged_positives_are_those_of_a_loop_over_queries(mode):
    rng = np.random.default_rng(0)
    shared = 0
    for _ in range(300):
        human, ids, scores, groups = a_case(rng)
        k = int(rng.integers(1, 4))
        found = merge_positives(
            Lists.pack(human), ids, scores, mode=mode, k=k, groups=groups.astype(np.int64)
        )
        expected = [
            naive_merge(h, i, s, k, groups, mode)
            for h, i, s in zip(human, ids, scores, strict=True)
        ]
        origins = np.split(found.origins, found.positives.offsets[1:-1])
        for query, pairs in enumerate(expected):
            assert found.positives.of(query).tolist() == [document for document, _ in pairs]
            assert origins[query].tolist() == [origin for _, origin in pairs]
        liked = [naive_favourites(i, s, k, groups) for i, s in zip(ids, scores, strict=True)]
        own = [{groups[d] for d in documents} for documents in human]
        assert found.n_lm == sum(map(len, liked))
        assert found.n_human == sum(map(len, own))
        assert found.n_shared == sum(
            groups[d] in known
            for documents, known in zip(liked, own, strict=True)
            for d in documents
        )
        shared += found.n_shared
    assert shared > 100


def test_ties_are_broken_by_rank():
    ids, scores = [[5, 3, 8, 1]], [[0.2, 0.7, 0.7, 0.7]]
    assert preferred_passages(ids, scores, k=2).indices.tolist() == [3, 8]


def test_a_favourite_that_people_chose_is_not_replaced_by_the_next():
    found = merge_positives(Lists.pack([[3]]), [[3, 5, 8]], [[0.9, 0.8, 0.7]], k=2)
    assert found.positives.of(0).tolist() == [3, 5]
    assert found.origins.tolist() == [Origin.HUMAN | Origin.LM, Origin.LM]
    assert found.shared_rate == 1.0


def test_the_same_text_under_another_id_counts_once_and_keeps_the_id_of_people():
    groups = np.array([0, 1, 2, 1, 2])
    found = merge_positives(Lists.pack([[1]]), [[3, 2, 4]], [[3.0, 2.0, 1.0]], k=2, groups=groups)
    # Document 3 is 1 again, and 4 is 2 again.
    assert found.positives.of(0).tolist() == [1, 2]
    assert found.origins.tolist() == [Origin.HUMAN | Origin.LM, Origin.LM]
    only = merge_positives(
        Lists.pack([[1]]), [[3, 2, 4]], [[3.0, 2.0, 1.0]], k=3, mode="lm", groups=groups
    )
    assert only.positives.of(0).tolist() == [3, 2]


def test_the_share_is_of_human_positives_as_the_authors_print_it():
    found = merge_positives(
        Lists.pack([[0, 1, 2], [3], []]), [[0, 9], [8, 9], [7, 9]], [[2, 1], [2, 1], [2, 1]], k=1
    )
    assert (found.n_human, found.n_lm, found.n_shared) == (4, 3, 1)
    assert found.shared_rate == 0.25
    assert len(found) == 3
    nobody = merge_positives(Lists.pack([[]]), [[4]], [[1.0]])
    assert np.isnan(nobody.shared_rate)


def test_only_the_scored_part_of_a_deep_ranking_is_chosen_from():
    ranking = SearchResult(np.zeros((1, 100), np.float32), np.arange(100)[None])
    scores = np.linspace(0, 1, 10)[None]
    assert preferred_passages(ranking, scores).indices.tolist() == [9, 8]


def test_queries_with_few_candidates_have_few_favourites():
    ids = np.array([[4, -1, -1], [-1, -1, -1], [4, 5, 6]])
    scores = np.where(ids < 0, -np.inf, [[0.0, 1.0, 2.0]])
    found = preferred_passages(ids, scores, k=2)
    assert [found.of(query).tolist() for query in range(3)] == [[4], [], [6, 5]]


def test_a_passage_of_probability_zero_is_the_last_choice_but_one():
    scores = [[-np.inf, -3.0, -np.inf]]
    assert preferred_passages([[7, 8, -1]], scores, k=3).indices.tolist() == [8, 7]


def test_people_alone_need_no_language_model():
    found = merge_positives(Lists.pack([[2, 1], []]), mode="human")
    assert found.positives.of(0).tolist() == [2, 1]
    assert found.origins.tolist() == [Origin.HUMAN] * 2
    assert (found.n_lm, found.n_shared) == (0, 0)


def test_no_queries_have_no_positives():
    found = merge_positives(Lists.pack([]), np.empty((0, 3), np.int64), np.empty((0, 3)))
    assert isinstance(found, MergedPositives)
    assert len(found) == 0


@pytest.mark.parametrize(
    ("ranking", "scores", "options", "message"),
    [
        ([[1, 2]], [[0.1, np.nan]], {}, "score of passage 1 of query 0 is NaN"),
        ([[1, -1]], [[np.nan, -np.inf]], {}, "score of passage 0 of query 0 is NaN"),
        (
            [[1, -1]],
            [[0.1, 0.2]],
            {},
            "query 0 has the score 0.2 at rank 1, where the ranking has no",
        ),
        ([[1, 2]], [[0.1, 0.2, 0.3]], {}, r"scores must be \[n, N\] .* got shape \(1, 3\)"),
        ([[1, 2]], [0.1, 0.2], {}, r"scores must be \[n, N\] .* got shape \(2,\)"),
        ([[1, 2]], [[0.1, 0.2]] * 2, {}, r"scores must be \[n, N\]"),
        ([1, 2], [[0.1, 0.2]], {}, r"ranking must be ids \[n, k\], got shape \(2,\)"),
        ([[1, -2]], [[0.1, 0.2]], {}, "ids of 0 or more, or -1 for none, got -2 for query 0"),
        ([[1, 2]], [[0.1, 0.2]], {"k": 0}, "k must be at least 1, got 0"),
        ([[1, 9]], [[0.1, 0.2]], {"groups": np.arange(5)}, "expected ids below 5 as groups has"),
    ],
)
def test_scores_that_do_not_fit_the_ranking_are_refused(ranking, scores, options, message):
    with pytest.raises(ValueError, match=f"^preferred_passages: .*{message}"):
        preferred_passages(np.array(ranking), np.array(scores), **options)
    with pytest.raises(ValueError, match=f"^merge_positives: .*{message}"):
        merge_positives(Lists.pack([[1]]), np.array(ranking), np.array(scores), **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Lists.pack([[0]]),), {}, "mode 'both' needs a ranking and its scores, got None"),
        ((None, [[0]], [[1.0]]), {}, "mode 'both' needs the positives of people, got None"),
        ((None,), {"mode": "human"}, "mode 'human' needs the positives of people, got None"),
        ((Lists.pack([[0]]), [[0]]), {"mode": "human"}, "ranking and scores go together"),
        ((Lists.pack([[0]]), [[0]], [[1.0]]), {"mode": "all"}, "mode must be one of .*, got 'all'"),
        ((Lists.pack([[0], [1]]), [[0]], [[1.0]]), {}, "human must have 2 offsets for 1 queries"),
    ],
)
def test_modes_name_what_they_lack(arguments, options, message):
    with pytest.raises(ValueError, match=f"^merge_positives: {message}"):
        merge_positives(*arguments, **options)


def test_ids_and_numbers_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="ranking must be integer ids of documents, got float64"):
        preferred_passages([[1.0]], [[1.0]])
    with pytest.raises(TypeError, match="k must be an integer, got float"):
        preferred_passages([[1]], [[1.0]], k=2.0)
    with pytest.raises(TypeError, match="human must be a list of lists of documents, or"):
        merge_positives({0: [1]}, [[1]], [[1.0]])
    for scores in ([["a"]], [[None]], [[1j]]):
        with pytest.raises(TypeError, match=r"^preferred_passages: scores must be real numbers"):
            preferred_passages([[1]], scores)
    with pytest.raises(
        TypeError, match=r"^preferred_passages: ranking must be ids \[n, k\], got a"
    ):
        preferred_passages([[1, 2], [1]], [[1.0], [1.0]])
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"^preferred_passages: scores must be real numbers"):
        preferred_passages([[1]], torch.ones(1, 1, requires_grad=True))
