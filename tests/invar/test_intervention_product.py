"""The product of rewrites, windows and k, and documents ranked under each of its members."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from tilefold.invar import (
    EncodedInterventions,
    Interventions,
    Window,
    lost_answers,
    lost_documents,
    ranking_patterns,
    view_probabilities,
)
from tilefold.ragged_lists import Lists

WORDS = ["red", "blue", "hen", "fox", "barn", "title", "please"]
DOCUMENTS = ["red hen hen hen fox", "blue fox fox barn", "barn barn red red", "hen"]
QUERIES = ["red hen", "blue barn"]
REWRITES = [["hen red please", "red"], ["barn blue blue"]]


class CountsWords:
    """A retriever whose embeddings are counts of words; notes what it encodes."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        rows = [[text.split().count(word) for word in WORDS] for text in texts]
        return np.array(rows, np.float32).reshape(-1, len(WORDS))

    def encode_queries(self, texts, prompts=None, **options):
        """Embeddings of prompts and queries."""
        assert options == {"batch_size": 2}
        return self._encode(
            [f"{prompt} {text}" for prompt, text in zip(prompts, texts, strict=True)]
        )

    def encode_documents(self, texts, titles=None, **options):
        """Embeddings of titles and documents."""
        assert options == {"batch_size": 2}
        return self._encode([f"{title} {text}" for title, text in zip(titles, texts, strict=True)])


def encoded(product: Interventions, model: CountsWords) -> EncodedInterventions:
    titles = ["title", "", "", ""]
    return EncodedInterventions(
        model, product, DOCUMENTS, titles, prompts=["", "please"], batch_size=2
    )


def naive_scores(product: Interventions) -> np.ndarray:
    """Scores of all documents under every intervention, ``[S, n, m]``, by loops."""
    table = np.zeros((len(product), len(QUERIES), len(DOCUMENTS)))
    for s, each in enumerate(product):
        for q, query in enumerate(product.queries(each)):
            wanted = f"{query} please" if q else query
            for d, text in enumerate(DOCUMENTS):
                words = text.split()
                size = each.window.size if each.window else len(words)
                parts = [words[at : at + size] for at in range(0, len(words), size)]
                if not d:
                    parts = [[*part, "title"] for part in parts]
                table[s, q, d] = max(
                    sum(wanted.split().count(word) * part.count(word) for word in WORDS)
                    for part in parts
                )
    return table


def product_of(**options) -> Interventions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interventions(QUERIES, REWRITES, **options)


def test_the_order_is_wordings_then_windows_then_k():
    product = product_of(windows=[None, Window(2)], ks=[None, 1])
    assert [each.name for each in product] == [
        "query, whole documents",
        "query, whole documents, k=1",
        "query, chunks of 2 words",
        "query, chunks of 2 words, k=1",
        "rewrite 1, whole documents",
        "rewrite 1, whole documents, k=1",
        "rewrite 1, chunks of 2 words",
        "rewrite 1, chunks of 2 words, k=1",
        "rewrite 2, whole documents",
        "rewrite 2, whole documents, k=1",
        "rewrite 2, chunks of 2 words",
        "rewrite 2, chunks of 2 words, k=1",
    ]
    assert len(product) == 12
    assert [product.unchanged(place) for place in range(12)] == [0] * 4 + [4] * 4 + [8] * 4
    assert product[11].k == 1
    assert list(product) == list(product_of(windows=[None, Window(2)], ks=[None, 1]))


def test_a_query_with_fewer_rewrites_keeps_its_text_and_a_warning_counts_it():
    with pytest.warns(UserWarning, match="1 of 2 queries have fewer than 2 rewrites") as caught:
        product = Interventions(QUERIES, REWRITES)
    assert caught[0].filename == __file__
    assert product.n_short == 1
    assert product.wordings == [QUERIES, ["hen red please", "barn blue blue"], ["red", "blue barn"]]
    assert Interventions(QUERIES, REWRITES, n_rewrites=1).wordings == product.wordings[:2]
    assert Interventions(QUERIES, REWRITES, n_rewrites=0).wordings == [QUERIES]
    assert [each.name for each in Interventions(QUERIES)] == ["query, whole documents"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rewrites": [["x"]]}, ValueError, "expected rewrites of 2 queries, got 1"),
        ({"windows": []}, ValueError, "one or more different windows, got"),
        ({"windows": [Window(2), Window(2)]}, ValueError, "different windows, got .*chunks of 2"),
        ({"ks": [3, 3]}, ValueError, r"different ks, got \[3, 3\]"),
        ({"ks": [0]}, ValueError, "ks must be at least 1, got 0"),
        ({"ks": [1.5]}, TypeError, "ks must be an integer"),
        ({"n_rewrites": 1}, ValueError, "n_rewrites is 1, but no query has more than 0"),
        ({"n_rewrites": -1}, ValueError, "n_rewrites must be at least 0"),
    ],
)
def test_bad_arguments_are_errors(options, error, message):
    with pytest.raises(error, match=f"Interventions: .*{message}"):
        Interventions(QUERIES, **options)


def test_rankings_are_those_of_loops_over_all_documents():
    product = product_of(windows=[None, Window(2), Window(3)], ks=[None, 2])
    model = CountsWords()
    found = encoded(product, model).rankings(depth=3)
    assert found.names == [each.name for each in product]
    for s, each in enumerate(product):
        k = each.k or 3
        for q in range(2):
            own = naive_scores(product)[s, q]
            best = sorted(range(4), key=lambda d: (-own[d], d))[:k]
            assert found.ids[s, q].tolist() == best + [-1] * (3 - k)
            expected = [own[d] for d in best] + [-np.inf] * (3 - k)
            assert found.scores[s, q].tolist() == expected
    assert not found.lost.any()
    # Three wordings of two queries; documents whole, in eight and in seven pieces.
    assert len(model.encoded) == 6 + 4 + 8 + 7


def test_candidates_have_the_scores_of_documents_and_k_keeps_the_first():
    product = product_of(windows=[None, Window(2)], ks=[None, 1])
    candidates = np.array([[2, 0, 3], [1, -1, 0]])
    found = encoded(product, CountsWords()).candidate_scores(candidates)
    table = naive_scores(product)
    for s, each in enumerate(product):
        for q in range(2):
            kept = [d if place < (each.k or 3) else -1 for place, d in enumerate(candidates[q])]
            expected = [table[s, q, d] if d >= 0 else -np.inf for d in kept]
            assert found[s, q].tolist() == expected
    patterns = ranking_patterns(view_probabilities(found, 0.5), 2)
    assert patterns.invariant.sum(1).tolist() == [2, 2]
    assert not patterns.invariant[1, 1]  # there is no candidate


def test_listed_documents_alone_are_ranked():
    product = product_of(windows=[None, Window(2)], ks=[None, 2])
    rng = np.random.default_rng(0)
    listed = rng.integers(-1, 4, (len(product), 2, 3))
    listed[0, 0] = 3, 3, 3  # once
    listed[1, 1] = -1  # none
    found = encoded(product, CountsWords()).rankings(depth=4, candidates=listed)
    for s, each in enumerate(product):
        k = each.k or 4
        for q in range(2):
            own = naive_scores(product)[s, q]
            best = sorted({int(d) for d in listed[s, q]} - {-1}, key=lambda d: (-own[d], d))[:k]
            assert found.ids[s, q].tolist() == best + [-1] * (4 - len(best))
            assert found.scores[s, q, : len(best)].tolist() == [own[d] for d in best]
            assert (found.scores[s, q, len(best) :] == -np.inf).all()
    every = np.broadcast_to(np.arange(4), (len(product), 2, 4))
    whole = encoded(product, CountsWords())
    again = whole.rankings(depth=3, candidates=every)
    np.testing.assert_array_equal(again.ids, whole.rankings(depth=3).ids)


def test_a_k_that_loses_the_relevant_document_is_counted_by_intervention():
    product = Interventions(QUERIES, ks=[None, 1])
    positives = Lists.pack([[3], [1]])
    with pytest.warns(UserWarning, match="1 of 2 queries lose") as caught:
        found = encoded(product, CountsWords()).rankings(depth=4, positives=positives)
    assert [str(each.message) for each in caught] == [
        "EncodedInterventions.rankings: 1 of 2 queries lose every relevant document under "
        "'query, whole documents, k=1'"
    ]
    assert caught[0].filename == __file__
    assert found.lost.tolist() == [[False, False], [True, False]]


def test_a_window_that_cuts_answers_off_is_counted():
    product = Interventions(QUERIES, windows=[None, Window(2, truncate=True)])
    with pytest.warns(UserWarning, match="1 of 2 queries lose their answer in first 2 words"):
        encoded(product, CountsWords()).rankings(
            depth=4, positives=Lists.pack([[0], [1]]), answers=[["fox"], ["Fox"]]
        )


def test_columns_and_candidates_are_checked():
    product = Interventions(QUERIES)
    model = CountsWords()
    with pytest.raises(ValueError, match="expected 4 titles, got 1"):
        EncodedInterventions(model, product, DOCUMENTS, [""])
    with pytest.raises(ValueError, match="expected 2 prompts, got 1"):
        EncodedInterventions(model, product, DOCUMENTS, prompts=[""])
    whole = encoded(product, model)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        whole.rankings(depth=0)
    with pytest.raises(ValueError, match="answers need positives"):
        whole.rankings(depth=1, answers=[["a"], ["b"]])
    with pytest.raises(ValueError, match=r"candidates must be integers \[2, c\]"):
        whole.candidate_scores([[0]])
    for wrong in ([[0], [1]], np.zeros((1, 2, 1)), np.zeros((2, 2, 1), np.int64)):
        with pytest.raises(ValueError, match=r"candidates must be integers \[1, 2, c\]"):
            whole.rankings(depth=1, candidates=wrong)
    with pytest.raises(ValueError, match="candidates must be -1 to 3"):
        whole.rankings(depth=1, candidates=[[[4], [0]]])
    with pytest.raises(ValueError, match="candidates must be -1 to 3"):
        whole.candidate_scores([[0], [4]])


# ---- what an intervention loses ------------------------------------------------------------------


def test_answers_that_a_window_cuts_off_are_found():
    documents = ["the hen sleeps in the red barn", "the fox runs", "a Red Barn"]
    positives = Lists.pack([[0], [0], [1], [1], [0, 2]])
    answers = [("red barn",), ("hen",), ("elephant",), (), ("red barn",)]
    cases = {Window(3, truncate=True): [0], Window(6): [0], Window(6, 3): []}
    for window, lost in cases.items():
        found = lost_answers(window, documents, positives, answers)
        assert np.flatnonzero(found).tolist() == lost


def test_titles_take_room_from_the_answer():
    window = Window(3, truncate=True, template="{title} {text}")
    given = ["one two three"], Lists.pack([[0]]), [["two"]]
    assert not lost_answers(window, *given, titles=["A"]).any()
    assert lost_answers(window, *given, titles=["A title"]).all()


def test_documents_are_lost_only_if_they_were_found_before():
    positives = Lists.pack([[1, 2], [7], [1], []])
    before = [[1, 2], [3, 4], [0, 1], [1, 2]]
    after = [[2], [7], [0], [5]]
    assert lost_documents(before, after, positives).tolist() == [False, False, True, False]


def test_arguments_of_what_is_lost_are_checked():
    with pytest.raises(ValueError, match="expected answers of 1 queries, got 0"):
        lost_answers(Window(1), ["a"], Lists.pack([[0]]), [])
    with pytest.raises(ValueError, match=r"before must be integers \[1, k\]"):
        lost_documents([[0], [1]], [[0]], Lists.pack([[0]]))
    with pytest.raises(ValueError, match=r"after must be integers \[1, k\].* float64"):
        lost_documents([[0]], [[0.5]], Lists.pack([[0]]))
