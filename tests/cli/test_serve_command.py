"""`tilefold serve`: what it refuses to start with, and a service of texts from end to end."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="not installed: pip install tilefold[serve]")

import tilefold
from tilefold.cli.main import main


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.delenv("TILEFOLD_SERVE_TOKEN", raising=False)
    found = tilefold.FlatIndex(4)
    found.add(np.eye(4, dtype=np.float32))
    found.save(tmp_path / "index")
    return str(tmp_path / "index")


def refused(capsys, *words: str) -> str:
    assert main(["serve", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_a_token(index, capsys, host):
    line = refused(capsys, index, "--host", host, "--port", "0")
    assert line == (
        f"tilefold serve: --host {host} can be reached from other machines and needs a token: "
        "--token-file FILE, or the variable TILEFOLD_SERVE_TOKEN"
    )


def test_a_token_is_no_option(index, capsys):
    """Every user of a machine sees the command lines of all processes."""
    with pytest.raises(SystemExit, match="2"):
        main(["serve", index, "--token", "0123456789abcdef"])
    assert "did you mean --token-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--compare", "nowhere"], "there is no folder nowhere"),
        (["--texts", "nowhere"], "there is no file or folder nowhere"),
        (["--compare-model", "x"], "--compare FOLDER, which is missing"),
        (["--vectors-only", "--model", "minilm"], "leave out --model"),
        (["--token-file", "nowhere"], "nowhere: No such file or directory"),
        (["--max-wait", "-1"], "max_wait must be 0 to 2^31, got -0.001"),
        (["--timeout", "0"], "timeout must be 0.001 to 2^31, got 0.0"),
        (["--timeout", "nan"], "timeout must be 0.001 to 2^31, got nan"),
        (["--max-queue", "9"], "max_queue must be at least max_queries, 256, got 9"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 8000"),
    ],
)
def test_wrong_options_are_one_line(index, capsys, words, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, index, *words)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_wrong_port_is_wrong_usage(index, capsys, port):
    with pytest.raises(SystemExit, match="2"):
        main(["serve", index, "--port", port])
    assert "must be 0 to 65535" in capsys.readouterr().err


def test_a_port_in_use_is_one_line(index, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refused(capsys, index, "--port", port)
    assert line == f"tilefold serve: --host 127.0.0.1 --port {port}: Address already in use"


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    assert "there is no shards.json" in refused(capsys, str(tmp_path), "--port", "0")


def test_texts_are_searched_as_the_verb_search_does(tmp_path, tiny_bert, capsys):
    """A collection, its shards beside its index: names and scores of `tilefold search`."""
    pytest.importorskip("torch")
    rows = [{"_id": f"d{i}", "title": f"w{i}", "text": f"w{i + 1} of w{i}"} for i in range(30)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = ["--model", str(tiny_bert), "--pooling", "mean"]
    shards, index = str(tmp_path / "shards"), str(tmp_path / "index")
    assert main(["encode", str(corpus), "--out", shards, *model]) == 0
    assert main(["index", shards, "--out", index]) == 0
    capsys.readouterr()
    assert main(["search", index, "--query", "who is w3", "--k", "5", *model]) == 0
    printed = re.findall(r"^ +(\S+) +(d\d+)$", capsys.readouterr().out, re.M)
    found = asked(index, {"queries": ["who is w3"], "k": 5, "return_texts": True}, corpus, shards,
                  *model)  # fmt: skip
    assert len(printed) == 5
    for number in (0, 1):
        answer = found[number]
        assert [(f"{s:.4f}", name) for s, name in zip(answer["scores"][0], answer["names"][0],
                strict=True)] == printed  # fmt: skip
        assert answer["texts"][0] == [rows[i]["text"] for i in answer["ids"][0]]
        assert answer["titles"][0] == [rows[i]["title"] for i in answer["ids"][0]]


def asked(index, body, texts, compare, *options):
    """Serves two folders in another process, and asks both."""
    words = ["serve", index, "--compare", compare, "--texts", str(texts), "--port", "0", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tilefold", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        first = process.stdout.readline()
        url = re.search(r"http://[\d.:]+", first)
        assert url, first + process.communicate()[1]
        return [post(f"{url[0]}/search", {**body, "index": number}) for number in (0, 1)]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def post(url, body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
