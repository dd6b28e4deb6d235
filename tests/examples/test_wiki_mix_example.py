"""The example of AAR on Wikipedia passages: its collection, and what readers learn from."""

import itertools
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")
yaml = pytest.importorskip("yaml", reason="yaml is not installed: pip install tilefold[cli]")

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import aar_wiki_mix

from tilefold.data import TrainingSet, read_training
from tilefold.ragged_lists import Lists
from tilefold.studies.aar import AARSettings


def test_the_collection_has_every_judged_passage_and_others_up_to_the_number(tmp_path):
    folder = tmp_path / "nq"
    (folder / "qrels").mkdir(parents=True)
    for name, first, n in (("corpus", "d", 30), ("queries", "q", 8)):
        rows = [{"_id": f"{first}{i}", "text": f"{name} {i}"} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, rows in (("train", range(5)), ("test", range(5, 8))):
        lines = [f"q{i}\td{i}\t1" for i in rows]
        (folder / "qrels" / f"{split}.tsv").write_text(
            "\n".join(["query-id\tcorpus-id\tscore", *lines])
        )
    tests = [aar_wiki_mix.judgments(folder, "test"), [["q0", "d20", "1"]]]
    aar_wiki_mix.write_collection(folder, tests, tmp_path / "out", questions=3, passages=12)
    found = read_training(tmp_path / "out", split="train")
    assert len(found) == 3
    assert len(found.document_ids) == 12
    assert {"d5", "d6", "d7", "d20"} <= set(found.document_ids)
    again = tmp_path / "again"
    aar_wiki_mix.write_collection(folder, tests, again, questions=3, passages=12)
    assert read_training(again, split="train").document_ids == found.document_ids


def test_readers_learn_from_passages_that_have_the_answer():
    text = "The hen was born in Belton. In 1912 the Red Fox of Drumar won 3 races there."
    lists = Lists.pack([[0], [0]]), Lists.pack([[], []])
    answers = [("Belton",), ("Paris",)]  # of the second, the passage has none
    data = TrainingSet(["a", "b"], ["where?", "no?"], ["d"], [text], *lists, answers)
    drawn = list(itertools.islice(aar_wiki_mix.examples(data, seed=0), 200))
    assert all(answer in passage for _, passage, answer in drawn)
    assert "no?" not in {question for question, _, _ in drawn}
    gaps = {answer for question, _, answer in drawn if question != "where?"}
    assert {"Belton", "Red Fox of Drumar", "1912", "3"} >= gaps
    assert len(gaps) > 1


def test_a_crop_keeps_the_answer():
    import random

    passage = "x" * 300 + "answer" + "y" * 300
    for seed in range(20):
        part = aar_wiki_mix.crop(passage, "answer", random.Random(seed))
        assert "answer" in part
        assert len(part) == aar_wiki_mix.CROP


def test_its_configuration_is_one_of_the_study():
    values = yaml.safe_load((EXAMPLES / "aar_wiki_mix.yaml").read_text())
    values.pop("out")
    assert AARSettings(**values).modes == ("human", "lm")
