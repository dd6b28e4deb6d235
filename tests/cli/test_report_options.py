"""`tilefold eval --report`: the page has the numbers that are printed, and errors come early."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from counting_encoder import stand_in

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[train]")

from file_size_limit import file_size_limit
from page_parser import Page
from tilefold.cli.main import main

WORDS = ["fox", "hen", "barn", "water", "red", "blue", "sleeps", "runs"]


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return stand_in(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight queries of two words; the documents of the first half have both, others one."""
    root = tmp_path / "tiny"
    (root / "qrels").mkdir(parents=True)
    pairs = [(word, WORDS[(i + 3) % 8]) for i, word in enumerate(WORDS)]
    corpus = [
        {"_id": f"d{i}", "text": f"the {a} and the {b if i < 4 else 'dog'} {a}"}
        for i, (a, b) in enumerate(pairs)
    ]
    queries = [{"_id": f"q{i}", "text": f"{a} {b}?"} for i, (a, b) in enumerate(pairs)]
    queries[0]["text"] += "<script>alert(1)</script>"
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = "".join(f"q{i}\td{i}\t1\n" for i in range(8))
    (root / "qrels" / "test.tsv").write_text(lines)
    return root


def printed(out: str, name: str) -> list[str]:
    """Cells of the table on the terminal that belong to a ranking."""
    line = next(line for line in out.splitlines() if line.startswith(f"  {name}  "))
    return re.findall(r"\d\.\d+ \[[^]]*\]", line)


def test_the_page_has_the_numbers_of_the_terminal_and_of_the_file(
    folder, encoders, tmp_path, capsys
):
    report, found = tmp_path / "report.html", tmp_path / "found.json"
    words = ["--k", "5", "--measures", "nDCG@5", "R@1", "--baseline", "other"]
    assert main(["eval", str(folder), *words, "--report", str(report), "--out", str(found)]) == 0
    out = capsys.readouterr().out
    assert f"Wrote figures and tables of queries to {report}" in out
    page, saved = Page(report.read_text()), json.loads(found.read_text())
    cells = page.table("ranking")
    assert list(saved["measures"]) == ["dense", "baseline", "BM25", "dense + BM25"]
    for name, measures in saved["measures"].items():
        assert cells[name][:2] == printed(out, name)
        for cell, (measure, value) in zip(cells[name], measures.items(), strict=False):
            low, high = (f"{value[end]:.3f}" for end in ("low", "high"))
            assert cell == f"{value['mean']:.3f} [{low}, {high}]"
            exact = [name, measure, *(repr(value[one]) for one in ("mean", "low", "high"))]
            assert exact in page.files()["measures.csv"]
    against = page.table("dense against")
    for measure, gain in saved["over_baseline"].items():
        *_, difference, p = against[f"baseline, {measure}"]
        assert p == f"{gain['p']:.4f}"
        assert f"{measure:<11}{difference}, p = {p}" in out
    options = {name: value for name, (value,) in page.table("option").items()}
    assert options["k"] == str(saved["options"]["k"]) == "5"
    assert options["measures"] == "nDCG@5, R@1"
    assert options["baseline"] == "other"
    assert page.headings[0][1].startswith("Evaluation of minilm against other on ")


def test_the_same_evaluation_writes_the_same_page(folder, encoders, tmp_path, capsys):
    path = tmp_path / "report.html"
    pages = []
    for _ in range(2):
        assert (
            main(["eval", str(folder), "--k", "5", "--measures", "RR", "--report", str(path)]) == 0
        )
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]
    page = Page(pages[0].decode())
    assert "fox water?<script>alert(1)</script>" in page.table("query")
    assert len(page.scripts) == 1


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("{tmp}/none/report.html", "none/report.html: its folder does not exist"),
        ("{tmp}", "it is a folder"),
        ("{tmp}/found.json", "it is the file of --out"),
    ],
)
def test_a_page_that_cannot_be_written_is_an_error_before_the_work(
    folder, encoders, tmp_path, capsys, path, complaint
):
    words = ["--report", path.format(tmp=tmp_path), "--out", str(tmp_path / "found.json")]
    assert main(["eval", str(folder), *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tilefold eval: --report ")
    assert complaint in error
    assert encoders == {}


def test_a_read_only_folder_is_an_error_before_the_work(
    folder, encoders, tmp_path, capsys, monkeypatch
):
    locked = tmp_path / "locked"
    locked.mkdir()
    # Root, who runs tests in containers, may write to every folder.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    assert main(["eval", str(folder), "--report", str(locked / "report.html")]) == 1
    assert "cannot be written to" in capsys.readouterr().err
    assert encoders == {}


def test_a_missing_package_is_an_error_before_the_work(
    folder, encoders, tmp_path, capsys, monkeypatch
):
    for name in [name for name in sys.modules if name.startswith("tilefold.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["eval", str(folder), "--report", str(tmp_path / "report.html")]) == 1
    assert 'pip install "tilefold[analysis]"' in capsys.readouterr().err
    assert encoders == {}


def test_without_a_report_no_package_for_figures_is_needed(folder, encoders, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tilefold.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["eval", str(folder), "--k", "5", "--measures", "RR"]) == 0


def test_a_full_disk_keeps_the_old_page_and_the_other_files(folder, encoders, tmp_path, capsys):
    report, found = tmp_path / "report.html", tmp_path / "found.json"
    report.write_text("old")
    words = ["--k", "5", "--measures", "RR", "--report", str(report), "--out", str(found)]
    with file_size_limit(16_384):
        assert main(["eval", str(folder), *words]) == 1
    assert str(report) in capsys.readouterr().err
    assert report.read_text() == "old"
    assert json.loads(found.read_text())["n_queries"] == 8
