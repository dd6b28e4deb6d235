"""A teacher's scores in a training file are used, or a line says that they are not."""

import json
from pathlib import Path

import pytest

from tilefold.cli.main import main
from tilefold.data import read_training

FLAG = {"query": "who?", "pos": ["she"], "neg": ["he"], "pos_scores": [1.0], "neg_scores": [0.5]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(FLAG))
    return file


@pytest.mark.parametrize(
    ("weight", "line"),
    [("0", "in the file, not used: --distillation_weight is 0"), ("0.5", "weight 0.5")],
)
def test_training_shows_whether_the_scores_are_used(path, capsys, tmp_path, weight, line):
    pytest.importorskip("accelerate")
    from tilefold.cli.verbs.train import _show_teacher
    from tilefold.train.arguments import RetrieverTrainingArguments

    arguments = RetrieverTrainingArguments(
        output_dir=str(tmp_path), distillation_weight=weight, report_to=[], use_cpu=True
    )
    data = read_training(path)
    _show_teacher(data, arguments)
    assert line in capsys.readouterr().out
    path.write_text(json.dumps({"query": "who?", "pos": ["she"], "neg": ["he"]}))
    _show_teacher(read_training(path), arguments)
    assert capsys.readouterr().out == ""


def test_mining_shows_that_scores_of_replaced_negatives_are_gone(path, capsys, tmp_path):
    pytest.importorskip("bm25s")
    more = {"query": "where is she?", "pos": ["there she is"], "neg": ["nowhere"]}
    path.write_text(f"{json.dumps(FLAG)}\n{json.dumps(more)}\n")
    out = tmp_path / "mined.jsonl"
    assert main(["mine", str(path), "--bm25", "--out", str(out), "--negatives", "1"]) == 0
    shown = capsys.readouterr().out
    assert "those of the negatives in the file go with them" in shown
    assert "BM25       1 of 2 queries share no word with any document" in shown
    assert read_training(out).negative_scores is None
