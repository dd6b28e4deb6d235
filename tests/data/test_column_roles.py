"""Columns: the role of a column comes from a name that a format defines, never from its values."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilefold.data import TrainingSet, read_training

Write = Callable[..., Path]
# What sentence-transformers' mine_hard_negatives gives with output_scores=True: the cosine of each
# pair, that of a mined negative above 0.5, too.
SCORED_PAIRS = [
    {"query": "who?", "answer": "she is", "score": 0.71},
    {"query": "who?", "answer": "he was", "score": 0.64},
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows as JSON lines, or as a table where the name ends in .csv."""

    def make(rows: Sequence[dict[str, Any]], name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        with path.open("w", newline="") as file:
            if name.endswith(".csv"):
                table = csv.DictWriter(file, list(rows[0]))
                table.writeheader()
                table.writerows(rows)
            else:
                file.writelines(f"{json.dumps(row)}\n" for row in rows)
        return path

    return make


def listed(data: TrainingSet) -> list[tuple[list[str], list[str]]]:
    """The texts of positives and of negatives of each query."""
    return [
        tuple([data.documents[d] for d in side.of(q)] for side in (data.positives, data.negatives))
        for q in range(len(data))
    ]


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv"])
def test_scores_of_pairs_make_no_positives(write: Write, name: str):
    path = write(SCORED_PAIRS, name)
    with pytest.raises(ValueError, match=r":[12]: 'score' holds scores, which do not say which"):
        read_training(path)


def test_a_threshold_makes_positives_of_scores_where_it_is_given(write: Write):
    data = read_training(write(SCORED_PAIRS), score_threshold=0.7)
    assert listed(data) == [(["she is"], ["he was"])]
    assert data.positive_scores.tolist() == [0.71]
    assert data.negative_scores.tolist() == [0.64]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"score_threshold": 0.5}, "score_threshold goes with columns, but this is flagembedding"),
        ({"corpus": "x"}, "corpus goes with tevatron-ids, but this is flagembedding"),
    ],
)
def test_an_option_without_effect_is_refused(write: Write, options, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_training(write([{"query": "who?", "pos": ["she"]}]), **options)


def test_a_threshold_that_is_no_number_is_refused(write: Write):
    with pytest.raises(ValueError, match="score_threshold must be finite, got nan"):
        read_training(write(SCORED_PAIRS), score_threshold=float("nan"))


@pytest.mark.parametrize("value", [0.7, 2, -1, "0.5"])
def test_a_label_is_zero_or_one(write: Write, value: Any):
    rows = [{"sentence1": "a", "sentence2": "b", "label": value}]
    with pytest.raises(ValueError, match=r"train.jsonl:1: 'label' must be 0 .* or 1, got"):
        read_training(write(rows))


@pytest.mark.parametrize("values", [(1, 0), (True, False), (1.0, 0.0), ("1", "0")])
def test_labels_may_be_written_in_several_ways(write: Write, values):
    rows = [
        {"sentence1": "a", "sentence2": text, "label": value}
        for text, value in zip("pn", values, strict=True)
    ]
    assert listed(read_training(write(rows))) == [(["p"], ["n"])]


def test_labels_of_textual_inference_are_not_those_of_pairs(write: Write):
    rows = [{"premise": "a man runs", "hypothesis": "a man moves", "label": 0}]
    with pytest.raises(ValueError, match=r"a class of textual inference \(0 is entailment\)"):
        read_training(write(rows))


@pytest.mark.parametrize(
    ("name", "value"),
    [("negative_score", "0.81"), ("source", "wiki"), ("split", "train"), ("negative source", "x")],
)
@pytest.mark.parametrize("file", ["train.csv", "train.jsonl"])
def test_a_further_column_is_no_negative_unless_its_name_says_so(write: Write, name, value, file):
    path = write([{"query": "who?", "answer": "she", name: value}], file)
    with pytest.raises(ValueError, match=rf"columns \['{name}'\] are neither negatives"):
        read_training(path)


@pytest.mark.parametrize(
    "name", ["negative", "negative_1", "neg", "neg_2", "hard_negative", "Negatives"]
)
def test_names_of_negatives_are_known(write: Write, name: str):
    data = read_training(write([{"query": "who?", "answer": "she", name: "he"}], "train.csv"))
    assert listed(data) == [(["she"], ["he"])]


@pytest.mark.parametrize("as_text", [False, True])
def test_scores_of_mined_tuples_are_those_of_a_teacher(write: Write, as_text: bool):
    scores: Any = [0.9, 0.4, 0.3]
    row = {"query": "who?", "answer": "she", "negative_1": "he", "negative_2": "it"}
    row["scores"] = json.dumps(scores) if as_text else scores
    data = read_training(write([row], "train.csv" if as_text else "train.jsonl"))
    assert listed(data) == [(["she"], ["he", "it"])]
    np.testing.assert_array_equal(data.positive_scores, [0.9])
    np.testing.assert_array_equal(data.negative_scores, [0.4, 0.3])


def test_scores_belong_to_their_columns_where_a_negative_is_missing(write: Write):
    row = {"query": "who?", "answer": "she", "negative_1": None, "negative_2": "it"}
    data = read_training(write([row | {"scores": [0.9, 0.4, 0.3]}]))
    assert data.negative_scores.tolist() == [0.3]
    with pytest.raises(ValueError, match=r":1: 'scores' has 2 numbers for 3 texts"):
        read_training(write([row | {"scores": [0.9, 0.4]}]))
    with pytest.raises(ValueError, match=r":1: 'scores' must be a list, got 0.9"):
        read_training(write([row | {"scores": 0.9}]))


def test_mined_lists_with_labels_are_positives_and_negatives(write: Write):
    row = {"query": "who?", "answer": ["she", "he", "it"], "labels": [1, 0, 0]}
    assert listed(read_training(write([row]))) == [(["she"], ["he", "it"])]
    with pytest.raises(ValueError, match=r":1: 'labels' has 2 numbers for 3 texts"):
        read_training(write([row | {"labels": [1, 0]}]))
    scored = {name: value for name, value in row.items() if name != "labels"}
    with pytest.raises(ValueError, match=r":1: 'scores' holds scores"):
        read_training(write([scored | {"scores": [0.9, 0.6, 0.5]}]))


def test_a_table_whose_first_row_is_no_header_is_refused_even_by_name(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("who?,she is\nwhy?,it is\n")
    with pytest.raises(ValueError, match=r"pairs.csv:1: expected a header with names such as anch"):
        read_training(path, format="columns")
