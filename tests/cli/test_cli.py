"""The command: helpful, one line per error, the right exit status, and no word too many."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from counting_encoder import stand_in

import tilefold
from tilefold.cli import main
from tilefold.evaluate import evaluate, mean

DOCUMENTS = {
    "d1": "a red fox runs over the barn",
    "d2": "a blue hen sleeps",
    "d3": "the barn is under water",
}


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Replaces the encoder; shows which model was asked for and with which options."""
    return stand_in(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    (root / "qrels").mkdir(parents=True)
    corpus = [json.dumps({"_id": name, "text": text}) for name, text in DOCUMENTS.items()]
    (root / "corpus.jsonl").write_text("\n".join(corpus))
    queries = [json.dumps({"_id": f"q{i}", "text": t}) for i, t in enumerate(["fox", "hen", "x"])]
    (root / "queries.jsonl").write_text("\n".join(queries))
    (root / "qrels" / "test.tsv").write_text("q0\td1\t1\nq1\td2\t1\nq2\td3\t0\nq0\tgone\t1\n")
    return root


def run(*words: str, **options) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tilefold", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


# ---- the command itself --------------------------------------------------------------------------


def test_python_m_tilefold_is_the_command():
    child = run("--version")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout == f"tilefold {tilefold.__version__}\n"


def test_without_a_verb_it_prints_help(capsys):
    assert main.main([]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("demo", "eval", "doctor", "examples:"))


@pytest.mark.parametrize("verb", sorted(main._VERBS))
def test_every_verb_has_help_with_examples_within_80_columns(verb: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main.main([verb, "--help"])
    out = capsys.readouterr().out
    assert f"examples:\n  tilefold {verb}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_examples_of_aar_name_models_of_the_hub(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["aar", "--help"])
    out = capsys.readouterr().out
    assert "--source-lm google/flan-t5-base" in out
    assert "--target fusion:google/flan-t5-large" in out


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["eval"], ["eval", "x", "--k", "0"], ["eval", "x", "--measures", "bpref"]],
)
def test_wrong_usage_exits_with_2(words: list[str], capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(words)
    verb = f" {words[0]}" if words[1:] or words == ["eval"] else ""
    message, hint = capsys.readouterr().err.splitlines()
    assert message.startswith(f"tilefold{verb}: ")
    assert hint == f"'tilefold{verb} --help' shows its options."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "x", "--modle", "y"], "unrecognized arguments: --modle y; did you mean --model?"),
        (["mine", "x"], "the following arguments are required: --out"),
        (
            ["eval", "x", "--pooling", "men"],
            "argument --pooling: invalid choice: 'men'; did you mean mean?",
        ),
        (
            ["search", "x", "--remove-query", "text"],
            "argument --remove-query: invalid choice: 'text' (choose from auto, id, none)",
        ),
        (
            ["search", "x", "does vitamin D"],
            "unrecognized arguments: does vitamin D; did you mean --query TEXT?",
        ),
        (
            ["mechanisms", "probe", "--world", "tiny", "--epoch", "3"],
            "unrecognized arguments: --epoch 3; did you mean --epochs?",
        ),
    ],
)
def test_errors_of_usage_name_the_command_and_the_similar_option(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(words)
    command = "tilefold mechanisms probe" if words[0] == "mechanisms" else f"tilefold {words[0]}"
    assert capsys.readouterr().err.startswith(f"{command}: {message}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evall"], "argument VERB: invalid choice: 'evall'; did you mean eval?"),
        (["mechanisms", "prob"], "argument STUDY: invalid choice: 'prob'; did you mean probe?"),
    ],
)
def test_misspelled_verbs_are_answered_with_the_similar_one(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(words)
    assert message in capsys.readouterr().err


def test_poolings_of_the_command_are_those_of_models():
    models = pytest.importorskip("tilefold.models")
    from tilefold.cli.model_options import POOLINGS

    assert set(POOLINGS) == set(models.POOLINGS)


def test_the_help_of_search_shows_the_rules_that_it_takes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["search", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "the query itself: auto, id, none (default: auto" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: x\n", "--config FILE: unknown option 'modle'; did you mean model?"),
        ("k-: 3\n", "--config FILE: unknown option 'k-'; did you mean k?"),
        ("config: x\n", "--config FILE: unknown option 'config'"),
        ("[1]\n", "FILE: expected a mapping of names to values"),
        (None, "FILE: No such file or directory"),
    ],
)
def test_errors_of_a_config_name_the_file(text, message, tmp_path, capsys):
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match="1"):
        main.main(["eval", "x", "--config", str(path)])
    expected = message.replace("FILE", str(path))
    assert capsys.readouterr().err == f"tilefold eval: {expected}\n"


def test_errors_within_a_study_name_the_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["mechanisms", "findings", "--runs", "nothing"]) == 1
    assert capsys.readouterr().err.startswith("tilefold mechanisms findings: ")


def test_help_shows_required_options(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["mine", "--help"])
    assert "JSONL with the negatives (required)" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from tilefold.cli import main\n"
        "main.main([])\n"
        "heavy = {'torch', 'transformers', 'bm25s', 'tqdm', 'hnswlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert not [name for name in sys.modules if name.startswith('tilefold.cli.verbs.')]"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("two\n  lines"), 1, "tilefold eval: two lines\n"),
        (FileNotFoundError("no file"), 1, "tilefold eval: no file\n"),
        (ImportError("pip install x"), 1, "tilefold eval: pip install x\n"),
        (ValueError("id \x1b[2J"), 1, "tilefold eval: id \\x1b[2J\n"),
        (OSError("https://me:secret@x/y"), 1, "tilefold eval: https://me:[redacted]@x/y\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(error, status, words, monkeypatch, capsys):
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr("tilefold.cli.verbs.eval.main", fail)
    assert main.main(["eval", "x"]) == status
    assert capsys.readouterr() == ("", words)


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(args: object) -> int:
        raise RuntimeError("bug")

    monkeypatch.setattr("tilefold.cli.verbs.eval.main", fail)
    with pytest.raises(RuntimeError, match="bug"):
        main.main(["eval", "x"])


def test_ctrl_c_ends_it_with_130_and_without_traceback():
    code = (
        "import os, signal, sys\n"
        "from tilefold.cli import main\nfrom tilefold.cli.verbs import eval as verb\n"
        "verb.main = lambda args: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main.main(['eval', 'x']))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (child.returncode, child.stderr) == (128 + signal.SIGINT, "\ninterrupted\n")


def test_a_closed_pipe_ends_it_quietly():
    code = (
        "import sys\n"
        "from tilefold.cli import main, terminal\nfrom tilefold.cli.verbs import eval as verb\n"
        "verb.main = lambda args: [terminal.say('x' * 99) for _ in range(9999)] and 0\n"
        "sys.exit(main.main(['eval', 'x']))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    with child:
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_text_that_the_terminal_cannot_show_is_escaped():
    code = (
        "import sys\n"
        "from tilefold.cli import main, terminal\nfrom tilefold.cli.verbs import eval as verb\n"
        "verb.main = lambda args: terminal.say('r\\u00e9sum\\u00e9 \\u4e2d') or 0\n"
        "sys.exit(main.main(['eval', 'x']))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (child.returncode, child.stdout) == (0, b"r\\xe9sum\\xe9 \\u4e2d\n")


# ---- tilefold eval -------------------------------------------------------------------------------


def test_eval_prints_a_row_for_each_ranking(folder: Path, encoders, capsys):
    assert main.main(["eval", str(folder)]) == 0
    out, err = capsys.readouterr()
    rows = {line[2:16].strip(): line[16:].split() for line in out.splitlines()}
    assert out.splitlines()[0] == f"{folder}, split test"
    assert "queries    3 with 3 relevant documents" in out
    assert "1 of them with none, which scores 0" in out
    assert "1 judged document not in the corpus, which counts as missed" in out
    assert rows["dense"][::3] == ["0.538", "0.500", "0.667"]
    assert "BM25" in rows
    assert "dense + BM25" in rows
    assert err == ""
    assert encoders == {"name": "minilm"}


@pytest.mark.parametrize("words", [["eval"], ["demo", "--data"]], ids=lambda words: words[0])
def test_a_corpus_without_any_judged_document_is_refused(folder, encoders, capsys, words):
    (folder / "qrels" / "test.tsv").write_text("q0\tdoc1\t1\nq1\tdoc2\t1\n")
    assert main.main([*words, str(folder)]) == 1
    message = (
        "the corpus has none of the 2 judged documents: an id of the judgments is 'doc1', and one "
        "of the corpus 'd1'\n"
    )
    assert capsys.readouterr().err == f"tilefold {words[0]}: {message}"
    assert words[0] == "demo" or encoders == {}


def test_eval_takes_a_model_measures_and_depth(folder: Path, encoders, capsys):
    words = ["--model", "some/model", "--pooling", "cls", "--k", "2"]
    words += ["--document-max-length", "64"]
    assert main.main(["eval", str(folder), *words, "--measures", "mrr@2", "recall_1", "AP"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"RR@2 +R@1 +AP", out)
    assert "some/model, 256 dimensions" in out
    assert encoders == {"name": "some/model", "pooling": "cls", "document_max_length": 64}


def test_eval_writes_a_run_that_scores_like_its_table(folder: Path, encoders, tmp_path, capsys):
    path = tmp_path / "dense.trec"
    assert main.main(["eval", str(folder), "--run", str(path)]) == 0
    assert f"Wrote the dense ranking to {path}" in capsys.readouterr().out
    rows = [line.split() for line in path.read_text().splitlines()]
    names = list(DOCUMENTS)
    ids = [[names.index(row[2]) for row in rows if row[0] == query] for query in ("q0", "q1", "q2")]
    values = evaluate(ids, ([0, 2, 3, 4], [0, 9, 1, 2], [1, 1, 1, 0]), ["RR"])["RR"]
    assert mean(values) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["{folder}", "--split", "dev"], "has no split 'dev'; it has: test"),
        (["{folder}", "--measures", "R@1000"], "R@1000 needs --k 1000, got --k 100"),
        (["{folder}", "--run", "{folder}/no/run"], "no/run: its folder does not exist"),
    ],
)
def test_eval_says_what_is_wrong_before_it_encodes(words, complaint, folder, encoders, capsys):
    assert main.main(["eval", *(word.format(folder=folder) for word in words)]) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert encoders == {}


def test_eval_without_bm25s_says_so_and_goes_on(folder: Path, encoders, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    assert main.main(["eval", str(folder)]) == 0
    out = capsys.readouterr().out
    assert 'pip install "tilefold[demo]"' in out
    assert "dense  " in out
    assert "dense + BM25" not in out


def test_eval_without_torch_names_the_extra(folder: Path, monkeypatch, capsys):
    for name in ("tilefold.models", "tilefold.models.model_record"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main.main(["eval", str(folder)]) == 1
    assert 'pip install "tilefold[train]"' in capsys.readouterr().err
