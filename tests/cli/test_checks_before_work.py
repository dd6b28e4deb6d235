"""Commands find what is wrong before they encode, load a model, ask the hub or need a package."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counting_encoder import WordEncoder, stand_in

from tilefold import FlatIndex, HnswIndex
from tilefold.cli.main import main
from tilefold.retrieval.encode_shards import encode_shards


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return stand_in(monkeypatch)


def encoded(folder: Path, names: list[str]) -> Path:
    record = {"name": "words", "weights": "words"}
    list(encode_shards(WordEncoder().encode_documents, names, names, folder, model=record))
    return folder


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.jsonl"
    path.write_text(json.dumps({"_id": "q1", "text": "fox"}) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "query"), [("two words", "q1"), ("d1", "two words")], ids=["document", "query"]
)
def test_search_reads_the_names_of_a_run_before_it_encodes(tmp_path, encoders, capsys, name, query):
    path = tmp_path / "queries.jsonl"
    path.write_text(json.dumps({"_id": query, "text": "fox"}) + "\n")
    vectors, run = encoded(tmp_path / "vectors", [name]), tmp_path / "run.trec"
    assert main(["search", str(vectors), "--queries", str(path), "--run", str(run)]) == 1
    assert "'two words' cannot stand in a run" in capsys.readouterr().err
    assert encoders == {}
    assert not run.exists()


def test_eval_reads_the_names_of_a_run_before_it_encodes(tmp_path, encoders, capsys):
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "two words", "text": "fox"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "fox"}\n')
    (folder / "qrels" / "test.tsv").write_text("q1\ttwo words\t1\n")
    assert main(["eval", str(folder), "--run", str(tmp_path / "run")]) == 1
    assert "'two words' cannot stand in a run" in capsys.readouterr().err
    assert encoders == {}


@pytest.mark.parametrize("option", ["--model", "--baseline"])
def test_eval_finds_the_model_before_it_reads_the_collection(tmp_path, capsys, monkeypatch, option):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("no JSON")
    assert main(["eval", str(folder), option, "./nowhere"]) == 1
    assert "there is no folder ./nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--run", "no/run"], "no/run: its folder does not exist"),
        (["--queries", "nowhere", "--run", "run"], "there is no file nowhere"),
    ],
)
def test_search_says_what_is_wrong_before_it_encodes(
    tmp_path, queries, encoders, capsys, monkeypatch, words, complaint
):
    monkeypatch.chdir(tmp_path)
    vectors = encoded(tmp_path / "vectors", ["d1"])
    assert main(["search", str(vectors), "--queries", str(queries), *words]) == 1
    assert complaint in capsys.readouterr().err
    assert encoders == {}


SEARCH = ["search", "{path}", "--query", "fox"]
INDEX = ["index", "{path}", "--out", "index"]


@pytest.mark.parametrize("words", [SEARCH, INDEX, ["serve", "{path}"]], ids=lambda words: words[0])
def test_a_folder_that_is_not_encoded_is_told_from_one_that_is_not_there(
    words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "scifact" / "corpus.jsonl"
    corpus.parent.mkdir()
    corpus.write_text(json.dumps({"_id": "d1", "text": "fox"}) + "\n")
    for path in ("scifact", "scifact/corpus.jsonl"):
        assert main([word.format(path=path) for word in words]) == 1
        said = f"{path} is not an encoded corpus; run: tilefold encode {path} --out FOLDER\n"
        assert capsys.readouterr().err == f"tilefold {words[0]}: {said}"
    assert main([word.format(path="nothere") for word in words]) == 1
    assert capsys.readouterr().err == f"tilefold {words[0]}: there is no folder nothere\n"


def test_a_folder_that_holds_its_vectors_besides_other_files_is_searched(
    tmp_path, encoders, capsys
):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "text": "fox"}) + "\n")
    (tmp_path / "manifest.json").write_text("{}")  # of somebody else
    encoded(tmp_path, ["d1"])
    assert main(["search", str(tmp_path), "--query", "fox"]) == 0
    assert capsys.readouterr().out.endswith("  d1\n")


@pytest.mark.parametrize("words", [SEARCH, INDEX], ids=lambda words: words[0])
def test_a_saved_index_is_refused_with_what_reads_it(words, tmp_path, capsys, monkeypatch):
    pytest.importorskip("hnswlib")
    monkeypatch.chdir(tmp_path)
    for make, served in ((FlatIndex, "tilefold serve {0}, or "), (HnswIndex, "")):
        name = make.__name__
        index = make(4)
        index.add(np.ones((3, 4), np.float32))
        index.save(name)
        assert main([word.format(path=name) for word in words]) == 1
        assert capsys.readouterr().err == (
            f"tilefold {words[0]}: {name} is a saved {name}; tilefold {words[0]} takes folders of "
            f"tilefold encode; search it with {served.format(name)}{name}.load in Python\n"
        )


@pytest.mark.parametrize(
    "words",
    [
        ["search", "vectors", "--query", "fox", "--k", "0"],
        ["search", "vectors", "--query", "fox", "--batch-size", "0"],
        ["mine", "data", "--out", "out", "--negatives", "0"],
        ["encode", "data", "--out", "out", "--num-shards", "0"],
        ["eval", "data", "--query-max-length", "-1"],
    ],
)
def test_numbers_out_of_range_are_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "must be at least 1, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mine", "{data}", "--out", "out", "--range-min", "-1"], "range_min must not be negative"),
        (["mine", "{data}", "--out", "out", "--relative-margin", "-1"], "margin must be 0"),
        (["encode", "{data}", "--out", "out", "--shard", "1"], "--shard must be 0 to 0, got 1"),
        (["encode", "{data}", "--out", "out", "--device", "gpu"], "torch can use, got 'gpu'"),
        (["mine", "{data}", "--out", "out", "--device", "meta"], "torch can use, got 'meta'"),
    ],
)
def test_options_out_of_range_are_refused_before_the_model_is_loaded(
    words, complaint, queries, encoders, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(data=queries) for word in words]) == 1
    assert complaint in capsys.readouterr().err
    assert encoders == {}


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "nowhere"],
        ["mine", "nowhere", "--out", "out"],
        ["encode", "nowhere", "--out", "out"],
        ["search", "nowhere", "--query", "fox"],
        ["index", "nowhere", "--out", "out"],
        ["serve", "nowhere"],
        ["demo", "--data", "nowhere"],
        ["train", "--config", "nowhere"],
        ["train", "--train_path", "nowhere", "--output_dir", "out"],
        ["mechanisms", "probe", "--model", "a", "--base", "b", "--data", "nowhere"],
        ["mechanisms", "neurons", "--preset", "dpr", "--data", "nowhere"],
    ],
    ids="-".join,
)
def test_a_wrong_path_is_an_error_before_a_missing_package(words, tmp_path, monkeypatch):
    """In a process of its own, where torch and what needs it cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'sklearn', 'scipy', 'yaml', 'bm25s'):\n"
        "    sys.modules[name] = None\n"
        "from tilefold.cli.main import main\n"
        f"sys.exit(main({words}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert "nowhere" in done.stderr
    assert "pip install" not in done.stderr.replace('pip install "tilefold[data]"', "")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("ir_datasets") is None, reason='pip install "tilefold[data]"'
)
@pytest.mark.parametrize("name", ["beir/scifact", "msmarco-passage/dev/small"])
def test_a_data_set_without_a_network_is_one_short_error(name, tmp_path):
    """One of one source, and one whose documents have several."""
    code = (
        "import socket, sys\n"
        "def fail(*args, **options): raise socket.gaierror(-2, 'Name or service not known')\n"
        "socket.getaddrinfo = fail\n"
        "from tilefold.cli.main import main\n"
        f"sys.exit(main(['eval', {name!r}]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {"IR_DATASETS_HOME": str(tmp_path), "IR_DATASETS_TMP": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1, done.stderr
    said = f"tilefold eval: {name} could not be downloaded (no network?): ConnectionError of "
    assert done.stderr.splitlines()[-1].startswith(said)
    assert done.stderr.splitlines()[-1].endswith("; pass a folder")
    assert "HTTPSConnectionPool" not in done.stderr


def test_a_preset_reads_its_data_before_it_asks_the_hub(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    from tilefold.models import model_record
    from tilefold.studies.probe import ProbeSettings, run_probe

    def ask(name: str, **options: object) -> None:
        pytest.fail(f"{name} was opened before the data were read")

    monkeypatch.setattr(model_record, "open_model", ask)
    path = tmp_path / "train.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"train\.jsonl"):
        run_probe(ProbeSettings(preset="dpr", data=str(path)))


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("tilefold.losses", "torch", "torch"),
        ("tilefold.activations", "torch", "torch"),
        ("tilefold.torch_ops", "torch", "torch"),
        ("tilefold.models", "torch", "train"),
        ("tilefold.train", "accelerate", "train"),
        ("tilefold.mechanisms", "scipy", "analysis"),
        ("tilefold.report", "jinja2", "analysis"),
        ("tilefold.service", "starlette", "serve"),
        ("tilefold.service", "prometheus_client", "serve"),
        ("tilefold.integrations.sentence_transformers", "torch", "sentence-transformers"),
    ],
)
def test_an_import_without_its_package_names_the_extra_in_quotes(module, missing, extra):
    """Quoted, as a shell would read the brackets."""
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {module}"[:20])
    assert missing in last
    assert f'pip install "tilefold[{extra}]"' in last


def test_a_file_of_settings_without_yaml_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "eval.yaml"
    path.write_text("data: x\n")
    with contextlib.suppress(SystemExit):  # of the parser, which reads the file
        assert main(["eval", "--config", str(path)]) == 1
    assert 'pip install "tilefold[cli]"' in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch, option):
    """Also on a read-only disk, where the superuser has no permission either."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    data = tmp_path / "train.jsonl"
    passage = {"docid": "d", "title": "", "text": "a hen"}
    record = {"query_id": "q", "query": "?", "positive_passages": [passage]}
    data.write_text(json.dumps({**record, "negative_passages": []}) + "\n")
    given = {"--out": str(tmp_path / "x.jsonl"), option: str(tmp_path / "y")}
    words = ["aar", "preferences", str(data), "--source-lm", "nothing"]
    assert main([*words, *(word for pair in given.items() for word in pair)]) == 1
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["aar run", "invar run", "mechanisms probe"])
def test_a_study_needs_the_packages_of_its_report_before_it_begins(
    verb, tmp_path, monkeypatch, capsys
):
    for name in [name for name in sys.modules if name.startswith("tilefold.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert main([*verb.split(), "--world", "tiny", "--out", str(out)]) == 1
    assert "tilefold.report needs jinja2 and matplotlib" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [["encode", "corpus"], ["index", "vectors"], ["invar", "run", "--world", "tiny"]],
    ids=lambda words: words[0],
)
def test_an_empty_name_is_no_folder_for_results(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    assert main([*words, "--out", ""]) == 1
    assert "--out: expected a folder, got ''" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
