"""The examples of Invar-RAG on real text: their data, and their configurations with tiny models."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")
pytest.importorskip("yaml", reason="yaml is not installed: pip install tilefold[cli]")

import tiny_language_models
from tilefold.cli.main import main
from tilefold.data import read_rewrites, read_training
from tilefold.models import minilm
from tilefold.studies.invar import INVAR
from tilefold.studies.invar.answer_measures import SYSTEMS
from tilefold.studies.invar.invar_result import InvarResult
from tilefold.studies.study_file import read_result

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = ["red", "fox", "hen", "sleeps", "runs", "over", "barn"]


def example(name: str, *words: object) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_beir(folder: Path, documents: dict[str, str], queries: dict[str, str], qrels: dict):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        title = {"title": "the title"} if name == "corpus" else {}
        rows = [{"_id": key, **title, "text": text} for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, pairs in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{doc}\t1" for query, doc in pairs)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_language_models.save("LlamaForCausalLM", folder, max_position_embeddings=256)
    tiny_language_models.save_words("LlamaForCausalLM", folder, length=256)
    return folder


@pytest.fixture(scope="module")
def faqs(tmp_path_factory) -> Path:
    """Eight questions in ten wordings, the last one in nine, and two answers to each."""
    folder = tmp_path_factory.mktemp("faqs")
    wordings = [(i, j) for i in range(8) for j in range(9 if i == 7 else 10)]
    documents = {f"{i}-{j}": f"the {WORDS[i % 7]} {WORDS[j]} {i}" for i in range(8) for j in (0, 1)}
    queries = {f"q{i}-{j}": f"a {WORDS[i % 7]} {'over ' * j}?" for i, j in wordings}
    qrels = [(f"q{i}-{j}", f"{i}-{answer}") for i, j in wordings for answer in (0, 1)]
    write_beir(folder / "beir", documents, queries, {"test": qrels})
    return folder / "beir"


@pytest.mark.parametrize("new", [False, True])
def test_no_wording_of_a_question_is_in_two_splits(faqs, tmp_path, new):
    example("invar_stackfaq", faqs, tmp_path, *["--new-questions"] * new)
    wordings, questions = {}, {}
    for split, count in (("train", 2), ("dev", 1), ("test", 4)):
        data = read_training(tmp_path, split=split)
        rewrites = read_rewrites(tmp_path / f"{split}_rewrites.jsonl", data.query_ids, data.queries)
        assert {len(own) for own in rewrites} <= {count, count - (split == "test")}
        wordings[split] = {*data.queries, *(text for own in rewrites for text in own)}
        questions[split] = {re.sub("-.*", "", name) for name in data.query_ids}
        assert all(len(data.positives.of(row)) == 2 for row in range(len(data)))
        assert not any(data.titles)  # one more wording of the question
    assert not wordings["train"] & wordings["test"]
    assert not wordings["train"] & wordings["dev"]
    assert not wordings["dev"] & wordings["test"]
    assert questions["dev"] == questions["test"]
    assert bool(questions["train"] & questions["test"]) != new


def test_a_sample_has_the_passages_of_its_queries_and_as_many_others(tmp_path):
    documents = {f"d{i}": f"text {i}" for i in range(40)}
    queries = {f"q{i}": f"query {i}" for i in range(20)}
    pairs = [(f"q{i}", f"d{i}") for i in range(20)]
    splits = {"train": pairs[:12], "test": pairs[12:]}
    write_beir(tmp_path / "whole", documents, queries, splits)
    options = ("--train", 5, "--test", 3, "--passages", 15)
    example("sample_collection", tmp_path / "whole", tmp_path / "some", *options)
    example("sample_collection", tmp_path / "whole", tmp_path / "again", *options)
    train, test = (read_training(tmp_path / "some", split=split) for split in ("train", "test"))
    assert (len(train), len(test), len(train.documents)) == (5, 3, 15)
    assert {name for name, _ in splits["test"]} >= set(test.query_ids)
    assert read_training(tmp_path / "again", split="test").query_ids == test.query_ids


OPTIONS = "--seeds 0 --lora-rank 2 --group-negatives 1 --depth 4 --epochs 1 --dtype float32"


def run(name: str, out: Path, *words: object) -> InvarResult:
    command = ["invar", "run", "--config", str(EXAMPLES / f"{name}.yaml"), "--out", str(out)]
    assert main([*command, *OPTIONS.split(), *map(str, words)]) == 0
    return read_result(out / "invar.json", INVAR)


@pytest.mark.parametrize("name", ["invar_stackfaq", "invar_stackfaq_smollm2"])
def test_the_configurations_of_stackfaq_run(faqs, llama, tmp_path, name):
    minilm()  # skips or fails here where it is not installed
    example("invar_stackfaq", faqs, tmp_path / "data")
    data = ["--data", tmp_path / "data", "--test", tmp_path / "data"]
    data += ["--rewrites", tmp_path / "data" / "train_rewrites.jsonl"]
    data += ["--unseen-rewrites", tmp_path / "data" / "test_rewrites.jsonl"]
    if name == "invar_stackfaq_smollm2":
        data += ["--model", llama]
    found = run(name, tmp_path / "out", *data)
    assert found.counts["test questions"] == 7  # one has a wording less


def test_the_configuration_of_wiki_mix_runs_both_stages(llama, tmp_path, monkeypatch):
    minilm()  # skips or fails here where it is not installed
    documents = {f"w{i}": f"the {WORDS[i % 7]} {WORDS[(i * 3) % 7]} {i}" for i in range(40)}
    queries = {f"nq{i}": f"where is the {WORDS[i % 7]} {i}" for i in range(20)}
    pairs = [(f"nq{i}", f"w{i}") for i in range(20)]
    write_beir(tmp_path / "data", documents, queries, {"train": pairs[:12], "test": pairs[12:]})
    rows = [{"_id": name, "answers": [WORDS[i % 7]]} for i, name in enumerate(queries)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("WIKI_MIX", str(tmp_path))
    words = ["--data", tmp_path / "data", "--test", tmp_path / "data", "--model", llama]
    words += ["--max-length", 256, "--generator-epochs", 1, "--max-new-tokens", 2]
    found = run("invar_wiki_mix", tmp_path / "out", *words)
    assert {row.system for row in found.generation} == {*SYSTEMS}
    assert found.counts["test questions"] == 8
