"""`--ray` of encode and search: the files of one process, Ctrl-C, and clear refusals."""

import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray")
pytest.importorskip("transformers")

from local_cluster import command, local_cluster

from tilefold.cli.main import main
from tilefold.retrieval.encode_shards import encode_shards, shards_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> str:
    with local_cluster() as ray:
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    words = [" ".join(f"w{w}" for w in rng.integers(0, 100, 12)) for _ in range(120)]
    lines = [f'{{"_id": "d{i}", "title": "", "text": "{text}"}}\n' for i, text in enumerate(words)]
    path.write_text("".join(lines))
    return path


def run(*arguments: object) -> tuple[int, str]:
    """Runs a command to its end; returns its status, and what it wrote."""
    child = command(*arguments)
    out, err = child.communicate(timeout=120)
    return child.returncode, out + err


def shard_bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in shards_of(folder)]


def test_encode_and_search_write_the_files_of_one_process(
    address, corpus, tiny_bert, tmp_path, one_thread
):
    model = ["--model", tiny_bert, "--batch-size", 7]
    encode = ["encode", corpus, "--num-shards", 3, *model]
    assert main([*map(str, encode), "--out", str(tmp_path / "one")]) == 0
    status, output = run(*encode, "--out", tmp_path / "two", "--ray", address, "--workers", 2)
    assert status == 0, output
    assert len(re.findall(r"0000\d-of-00003.safetensors", output)) == 3
    assert shard_bytes(tmp_path / "one") == shard_bytes(tmp_path / "two")
    search = ["--query", "w3 w7", "w1", "--k", 20, *model, "--run"]
    assert main(["search", *map(str, [tmp_path / "one", *search, tmp_path / "one.run"])]) == 0
    status, output = run(
        "search", tmp_path / "two", *search, tmp_path / "two.run", "--ray", address
    )
    assert status == 0, output
    assert (tmp_path / "one.run").read_bytes() == (tmp_path / "two.run").read_bytes()


def test_ctrl_c_stops_the_workers_and_leaves_a_folder_that_resumes(
    address, corpus, tiny_bert, tmp_path, one_thread
):
    encode = ["encode", corpus, "--num-shards", 120, "--model", tiny_bert, "--out", tmp_path / "v"]
    child = command(*encode, "--ray", address, "--workers", 1)
    folder = tmp_path / "v"
    limit = time.monotonic() + 100
    while not list(folder.glob("*.safetensors")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "interrupted" in err
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert kept
    assert main([*map(str, encode)]) == 0
    assert len(shards_of(folder)) == 120
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_no_cluster_at_the_address_is_an_error_within_seconds(corpus, tmp_path):
    arguments = ["encode", corpus, "--out", tmp_path / "v", "--ray", "127.0.0.1:1"]
    status, output = run(*arguments)
    assert status == 1
    assert "no Ray cluster at 127.0.0.1:1" in output
    assert "ray start --head" in output


def ones(texts: list[str]) -> np.ndarray:
    return np.ones((len(texts), 4), np.float32)


REFUSED = {
    "workers alone": (["--workers", "2"], "--workers needs --ray"),
    "threads alone": (["--worker-threads", "2"], "--worker-threads needs --ray"),
    "one shard": (["--ray", "--shard", "0"], "--shard encodes one shard in this process"),
    "a GPU's name": (["--ray", "--device", "cuda:1"], "expected cpu or cuda"),
    "an address": (["--ray", "ray://x:1"], 'address must be "auto" or "host:port"'),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_options_that_contradict_each_other_are_refused(corpus, tmp_path, capsys, options, message):
    assert main(["encode", str(corpus), "--out", str(tmp_path / "v"), *options]) == 1
    assert message in capsys.readouterr().err


def test_no_workers_at_all_are_refused(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["encode", str(corpus), "--out", str(tmp_path / "v"), "--ray", "--workers", "0"])
    assert ended.value.code == 2
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_a_folder_without_shards_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["search", str(tmp_path / "empty"), "--query", "w1", "--ray"]) == 1
    assert "holds no shards of a corpus" in capsys.readouterr().err
    list(encode_shards(ones, ["a", "b"], ["1", "2"], tmp_path / "part", num_shards=2, shard=0))
    assert main(["search", str(tmp_path / "part"), "--query", "w1", "--ray"]) == 1
    assert "lacks 1 of 2 shards" in capsys.readouterr().err


def test_a_missing_ray_says_what_to_install(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["encode", str(corpus), "--out", str(tmp_path / "v"), "--ray"]) == 1
    error = capsys.readouterr().err
    assert "tilefold encode --ray needs Ray" in error
    assert 'pip install "tilefold[ray]"' in error
