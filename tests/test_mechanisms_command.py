"""`tilefold mechanisms`, as a user types it."""

import json
from functools import partial

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.cli import main
from tilefold.data import write_training
from tilefold.world import make_world, models
from tilefold.world.texts import split_facts, training_set

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ["--probes", "concatenation", "dot product", "--candidates", "2", "--epochs", "2"]


@pytest.fixture
def short(tmp_path, monkeypatch):
    """Models that hardly learn anything, kept in a folder of the test."""
    monkeypatch.setenv("TILEFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "pretrained", partial(models.pretrained, steps=4))
    monkeypatch.setattr(models, "fine_tuned", partial(models.fine_tuned, epochs=1))


def test_a_world_is_probed(short, tmp_path, capsys):
    out = tmp_path / "found.json"
    words = ["mechanisms", "probe", "--world", "tiny", "--out", str(out), *QUICK]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "chance 0.50" in said
    assert "random weights" in said
    found = json.loads(out.read_text())
    assert found["asked"]["world"] == "tiny"
    keys = {(r["model"], r["layer"], r["probe"], r["control"]) for r in found["results"]}
    assert len(keys) == len(found["results"]) == 3 * 5 * 2 * 3
    assert all(0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 for r in found["results"])
    again = tmp_path / "again.json"
    words[words.index(str(out))] = str(again)
    assert main(words) == 0
    assert json.loads(again.read_text())["results"] == found["results"]


def test_any_retriever_is_probed_beside_its_base(tiny_bert, tmp_path, capsys):
    world = make_world("tiny")
    data = tmp_path / "train.jsonl"
    write_training(data, training_set(world, split_facts(world)[0][:30], paraphrases=(0,)))
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    assert main(["mechanisms", "probe", *words, *QUICK]) == 0
    said = capsys.readouterr().out
    layers = [line for line in said.splitlines() if line.lstrip().startswith("layer")]
    assert len(layers) >= 3
    assert not any("*" in line for line in layers)  # a model is like itself


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe"], "give --world SIZE, or --model, --base and --data"),
        (["probe", "--world", "tiny", "--data", "x"], "give --world SIZE, or --model"),
        (["probe", "--model", "x", "--base", "y"], "give --world SIZE, or --model"),
        (["probe", "--world", "tiny", "--split", "dev"], "--split goes with --data"),
        (["probe", "--world", "tiny", "--candidates", "6"], "must be 2 to 5, got 6"),
        (["brain", "--world", "tiny"], "has probe, got 'brain'"),
        (["probe", "--world", "tiny", "--mode", "both"], "mode must be one of query"),
        (["probe", "--world", "tiny", "--probes", "cubic"], "probes must be of concatenation"),
    ],
)
def test_what_cannot_be_probed_is_said_in_a_line(short, capsys, words, message):
    assert main(["mechanisms", *words]) == 1
    assert message in capsys.readouterr().err
