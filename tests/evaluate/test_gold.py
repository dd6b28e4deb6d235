"""Average rank: against sorting, against search, and with ties."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold import search
from tilefold.evaluate import average_rank, average_rank_of, gold, gold_ranks, gold_ranks_of


def by_sorting(scores: np.ndarray, right: np.ndarray) -> list[int]:
    """Places in the list of scores, best first, the gold passage last among equal ones."""
    ranks = []
    for row, own in zip(scores, right, strict=True):
        order = sorted(range(len(row)), key=lambda column: (-row[column], column == own))
        ranks.append(order.index(own))
    return ranks


@given(st.data())
def test_ranks_are_places_in_the_sorted_list_after_equal_scores(data: st.DataObject):
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    cells = st.lists(st.integers(-2, 2), min_size=n * m, max_size=n * m)
    scores = np.array(data.draw(cells), float).reshape(n, m)
    right = np.array(data.draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)))
    assert gold_ranks(scores, right).tolist() == by_sorting(scores, right)
    assert average_rank(scores, right) == np.mean(by_sorting(scores, right))


def test_equal_scores_for_all_are_the_worst_result():
    assert average_rank(np.zeros((3, 10)), [0, 4, 9]) == 9
    assert (
        average_rank_of(np.zeros((3, 8), np.float32), np.ones((10, 8), np.float32), [0, 4, 9]) == 9
    )


@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (1000, 1000)])
def test_blocks_give_the_ranks_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, sizes):
    monkeypatch.setattr(gold, "_QUERIES", sizes[0])
    monkeypatch.setattr(gold, "_DOCUMENTS", sizes[1])
    rng = np.random.default_rng(0)
    queries, documents = (rng.integers(-2, 3, size=(n, 4)).astype(np.float32) for n in (10, 23))
    right = rng.integers(23, size=10)
    ranks = gold_ranks_of(queries, documents, right)
    assert ranks.tolist() == gold_ranks(queries @ documents.T, right).tolist()
    assert average_rank_of(queries, documents, right) == ranks.mean()


def test_ranks_agree_with_search_and_repeated_passages_tie():
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(40, 48)).astype(np.float32)
    documents = rng.normal(size=(60, 48)).astype(np.float32)
    documents = np.concatenate([documents, documents[:20]])
    right = rng.integers(len(documents), size=40)
    scores, ids = search(queries, documents, len(documents))
    for rank, own, row, found in zip(
        gold_ranks_of(queries, documents, right), right, scores, ids, strict=True
    ):
        assert rank == (row >= row[found == own]).sum() - 1


def test_half_precision_and_integers_are_read_as_they_are():
    rng = np.random.default_rng(2)
    for dtype in (np.float16, np.int8):
        queries, documents = (rng.integers(-9, 9, size=(n, 16)).astype(dtype) for n in (5, 30))
        right = rng.integers(30, size=5)
        wide = queries.astype(float) @ documents.astype(float).T
        assert gold_ranks_of(queries, documents, right).tolist() == gold_ranks(wide, right).tolist()


def test_torch_tensors_are_read_in_bfloat16_too():
    torch = pytest.importorskip("torch")
    queries, documents = torch.eye(3, 8).bfloat16(), torch.eye(8).bfloat16()
    assert gold_ranks_of(queries, documents, torch.tensor([0, 1, 5])).tolist() == [0, 0, 7]


def test_no_queries_have_no_average():
    assert np.isnan(average_rank(np.zeros((0, 3)), []))
    assert np.isnan(average_rank_of(np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32), []))


@pytest.mark.parametrize(
    ("scores", "gold", "complaint"),
    [
        ([1.0, 2.0], [0], r"scores must be \[n, m\] numbers"),
        ([[1.0, np.nan]], [0], "scores of query 0 have NaN"),
        ([[1.0, 2.0]], [2], "gold must be below 2"),
        ([[1.0, 2.0]], [-1], "gold must not be negative"),
        ([[1.0, 2.0]], [0, 1], "one passage per query, 1; got 2"),
    ],
)
def test_wrong_scores_are_errors(scores, gold, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        gold_ranks(scores, gold)


def test_wrong_embeddings_are_errors():
    good = np.ones((2, 3), np.float32)
    bad = good.copy()
    bad[1, 2] = np.inf
    for queries, documents in itertools.permutations([good, bad]):
        with pytest.raises(ValueError, match=r"row 1 of (queries|documents) has NaN or infinity"):
            gold_ranks_of(queries, documents, [0, 1])
    with pytest.raises(ValueError, match="queries have dim 3 but documents have dim 2"):
        gold_ranks_of(good, good[:, :2], [0, 1])
    with pytest.raises(ValueError, match="gold must be below 2"):
        gold_ranks_of(good, good, [0, 2])
