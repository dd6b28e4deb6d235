"""Bm25: the scores of bm25s, with results ordered and padded like every search here."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tilefold.evaluate import evaluate, mean
from tilefold.retrieval.bm25 import Bm25

pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")


def test_scores_are_lucenes_formula():
    documents = ["red fox", "red red hen barn", "blue barn"]
    scores, ids = Bm25(documents).search(["red"], 3)
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    average = 8 / 3
    expected = {
        d: idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / average))
        for d, tf, length in ((0, 1, 2), (1, 2, 4))
    }
    assert ids.tolist() == [[1, 0, -1]]
    np.testing.assert_allclose(scores[0, :2], [expected[1], expected[0]], rtol=1e-6)
    assert scores[0, 2] == -np.inf


def test_ties_are_ordered_by_id_at_every_depth():
    words = Bm25(["same words"] * 50)
    for k in (1, 7, 50):
        assert words.search(["same"], k).ids.tolist() == [list(range(k))]


def test_a_query_that_shares_no_word_finds_nothing():
    with pytest.warns(UserWarning, match="3 of 3 queries share no word with any document"):
        found = Bm25(["red fox", ""]).search(["zebra", "", "the"], 2)
    assert found.ids.tolist() == [[-1, -1]] * 3
    assert np.isneginf(found.scores).all()


@pytest.mark.parametrize("documents", [[], [""], ["", "the of"]])
def test_a_corpus_without_words_finds_nothing(documents: list[str]):
    found = Bm25(documents).search(["red fox"], 2, warn=False)
    assert found.ids.tolist() == [[-1, -1]]


def test_no_queries_and_k_below_one():
    assert Bm25(["red"]).search([], 5).ids.shape == (0, 5)
    with pytest.raises(ValueError, match="k must be at least 1"):
        Bm25(["red"]).search(["red"], 0)


def test_it_reaches_the_figure_that_is_published_for_scifact(data_folder: Path):
    from tilefold.data import document_texts, read_beir

    collection = read_beir(data_folder / "scifact" / "beir")
    ids = (
        Bm25(document_texts(collection.documents, collection.titles))
        .search(collection.queries, 10)
        .ids
    )
    # 0.665 with stemming, as in the BEIR paper; we do not stem
    assert mean(evaluate(ids, collection.qrels, ["nDCG@10"])["nDCG@10"]) == pytest.approx(
        0.66, abs=0.01
    )


def test_without_bm25s_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ImportError, match=r'pip install "tilefold\[demo\]"'):
        Bm25(["red"])
