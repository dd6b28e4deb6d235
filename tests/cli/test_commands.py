"""The verbs from files to a measured retriever, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from page_parser import Page
from tilefold.cli.main import main
from tilefold.data import read_documents, read_training

pytestmark = pytest.mark.usefixtures("one_thread")
N = 20


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A BEIR folder: query i asks for word i, document i has it, document N + i almost."""
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": f"d{i}", "title": f"w{i % N}", "text": f"w{(i + i // N) % N} is w{i // N}"}
        for i in range(2 * N)
    ]
    queries = [{"_id": f"q{i}", "text": f"who is w{i}"} for i in range(N)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(N))
    for split in ("train", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


@pytest.fixture
def config(tmp_path: Path, tiny_bert: Path, collection: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(
        f"model_name_or_path: {tiny_bert}\n"
        f"train_path: {collection}\n"
        f"dev_path: {collection}\n"
        "dev_split: test\n"
        "dev_measures: [nDCG@10]\n"
        f"output_dir: {tmp_path / 'out'}\n"
        "pooling: mean\n"
        "per_device_train_batch_size: 5\n"
        "max_steps: 4\n"
        "save_steps: 2\n"
        "learning_rate: 1.0e-3\n"
        "warmup_steps: 1\n"
        "refresh_at_start: true\n"
        "refresh_depth: 5\n"
        "refresh_negatives: 3\n"
        "use_cpu: true\n"
        "report_to: none\n"
        "disable_tqdm: true\n"
    )
    return path


def test_train_writes_a_model_and_its_arguments(config, tmp_path, capsys):
    assert main(["train", "--config", str(config), "--learning_rate", "2e-3"]) == 0
    said = capsys.readouterr().out
    assert "nDCG@10" in said
    assert "before" in said
    asked = (tmp_path / "out" / "train.yaml").read_text()
    assert "learning_rate: 2e-3" in asked
    assert (tmp_path / "out" / "model").is_dir()
    assert (tmp_path / "out" / "checkpoint-4").is_dir()


def test_a_training_is_resumed_and_not_overwritten(config, tmp_path, capsys):
    assert main(["train", "--config", str(config), "--max_steps", "2"]) == 0
    assert main(["train", "--config", str(config)]) == 1
    assert "holds a training already; resume it by --resume" in capsys.readouterr().err
    more = ["--resume_from_checkpoint", "last"]
    assert main(["train", "--config", str(config), *more]) == 0
    assert (tmp_path / "out" / "checkpoint-4").is_dir()
    nowhere = ["--output_dir", str(tmp_path / "new"), *more]
    assert main(["train", "--config", str(config), *nowhere]) == 1
    assert "has no finished checkpoint" in capsys.readouterr().err


def test_the_report_of_a_training_has_the_numbers_of_the_terminal(config, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[train]")
    report = tmp_path / "out" / "report.html"  # in a folder that the training makes
    words = ["--report", str(report), "--logging_steps", "1", "--eval_strategy", "steps"]
    words += ["--eval_steps", "2"]
    assert main(["train", "--config", str(config), *words, "--max_steps", "2"]) == 0
    first = Page(report.read_text())
    assert "Finished after 2 of 2 steps." in first.text
    capsys.readouterr()
    assert main(["train", "--config", str(config), *words, "--resume_from_checkpoint", "last"]) == 0
    out = capsys.readouterr().out
    page = Page(report.read_text())
    assert page.headings[0][1].startswith("Training of ")
    rows = next(table for table in page.tables if table[0][0] == "step")
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4"]
    assert rows[1:3] == next(t for t in first.tables if t[0][0] == "step")[1:]
    for step, loss, rate, *_ in rows[3:]:
        assert f"  step {step:>6}  loss {loss:>8}  learning_rate {rate:>9}" in out
    for name, cells in list(page.table("measure").items())[1:]:
        assert f"{name} {' '.join(cells)}" in " ".join(out.split())
    measured = page.files()["nDCG@10.csv"][1:]
    assert [row[1] for row in measured] == ["0", "2", "4"]
    assert f"Wrotecurves,measuresandsettingsto{report}" in "".join(out.split())
    assert f'report: "{report}"' in (tmp_path / "out" / "train.yaml").read_text()
    assert page.table("name")["pooling"] == ["mean"]


@pytest.mark.parametrize(
    ("report", "complaint"), [("no/report.html", "its folder does not exist"), ("", "a folder")]
)
def test_a_report_that_cannot_be_written_ends_a_training_before_it_begins(
    config, tmp_path, capsys, report, complaint
):
    path = tmp_path / report
    assert main(["train", "--config", str(config), "--report", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tilefold train: --report {path}: ")
    assert complaint in error
    assert not (tmp_path / "out").exists()


def test_one_title_format_from_training_to_evaluation(config, tmp_path, monkeypatch):
    from tilefold.models import BiEncoder, Encoder
    from tilefold.train import trainer_setup, yaml_arguments

    joined = ["--title_format", "{title} of {text}"]
    trainer = trainer_setup.prepare(yaml_arguments.parse(joined, config))
    for data in (trainer.draw.data, trainer.validation.collection):
        assert (data.titles[0], data.documents[0]) == ("w0", "w0 is w0")
    assert trainer.training_objective.model.title_format == "{title} of {text}"
    assert main(["train", "--config", str(config), *joined]) == 0
    model = tmp_path / "out" / "model"
    assert BiEncoder.from_pretrained(model).title_format == "{title} of {text}"
    seen = []
    encode = Encoder.encode

    def seeing(self: Encoder, texts: list[str], **options: object) -> np.ndarray:
        if options["progress"] == "documents":
            seen.append(texts[0])
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", seeing)
    folder = str(tmp_path / "collection")
    assert main(["eval", folder, "--model", str(model), "--baseline", str(model)]) == 0
    assert main(["mine", folder, "--model", str(model), "--out", str(tmp_path / "m.jsonl")]) == 0
    assert main(["encode", folder, "--model", str(model), "--out", str(tmp_path / "v")]) == 0
    assert seen == ["w0 of w0 is w0"] * 4


def test_eval_reads_every_file_of_a_collection_once(collection, tiny_bert, tmp_path, monkeypatch):
    from tilefold.models import BiEncoder

    titled = BiEncoder.from_pretrained(tiny_bert, title_format="{title} of {text}")
    titled.save_pretrained(tmp_path / "titled")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"_id": f"q{i}", "answers": [f"w{i}"]}) + "\n" for i in range(N))
    )
    opened = []
    plain = Path.open

    def counting(path: Path, *arguments, **keywords):
        opened.append(path)
        return plain(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", counting)
    models = ["--model", str(tmp_path / "titled"), "--baseline", str(tiny_bert)]
    out = tmp_path / "measured.json"
    words = ["eval", str(collection), "--answers", str(answers), "--out", str(out), *models]
    assert main(words) == 0
    inside = [path.name for path in opened if path.is_relative_to(collection)]
    assert sorted(inside) == ["corpus.jsonl", "queries.jsonl", "test.tsv"]
    assert "accuracy" in out.read_text().lower()


def test_mined_negatives_keep_titles_apart_from_texts(collection, tiny_bert, tmp_path):
    model = ["--model", str(tiny_bert), "--pooling", "mean"]
    for words in (model, ["--bm25"]):
        out = tmp_path / "hard.jsonl"
        assert main(["mine", str(collection), "--out", str(out), "--negatives", "2", *words]) == 0
        for line in out.read_text().splitlines():
            record = json.loads(line)
            for passage in record["positive_passages"] + record["negative_passages"]:
                number = int(passage["docid"].removeprefix("d"))
                assert passage["title"] == f"w{number % N}"
                assert passage["text"].endswith(f"is w{number // N}")


def test_the_best_checkpoint_needs_a_measure_that_is_there(config, capsys):
    words = ["train", "--config", str(config), "--metric_for_best_model", "ndcg@10"]
    assert main(words) == 1
    assert "expected one of nDCG@10, average_rank" in capsys.readouterr().err


def test_saved_arguments_train_the_same_model(config, tmp_path, tiny_bert):
    from tilefold.models import BiEncoder

    assert main(["train", "--config", str(config)]) == 0
    again = ["--output_dir", str(tmp_path / "again")]
    assert main(["train", "--config", str(tmp_path / "out" / "train.yaml"), *again]) == 0
    one, other = (
        BiEncoder.from_pretrained(tmp_path / name / "model").encode_queries(["who is w3"])
        for name in ("out", "again")
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat", "1"], "learning_rat"),
        (["--learning_rate", "fast"], "invalid float value"),
        (["--train_path", "nowhere"], "nowhere"),
        (["--model_name_or_path", "./nowhere"], "nowhere"),
        (["--dev_holdout", "3"], "give dev_path or dev_holdout, not both"),
    ],
)
def test_errors_of_train_are_one_line(config, capsys, words, message):
    assert main(["train", "--config", str(config), *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("tilefold train: ")
    assert said.count("\n") == 1
    assert message in said


def test_mined_negatives_can_be_trained_on(collection, tiny_bert, tmp_path, capsys):
    out = tmp_path / "hard.jsonl"
    model = ["--model", str(tiny_bert), "--pooling", "mean"]
    assert main(["mine", str(collection), "--out", str(out), "--negatives", "3", *model]) == 0
    assert "3.0 a query; 0 queries with fewer" in capsys.readouterr().out
    mined = read_training(out)
    assert np.diff(mined.negatives.offsets).tolist() == [3] * N
    assert not set(mined.negatives.indices[:3]) & set(mined.positives.indices[:1])


def test_negatives_by_words(collection, tmp_path, capsys):
    pytest.importorskip("bm25s")
    out = tmp_path / "hard.jsonl"
    words = ["mine", str(collection), "--out", str(out), "--negatives", "1", "--bm25"]
    assert main(words) == 0
    assert len(read_training(out)) == N


@pytest.mark.parametrize("indexed", [False, True], ids=["shards", "index"])
def test_a_corpus_is_encoded_and_searched(collection, tiny_bert, tmp_path, capsys, indexed):
    model = ["--model", str(tiny_bert), "--pooling", "mean"]
    where = tmp_path / "vectors"
    for shard in ("0", "1"):
        part = ["--out", str(where), "--num-shards", "2", "--shard", shard]
        assert main(["encode", str(collection), *part, *model]) == 0
    if indexed:
        assert main(["index", str(where), "--out", str(tmp_path / "index")]) == 0
        where = tmp_path / "index"
    run = tmp_path / "run.trec"
    found = ["--queries", str(collection), "--k", "5", "--run", str(run)]
    assert main(["search", str(where), *found, *model]) == 0
    lines = [line.split() for line in run.read_text().splitlines()]
    assert len(lines) == 5 * N
    assert {line[2] for line in lines} <= {f"d{i}" for i in range(2 * N)}
    capsys.readouterr()
    assert main(["search", str(where), "--query", "who is w3", "--k", "2", *model]) == 0
    assert capsys.readouterr().out.count("  d") == 2
    assert main(["search", str(where), "--query", "w3", "--texts", str(collection), *model]) == 0
    shown = capsys.readouterr().out
    assert shown.count("  d") == 10
    texts = read_documents(collection)
    best = texts.rows()["d" + shown.split("  d", 1)[1].split()[0]]
    assert texts.texts[best][:40] in shown
    few = tmp_path / "few.jsonl"
    few.write_text('{"_id": "d1", "text": "one"}\n')
    assert main(["search", str(where), "--query", "w3", "--texts", str(few), *model]) == 1
    assert f"--texts: {few} lacks document 'd0' of" in capsys.readouterr().err
    typed = ["--query", "who is w3", "--query", "w4", "--k", "1", "--run", str(run)]
    assert main(["search", str(where), *typed, *model]) == 0
    assert [line.split()[0] for line in run.read_text().splitlines()] == ["q1", "q2"]


def test_a_corpus_is_searched_with_the_model_that_encoded_it(
    collection, tiny_bert, tmp_path, capsys
):
    model, out = ["--model", str(tiny_bert), "--pooling", "mean"], ["--out", str(tmp_path / "v")]
    assert main(["encode", str(collection), *out, *model]) == 0
    other = ["--model", str(tiny_bert), "--pooling", "cls"]
    assert main(["search", str(tmp_path / "v"), "--query", "w1", *other]) == 1
    assert "with pooling mean, but" in capsys.readouterr().err
    assert main(["encode", str(collection), *out, *other]) == 1
    assert (
        "written with another model: pooling='mean', not 'cls'; choose" in capsys.readouterr().err
    )
    corpus = collection / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace(" is ", " of "))
    assert main(["encode", str(collection), *out, *model]) == 1
    assert "was written from another corpus" in capsys.readouterr().err
    index = ["index", str(tmp_path / "v"), "--out", str(tmp_path / "i")]
    assert main(index) == 0
    assert main(index) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--min-score", "--seed", "--query-max-length", "--batch-size"])
def test_options_of_vectors_do_not_go_with_words(collection, tmp_path, capsys, option):
    words = ["mine", str(collection), "--bm25", "--out", str(tmp_path / "m"), option, "1"]
    assert main(words) == 1
    assert f"{option} does not go with --bm25" in capsys.readouterr().err
    words = ["mine", str(collection), "--out", str(tmp_path / "m"), "--title-format", "{text}"]
    assert main(words) == 1
    assert "--title-format goes with --bm25" in capsys.readouterr().err


def test_saved_options_give_the_same_result(collection, tiny_bert, tmp_path):
    """Every result has a file beside it that goes with --config; words go before it."""
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    model = ["--model", str(tiny_bert), "--pooling", "mean", "--no-normalize"]
    asked = ["--negatives", "3", "--sampling", "random", "--seed", "5", *model]
    assert main(["mine", str(collection), "--out", str(first), *asked]) == 0
    settings = yaml.safe_load((tmp_path / "first.yaml").read_text())
    assert settings["data"] == str(collection)
    assert settings["normalize"] is False
    config = ["--config", f"{first}.yaml"]
    assert main(["mine", *config, "--out", str(again)]) == 0
    assert again.read_bytes() == first.read_bytes()
    assert main(["mine", *config, "--out", str(other), "--negatives", "2"]) == 0
    assert {len(read_training(other).negatives.of(row)) for row in range(N)} == {2}


def test_saved_options_of_bm25_give_the_same_result(collection, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    assert main(["mine", str(collection), "--bm25", "--negatives", "2", "--out", str(first)]) == 0
    assert main(["mine", "--config", f"{first}.yaml", "--out", str(again)]) == 0
    assert again.read_bytes() == first.read_bytes()


def test_vectors_an_index_and_a_run_have_their_options_beside_them(
    collection, tiny_bert, tmp_path, capsys
):
    model = ["--model", str(tiny_bert), "--pooling", "mean"]
    shards, index, run = (tmp_path / name for name in ("shards", "index", "run"))
    assert main(["encode", str(collection), "--out", str(shards), *model]) == 0
    assert ".safetensors, 0 s\n" in capsys.readouterr().out
    assert main(["encode", "--config", str(shards / "encode.yaml")]) == 0  # nothing is left to do
    assert ".safetensors, kept\n" in capsys.readouterr().out
    assert main(["index", str(shards), "--out", str(index)]) == 0
    again = ["--config", str(index / "index.yaml"), "--out", str(tmp_path / "i")]
    assert main(["index", *again]) == 0
    typed = ["--query=-w1", "--query", "who: w3", "is", "--k", "4"]
    assert main(["search", str(index), *typed, "--run", str(run), *model]) == 0
    found = run.read_text()
    assert len(found.splitlines()) == 3 * 4
    assert main(["search", str(shards), "--config", f"{run}.yaml"]) == 0
    assert run.read_text() == found
    assert main(["search", "--config", f"{run}.yaml", "--query", "w5"]) == 0
    assert len(run.read_text().splitlines()) == 4


def test_eval_writes_its_measures(collection, tiny_bert, tmp_path, capsys):
    out, again = tmp_path / "found.json", tmp_path / "again.json"
    words = ["eval", str(collection), "--model", str(tiny_bert), "--baseline", str(tiny_bert)]
    words += ["--measures", "RR@3", "AP", "--query-prefix=-w1 "]
    assert main([*words, "--out", str(out), "--run", str(tmp_path / "run")]) == 0
    found = json.loads(out.read_text())
    assert found["options"]["measures"] == ["RR@3", "AP"]
    assert found["n_queries"] == N
    assert set(found["measures"]) >= {"dense", "baseline"}
    low, mean, high = (found["measures"]["dense"]["AP"][name] for name in ("low", "mean", "high"))
    assert low <= mean <= high
    assert set(found["over_baseline"]["AP"]) == {"mean", "low", "high", "p"}
    assert main(["eval", "--config", str(tmp_path / "run.yaml"), "--out", str(again)]) == 0
    assert json.loads(again.read_text())["measures"] == found["measures"]


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("data: [\n", 1, "not YAML"),
        ("- folder\n", 1, "expected a mapping"),
        ("data: ${NOWHERE}/x\n", 1, "needs the environment variable NOWHERE"),
        ("data: x\nmeasure: AP\n", 1, "unknown option 'measure'; did you mean measures?"),
        ("data: x\nk: many\n", 2, "must be at least 1, got many"),
        ("k: 10\n", 2, "the following arguments are required: data"),
    ],
)
def test_a_file_of_settings_that_does_not_fit_is_refused(tmp_path, capsys, text, status, message):
    path = tmp_path / "eval.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match=str(status)):
        main(["eval", "--config", str(path)])
    assert message in capsys.readouterr().err


def test_search_names_the_options_that_it_needs(collection, tiny_bert, tmp_path, capsys):
    assert main(["search", str(tmp_path), "--query", "a"]) == 1
    assert "holds no shards of a corpus" in capsys.readouterr().err
    assert main(["search", str(tmp_path), "--query", "a", " "]) == 1
    assert "--query: expected a text, got a blank one" in capsys.readouterr().err
    assert main(["search", str(tmp_path)]) == 1
    assert "search: give --query TEXT or --queries FILE\n" in capsys.readouterr().err
    both = ["--texts", str(collection), "--run", str(tmp_path / "run")]
    assert main(["search", str(tmp_path), "--query", "a", *both]) == 1
    assert "--texts shows results, and --run writes them to a file" in capsys.readouterr().err
    assert main(["search", str(tmp_path), "--query", "a", "--queries", "b"]) == 1
    assert "give --query TEXT or --queries FILE, not both\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "--lerning_rate", "3", "--model_name_or_path", "x", "--train_path", "y"],
            "unknown option --lerning_rate; did you mean --learning_rate?",
        ),
        (
            ["train", "--lerning_rate", "3"],
            "unknown option --lerning_rate; did you mean --learning_rate?",
        ),
        (["train", "--moddel", "x"], "unknown option --moddel; did you mean --model_name_or_path?"),
        (
            ["mechanisms", "probe", "--world", "tiny", "--candidates", "9"],
            "--candidates: expected 2 to 5, got 9",
        ),
        (
            ["mechanisms", "neurons", "--world", "tiny", "--seed", "-1"],
            "--seed: expected 0 or more, got -1",
        ),
    ],
)
def test_wrong_options_are_named_as_they_are_typed(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["--output_dir", "out"] if words[0] == "train" else []
    assert main([*words, *more]) == 1
    command = words[0] if words[0] == "train" else " ".join(words[:2])
    assert capsys.readouterr().err == f"tilefold {command}: {message}\n"
    assert not list(tmp_path.iterdir())
