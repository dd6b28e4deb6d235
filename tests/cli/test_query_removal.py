"""The query in its own corpus, as a user meets it: commands leave it out, and say so."""

import json
import re
from pathlib import Path

import pytest
from counting_encoder import WordEncoder, stand_in

from tilefold.cli.main import main
from tilefold.data import read_run, read_training
from tilefold.retrieval.encode_shards import encode_shards

N = 6
WORDS = ["fox", "hen", "barn", "water", "wheat", "owl"]


@pytest.fixture(autouse=True)
def encoders(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return stand_in(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Like ArguAna: every query is a document, and its answer is another one that is similar."""
    root = tmp_path / "arguments"
    (root / "qrels").mkdir(parents=True)
    queries = [{"_id": f"{word}-pro", "text": f"the {word} is good"} for word in WORDS]
    answers = [{"_id": f"{word}-con", "text": f"the {word} is not good"} for word in WORDS]
    for name, records in (("corpus", queries + answers), ("queries", queries)):
        lines = (json.dumps(record) + "\n" for record in records)
        (root / f"{name}.jsonl").write_text("".join(lines))
    judged = "".join(f"{word}-pro\t{word}-con\t1\n" for word in WORDS)
    for split in ("test", "train"):
        (root / "qrels" / f"{split}.tsv").write_text(judged)
    return root


def means(path: Path) -> dict[str, float]:
    measures = json.loads(path.read_text())["measures"]
    return {ranking: values["RR@5"]["mean"] for ranking, values in measures.items()}


def test_eval_has_the_rule_of_beir_and_says_so(folder, tmp_path, capsys):
    """RR@5 of 1.000 for every ranking, where trec_eval's rule gives 0.500."""
    out = tmp_path / "found.json"
    words = ["eval", str(folder), "--measures", "RR@5", "--k", "5", "--out", str(out)]
    assert main(words) == 0
    out_of_ranking = f"{N} documents with the id of their query (--remove-query id)"
    assert out_of_ranking in capsys.readouterr().out
    assert means(out) == {"dense": 1, "BM25": 1, "dense + BM25": 1}
    assert json.loads(out.read_text())["n_removed"] == N
    assert main([*words, "--remove-query", "none"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert means(out) == {"dense": 0.5, "BM25": 0.5, "dense + BM25": 0.5}
    assert json.loads(out.read_text())["n_removed"] == 0


def test_a_run_of_eval_is_without_the_query_and_as_long_as_before(folder, tmp_path):
    for rule, own in (("auto", 0), ("none", N)):
        path = tmp_path / f"{rule}.trec"
        words = ["--run", str(path), "--k", "3", "--measures", "RR@3", "--remove-query", rule]
        assert main(["eval", str(folder), *words]) == 0
        rows = [line.split() for line in path.read_text().splitlines()]
        assert len(rows) == 3 * N
        assert sum(row[0] == row[2] for row in rows) == own
        names = [f"{word}-pro" for word in WORDS]
        assert (read_run(path).ranking(names, names, remove_query=True) >= 0).sum() == 3 * N - own


def test_the_same_texts_in_another_layout_are_kept_and_named(folder, tmp_path, capsys):
    """MS MARCO has no such rule, and its numbers of queries and passages are independent."""
    marco = tmp_path / "marco"
    marco.mkdir()
    for source, name in (("corpus", "collection"), ("queries", "queries.test")):
        records = map(json.loads, (folder / f"{source}.jsonl").read_text().splitlines())
        lines = (f"{record['_id']}\t{record['text']}\n" for record in records)
        (marco / f"{name}.tsv").write_text("".join(lines))
    judged = "".join(f"{word}-pro\t0\t{word}-con\t1\n" for word in WORDS)
    (marco / "qrels.test.tsv").write_text(judged)
    out = tmp_path / "found.json"
    words = ["eval", str(marco), "--measures", "RR@5", "--out", str(out)]
    assert main(words) == 0
    kept = f"{N} documents with the text of their query kept (--remove-query none)\n"
    assert kept in capsys.readouterr().out
    assert means(out)["dense"] == 0.5
    assert main([*words, "--remove-query", "text"]) == 0
    assert f"{N} documents with the text of their query" in capsys.readouterr().out
    assert set(means(out).values()) == {1}


@pytest.mark.parametrize("ranker", [[], ["--bm25"]], ids=["dense", "bm25"])
@pytest.mark.parametrize("rule", ["auto", "id", "text", "both"])
def test_the_query_is_never_mined_as_its_negative(folder, tmp_path, capsys, ranker, rule):
    out = tmp_path / "hard.jsonl"
    words = ["mine", str(folder), "--out", str(out), "--negatives", "4", "--remove-query", rule]
    assert main([*words, *ranker]) == 0
    assert re.search(rf"left out +{N} documents with the", capsys.readouterr().out)
    mined = read_training(out)
    for row, query in enumerate(mined.queries):
        found = mined.negatives.of(row)
        assert len(found) == 4
        assert query not in [mined.documents[document] for document in found]


@pytest.mark.parametrize("ranker", [[], ["--bm25"]], ids=["dense", "bm25"])
def test_a_query_in_a_training_file_is_known_by_its_text(tmp_path, capsys, ranker):
    """A file has no ids that could be compared: it is another query's positive."""
    data, out = tmp_path / "pairs.csv", tmp_path / "hard.jsonl"
    pairs = [("the fox is good", "the hen is good"), ("the hen is good", "the fox is good")]
    data.write_text("anchor,positive\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    words = ["mine", str(data), "--out", str(out), "--negatives", "1", *ranker]
    assert main(words) == 0
    assert len(read_training(out).negatives.indices) == 0
    assert main([*words, "--remove-query", "none"]) == 0
    assert len(read_training(out).negatives.indices) == 2
    assert "left out" not in capsys.readouterr().out.partition("Wrote")[2]


def test_search_leaves_the_query_out_of_runs_of_beir(folder, tmp_path, capsys):
    records = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    list(
        encode_shards(
            WordEncoder().encode_documents,
            [record["text"] for record in records],
            [record["_id"] for record in records],
            tmp_path / "vectors",
            model={"name": "words", "weights": "words"},
        )
    )
    run = tmp_path / "run.trec"
    words = ["search", str(tmp_path / "vectors"), "--run", str(run), "--k", "3"]
    for rule, own in (("auto", 0), ("id", 0), ("none", N)):
        assert main([*words, "--queries", str(folder), "--remove-query", rule]) == 0
        rows = [line.split() for line in run.read_text().splitlines()]
        assert len(rows) == 3 * N
        assert sum(row[0] == row[2] for row in rows) == own
        assert ("left out" in capsys.readouterr().out) == (own == 0)
    queries = folder / "queries.jsonl"  # a file may be of any collection
    assert main([*words, "--queries", str(queries)]) == 0
    assert sum(line.split()[0] == line.split()[2] for line in run.read_text().splitlines()) == N


def test_training_says_what_it_leaves_out(folder, tiny_bert, tmp_path, capsys):
    """No negatives of the batch, none that is mined, and no results of the validation."""
    words = ["train", "--model_name_or_path", str(tiny_bert), "--output_dir", str(tmp_path / "out")]
    words += ["--train_path", str(folder), "--dev_path", str(folder), "--dev_split", "test"]
    words += ["--dev_measures", "RR@5", "--pooling", "mean", "--max_steps", "1"]
    words += ["--per_device_train_batch_size", "3", "--use_cpu", "true", "--report_to", "none"]
    words += ["--disable_tqdm", "true", "--warmup_steps", "0", "--refresh_at_start", "true"]
    assert main([*words, "--refresh_negatives", "3"]) == 0
    out = capsys.readouterr().out
    assert f"{N} documents with the id or the text of their query (--remove-query both)" in out
    assert f"{N} documents with the id of their query (--remove-query id)" in out
    words[4] = str(tmp_path / "again")
    assert main([*words, "--remove_query", "none"]) == 0
    assert "left out" not in capsys.readouterr().out
