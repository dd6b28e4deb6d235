"""Training sets of merged positives: AAR's filter, queries without negatives, reports."""

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold import search
from tilefold.aar.positives import (
    TrainingQueries,
    merge_positives,
    preference_data,
    preference_negatives,
)
from tilefold.data import Collection, Qrels, TrainingSet, write_training
from tilefold.data.self_retrieval import relevant_documents
from tilefold.models import BiEncoder
from tilefold.ragged_lists import Lists
from tilefold.train.trainer_setup import prepare
from tilefold.train.yaml_arguments import parse


def a_collection(n: int, m: int = 12) -> Collection:
    return Collection(
        [f"d{i}" for i in range(m)],
        [f"text {i}" for i in range(m)],
        [f"q{i}" for i in range(n)],
        [f"question {i}" for i in range(n)],
        Qrels.pack([{i: 1.0} for i in range(n)]),
        titles=[f"title {i}" for i in range(m)],
        prompts=[f"prompt {i}" for i in range(n)],
    )


def listed(lists: Lists) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.indices, lists.offsets[1:-1])]


def test_the_training_set_has_the_kept_queries_with_all_columns():
    positives = Lists.pack([[3, 0], [], [5], [7, 1]])
    negatives = Lists.pack([[4, 2], [1], [8], [9]])
    found = TrainingQueries.build(a_collection(4), positives, negatives)
    assert found.rows.tolist() == [0, 2, 3]
    assert found.dropped == {"no positives": 1}
    data = found.data
    assert data.query_ids == ["q0", "q2", "q3"]
    assert data.queries == ["question 0", "question 2", "question 3"]
    assert data.prompts == ["prompt 0", "prompt 2", "prompt 3"]
    assert data.titles[5] == "title 5"
    assert listed(data.positives) == [[3, 0], [5], [7, 1]]
    assert listed(data.negatives) == [[4, 2], [8], [9]]


def test_exactly_three_positives_are_the_filter_of_the_authors():
    human = Lists.pack([[0], [1], [2, 3], [4], []])
    ids = np.array([[5, 6], [1, 6], [5, 6], [4, 6], [5, 6]])
    merged = merge_positives(human, ids, np.array([[2.0, 1.0]] * 5), k=2)
    # One human positive and two others; a favourite that people chose; two human positives; ...
    assert np.diff(merged.positives.offsets).tolist() == [3, 2, 4, 2, 2]
    found = TrainingQueries.build(a_collection(5), merged, exact_positives=3)
    assert found.rows.tolist() == [0]
    assert found.dropped == {"2 positives, expected 3": 3, "4 positives, expected 3": 1}
    assert len(TrainingQueries.build(a_collection(5), merged).rows) == 5


def test_a_query_whose_every_candidate_is_a_positive_is_left_out_with_a_warning():
    ids = np.array([[0, 1], [2, 3], [4, 5]])
    positives = Lists.pack([[0, 1], [2], [5, 4]])
    negatives = preference_negatives(ids, positives, depth=2, n_kept=2)
    with pytest.warns(UserWarning, match=r"left out 2 of 3 queries, .* remains: 'q0', 'q2'; a"):
        found = TrainingQueries.build(a_collection(3), positives, negatives)
    assert found.rows.tolist() == [1]
    assert found.dropped == {"no negatives": 2}


def test_a_query_that_the_filter_drops_is_not_warned_about():
    positives, negatives = Lists.pack([[0, 1, 2], [3]]), Lists.pack([[5], []])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = TrainingQueries.build(a_collection(2), positives, negatives, exact_positives=3)
    assert found.dropped == {"1 positive, expected 3": 1}


def test_without_hard_negatives_no_query_is_dropped_for_them():
    found = TrainingQueries.build(a_collection(2), Lists.pack([[0], [1]]))
    assert listed(found.data.negatives) == [[], []]
    assert found.dropped == {}


def test_answers_of_a_training_set_stay():
    texts = TrainingSet(
        ["a", "b"],
        ["w1", "w2"],
        list("xyz"),
        list("xyz"),
        Lists.pack([[0], [1]]),
        Lists.pack([[], []]),
        [("one",), ("two",)],
    )
    found = TrainingQueries.build(texts, Lists.pack([[], [2]]))
    assert found.data.answers == [("two",)]


def test_nothing_left_to_train_on_is_an_error_that_counts_the_reasons():
    texts, positives = a_collection(3), Lists.pack([[0], [1, 2], []])
    with pytest.raises(
        ValueError,
        match="none of 3 queries is left to train on: 1 for no positives, "
        "1 for 1 positive, expected 3, 1 for 2 positives, expected 3",
    ):
        TrainingQueries.build(texts, positives, exact_positives=3)


def test_lists_that_do_not_fit_are_named():
    texts = a_collection(2)
    with pytest.raises(ValueError, match="expected positives of 2 queries, got 1"):
        TrainingQueries.build(texts, Lists.pack([[0]]))
    with pytest.raises(ValueError, match="expected negatives of 2 queries, got 1"):
        TrainingQueries.build(texts, Lists.pack([[0], [1]]), Lists.pack([[2]]))
    with pytest.raises(TypeError, match="positives must be Lists, got list"):
        TrainingQueries.build(texts, [[0], [1]])
    with pytest.raises(TypeError, match="exact_positives must be an integer, got float"):
        TrainingQueries.build(texts, Lists.pack([[0], [1]]), exact_positives=3.0)
    with pytest.raises(ValueError, match="document 'd0' is both positive and negative"):
        TrainingQueries.build(texts, Lists.pack([[0], [1]]), Lists.pack([[0], [2]]))


@pytest.mark.usefixtures("one_thread")
def test_from_a_ranking_to_a_training_by_the_configuration_of_the_paper(tiny_bert, tmp_path):
    """Encode, search, merge, mine, write: each step takes what the one before it gives."""
    rng = np.random.default_rng(0)
    words = [f"w{i} w{(7 * i) % 50}" for i in range(80)]
    texts = Collection(
        [f"d{i}" for i in range(80)],
        words,
        [f"q{i}" for i in range(24)],
        [f"who is w{i}" for i in range(24)],
        Qrels.pack([{i: 1.0} for i in range(24)]),
        titles=[f"w{i % 9}" for i in range(80)],
    )
    model = BiEncoder.from_pretrained(tiny_bert, pooling="mean")
    documents = model.encode_documents(texts.documents, texts.titles)
    found = search(model.encode_queries(texts.queries), documents, 60)
    # Any signal will do here: these are the scores of a source LM for the first 10.
    scores = rng.standard_normal((24, 10)).astype(np.float32)
    merged = merge_positives(relevant_documents(texts.qrels), found, scores)
    negatives = preference_negatives(found, merged.positives, depth=60, seed=1)
    selected = TrainingQueries.build(texts, merged, negatives, exact_positives=3)
    assert len(selected.rows) + sum(selected.dropped.values()) == 24
    assert np.diff(selected.data.positives.offsets).tolist() == [3] * len(selected.rows)
    assert set(np.diff(selected.data.negatives.offsets)) == {30}
    write_training(tmp_path / "train.jsonl", selected.data)
    given = ["--model_name_or_path", str(tiny_bert), "--train_path", str(tmp_path / "train.jsonl")]
    given += [
        "--output_dir",
        str(tmp_path / "out"),
        "--dev_holdout",
        "2",
        "--num_train_epochs",
        "2",
    ]
    given += ["--save_strategy", "no", "--eval_strategy", "epoch", "--disable_tqdm", "true"]
    config = Path(__file__).parents[2] / "examples" / "aar_contriever.yaml"
    trainer = prepare(parse([*given, "--logging_steps", "1"], config))
    trainer.train()
    history = trainer.state.log_history
    assert [entry["epoch"] for entry in history if "eval_loss" in entry] == [1, 2]
    assert trainer.state.global_step == 2 * trainer.draw.steps_per_epoch
    batches = [trainer.draw.batch([0], step=e * trainer.draw.steps_per_epoch) for e in range(5)]
    assert len({text for batch in batches for text in batch.documents[3:]}) == 30


@pytest.mark.parametrize("mode", ["both", "human", "lm"])
def test_the_exact_number_counts_people_and_lm_in_every_mode(mode):
    """So modes train on the same questions; one of people alone is never three."""
    listed = Lists.pack([[0], [1]]), Lists.pack([[], []])
    texts = TrainingSet(["q0", "q1"], ["a", "b"], list("vwxyz"), list("ABCDE"), *listed, [()] * 2)
    ranking, scores = [[2, 3, 4], [1, 3, 4]], [[0.3, 0.2, 0.1]] * 2  # q1: the LM's first is judged
    found, _ = preference_data(texts, ranking, scores, mode=mode, k=2, exact_positives=3)
    assert found.rows.tolist() == [0]
    assert found.dropped == {"2 positives, expected 3": 1}
    expected = {"both": [0, 2, 3], "human": [0], "lm": [2, 3]}[mode]
    assert sorted(found.data.positives.of(0)) == expected
