"""A query in its own corpus: which documents are the query itself, and rankings without them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilefold
from tilefold.data import (
    Collection,
    Qrels,
    TrainingSet,
    own_documents,
    read_collection,
    read_run,
    read_training,
    same_texts,
    without_own,
    write_run,
)
from tilefold.data.self_retrieval import (
    chosen_identity,
    follows_beir,
    relevant_documents,
    searched_identity,
)
from tilefold.ragged_lists import Lists
from tilefold.retrieval.running_search import SearchResult

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
TEXTS = st.sampled_from(["fox", "hen", " fox", "fox ", "red fox", "", " ", "barn"])


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    """Queries and documents with few ids and texts, so that many are the same."""
    documents = draw(st.lists(st.tuples(NAMES, TEXTS, TEXTS), unique_by=lambda item: item[0]))
    queries = draw(st.lists(st.tuples(NAMES, TEXTS), unique_by=lambda item: item[0]))
    return Collection(
        [name for name, _, _ in documents],
        [text for _, text, _ in documents],
        [name for name, _ in queries],
        [text for _, text in queries],
        Qrels.pack([{} for _ in queries]),
        titles=[title for _, _, title in documents],
    )


def by_definition(data: Collection, by: str) -> list[list[int]]:
    """Compares every query with every document."""
    found = []
    for name, query in zip(data.query_ids, data.queries, strict=True):
        own = []
        for row, document in enumerate(data.documents):
            joined = f"{data.titles[row].strip()} {document.strip()}".strip()
            text = query.strip() != "" and query.strip() in (document.strip(), joined)
            ids = data.document_ids[row] == name
            if {"id": ids, "text": text, "both": ids or text, "none": False}[by]:
                own.append(row)
        found.append(own)
    return found


def rows(lists: Lists) -> list[list[int]]:
    return [lists.of(row).tolist() for row in range(len(lists.offsets) - 1)]


@given(collections(), st.sampled_from(["id", "text", "both", "none"]))
def test_own_documents_are_those_with_the_id_or_the_text_of_the_query(data, by):
    assert rows(own_documents(data, by)) == by_definition(data, by)


def test_a_title_before_the_text_may_make_the_text_of_a_query():
    assert rows(same_texts(["Cars Tax them."], ["Tax them.", "Tax them."], ["Cars", ""])) == [[0]]
    assert rows(same_texts(["Tax them."], ["Tax them.", "Tax them."], ["Cars", ""])) == [[0, 1]]


def test_an_unknown_rule_is_refused():
    data = Collection([], [], [], [], Qrels.pack([]))
    with pytest.raises(ValueError, match="own_documents: expected one of id, text, both, none"):
        own_documents(data, "ids")


@given(st.data())
def test_a_ranking_without_own_documents_is_the_search_that_excludes_them(data):
    """So that BM25, which cannot exclude, and dense search follow one rule."""
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    k = data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    queries, documents = (rng.integers(-2, 3, (size, 3)).astype(np.float32) for size in (n, m))
    own = [data.draw(st.sets(st.integers(0, m - 1))) for _ in range(n)]
    own = Lists.pack([sorted(one) for one in own])
    excluded = tilefold.search(queries, documents, k, exclude=own)
    deeper = tilefold.search(queries, documents, k + m)
    found = without_own(deeper, own, k)
    np.testing.assert_array_equal(found.ids, excluded.ids)
    np.testing.assert_array_equal(found.scores, excluded.scores)


def test_rankings_of_queries_without_own_documents_stay():
    ranking = SearchResult(np.float32([[2, 1, -np.inf]]), np.array([[4, 1, -1]]))
    found = without_own(ranking, Lists.pack([[]]), k=3)
    np.testing.assert_array_equal(found.ids, ranking.ids)


def test_a_run_is_ranked_without_the_query_before_it_is_cut(tmp_path):
    """BEIR's ignore_identical_ids; trec_eval, and the default here, keep the query."""
    path = tmp_path / "run.trec"
    write_run(path, ["a", "b"], ["a", "b", "c"], [[3, 2, 1]] * 2, [[0, 1, 2], [1, 0, 2]])
    run, names = read_run(path), ["c", "b", "a"]
    assert run.ranking(["a", "b"], names, 2).tolist() == [[2, 1], [1, 2]]
    assert run.ranking(["a", "b"], names, 2, remove_query=True).tolist() == [[1, 0], [2, 0]]
    assert run.ranking(["a"], names, remove_query=True).tolist() == [[1, 0, -1]]
    assert run.ranking(["a"], [], remove_query=True).tolist() == [[1, 2, -1]]


# ---- the rule of a collection --------------------------------------------------------------------


def beir(folder: Path, judged: str = "a\tb\t1\n") -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "text": name} for name in "abc"]
    for name, records in (("corpus", corpus), ("queries", corpus[:1])):
        lines = (json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels" / "test.tsv").write_text(judged)
    (folder / "qrels" / "train.tsv").write_text(judged)
    return folder


def marco(folder: Path) -> Path:
    folder.mkdir()
    (folder / "collection.tsv").write_text("1\tone\n2\ttwo\n")
    (folder / "queries.test.tsv").write_text("1\tone\n")
    (folder / "qrels.test.tsv").write_text("1\t0\t2\t1\n")
    return folder


def evaluated(folder: Path, choice: str = "auto") -> str:
    data = read_collection(folder)
    relevant = relevant_documents(data.qrels)
    return chosen_identity(choice, folder, data, relevant, texts=False)


def trained(source: Path, **options: str) -> str:
    data = read_training(source, **options)
    return chosen_identity("auto", source, data, data.positives, texts=True)


def test_collections_of_beir_have_its_rule_and_others_do_not(tmp_path):
    assert evaluated(beir(tmp_path / "beir")) == "id"
    assert evaluated(marco(tmp_path / "marco")) == "none"
    assert evaluated(tmp_path / "beir", "none") == "none"
    assert trained(tmp_path / "beir") == "both"
    assert trained(tmp_path / "marco", split="test") == "text"
    path = tmp_path / "train.csv"
    path.write_text("anchor,positive\nwho?,she\n")
    assert trained(path) == "text"


def test_ids_that_coincide_by_accident_are_not_compared(tmp_path):
    """A query that is answered by the document of its number shows that both count from 0."""
    assert evaluated(beir(tmp_path / "beir", "a\ta\t1\n")) == "none"
    assert trained(tmp_path / "beir") == "text"
    assert searched_identity(tmp_path / "beir") == "none"
    other = beir(tmp_path / "not-relevant", "a\ta\t0\na\tb\t1\n")
    assert evaluated(other) == searched_identity(other) == "id"
    (other / "qrels" / "notes.tsv").write_text("no judgments\n")
    assert searched_identity(other) == "id"
    for path in (other / "qrels").iterdir():
        path.unlink()
    assert searched_identity(other) == "id"
    assert searched_identity(marco(tmp_path / "marco")) == searched_identity(None) == "none"


def test_names_of_ir_datasets_have_the_rule_of_beir_if_they_are_of_beir():
    pytest.importorskip("ir_datasets")
    assert follows_beir("beir/arguana")
    assert not follows_beir("msmarco-passage")
    assert not follows_beir(None)


def test_a_rule_is_known_by_its_name():
    data = TrainingSet([], [], [], [], Lists.pack([]), Lists.pack([]), [])
    with pytest.raises(ValueError, match="remove_query: expected one of id, text, both, none"):
        chosen_identity("ids", None, data, data.positives, texts=True)
