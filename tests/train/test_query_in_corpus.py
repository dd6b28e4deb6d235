"""A query among the passages of its training set is no negative, and no result of validation."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from training_runs import arguments, load

from tilefold.data import Collection, Qrels, TrainingSet
from tilefold.evaluate import average_rank_of
from tilefold.ragged_lists import Lists
from tilefold.train import Draw, DrawSeveral, Refresh, Validation

pytestmark = pytest.mark.usefixtures("one_thread")
N = 8


@pytest.fixture
def data() -> TrainingSet:
    """The positive of query i is the text of query i + 1, as in questions asked twice."""
    texts = [f"who is w{i}" for i in range(N)]
    return TrainingSet(
        [f"q{i}" for i in range(N)],
        texts,
        [f"q{i}" for i in range(N)],
        texts,
        Lists.pack([[(i + 1) % N] for i in range(N)]),
        Lists.pack([[(i + 2) % N] for i in range(N)]),
        [()] * N,
    )


@pytest.mark.parametrize(
    "policy",
    [
        lambda data, **rule: Draw(data, group_size=2, seed=0, **rule),
        lambda data, **rule: DrawSeveral(data, n_negatives=1, seed=0, **rule),
    ],
    ids=["one", "several"],
)
def test_a_query_is_no_negative_of_itself(data, policy):
    """The masks are those of the loss: `exclude_ids`, in this process and in others."""
    batch = policy(data).batch(range(N), step=0)
    offsets, excluded = batch.exclude_ids
    ids = dict(zip(batch.documents, batch.document_ids.tolist(), strict=True))
    for row, query in enumerate(batch.queries):
        masked = set(excluded[offsets[row] : offsets[row + 1]].tolist())
        assert masked == {ids[query], ids[data.queries[(row + 1) % N]]}
    # 2 N passages of N texts, of which the query and its positive do not count, each there twice.
    assert batch.negatives() == 2 * N - 4
    kept = policy(data, remove_query="none").batch(range(N), step=0)
    assert kept.negatives() == 2 * N - 2
    again = policy(data, remove_query="none").with_data(data).batch(range(N), step=0)
    assert again.negatives() == kept.negatives()


def test_a_listed_negative_with_the_text_of_the_query_does_not_count(data):
    data = replace(data, negatives=Lists.pack([[i] for i in range(N)]))
    batch = Draw(data, group_size=2, seed=0).batch([0], step=0)
    assert batch.documents == [data.queries[1], data.queries[0]]
    assert batch.negatives() == 0


def test_a_query_is_not_mined_as_its_negative_in_training(data, tiny_bert: Path):
    model = load(tiny_bert)
    for rule in ("text", "id", "both"):
        found = Refresh(1, n_negatives=N, remove_query=rule).run(model, data, step=0)
        assert [len(found.of(row)) for row in range(N)] == [N - 2] * N
        assert not any(row in found.of(row) for row in range(N))
    found = Refresh(1, n_negatives=N, remove_query="none").run(model, data, step=0)
    assert all(row in found.of(row) for row in range(N))


def test_validation_ranks_without_the_query(data, tiny_bert: Path):
    judged = Qrels.pack([{(i + 1) % N: 1} for i in range(N)])
    collection = Collection(data.document_ids, data.documents, data.query_ids, data.queries, judged)
    model = load(tiny_bert)
    with_query, without = (
        Validation(collection, ("RR",), remove_query=rule).run(model) for rule in ("none", "id")
    )
    # One text through one encoder: the query itself is always first.
    assert with_query["average_rank"] == without["average_rank"] + 1
    assert with_query["RR"] < without["RR"]


def test_excluded_documents_do_not_count_in_ranks_across_blocks(monkeypatch):
    monkeypatch.setattr("tilefold.evaluate.gold._QUERIES", 2)
    monkeypatch.setattr("tilefold.evaluate.gold._DOCUMENTS", 3)
    rng = np.random.default_rng(0)
    queries, documents = (rng.standard_normal((n, 4)).astype(np.float32) for n in (5, 7))
    gold = np.array([0, 3, 6, 2, 1])
    excluded = [[1, 5], [], [0, 1, 2], [6], [0]]
    scores = queries.astype(np.float64) @ documents.T
    expected = [
        sum(scores[q, d] >= scores[q, own] for d in range(7) if d not in [own, *excluded[q]])
        for q, own in enumerate(gold)
    ]
    found = average_rank_of(queries, documents, gold, exclude=Lists.pack(excluded))
    assert found == np.mean(expected)
    with pytest.raises(ValueError, match="exclude must have 6 offsets for 5 queries, got 2"):
        average_rank_of(queries, documents, gold, exclude=Lists.pack([[1]]))


def test_an_unknown_rule_of_training_is_refused(tmp_path):
    assert arguments(tmp_path).removal == "text"
    with pytest.raises(ValueError, match="remove_query: expected one of id, text, both, none"):
        arguments(tmp_path, remove_query="ids")


def test_validation_reports_progress_while_documents_are_ranked(
    data, tiny_bert: Path, monkeypatch, capsys
):
    """The first one runs before any step, so within no other display."""
    from tilefold.train import validation

    def slow(*arguments, **options):
        time.sleep(0.2)
        return plain(*arguments, **options)

    plain = validation.search
    monkeypatch.setattr(validation, "search", slow)
    monkeypatch.setattr("tilefold.progress.INTERVAL", 0.02)
    judged = Qrels.pack([{(i + 1) % N: 1} for i in range(N)])
    collection = Collection(data.document_ids, data.documents, data.query_ids, data.queries, judged)
    Validation(collection, ("RR",)).run(load(tiny_bert))
    assert "  validate, search" in capsys.readouterr().err
