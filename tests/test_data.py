"""Data: BEIR folders are read strictly, and runs are written so that no tool sees a tie."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tilefold.data import Collection, Qrels, read_beir, write_run

Folder = Callable[..., Path]

CORPUS = [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "text": "second"}]
QUERIES = [{"_id": "q1", "text": "who?"}, {"_id": "q2", "text": "why?"}, {"_id": "q3", "text": "x"}]
QRELS = ["query-id\tcorpus-id\tscore", "q2\td2\t2", "q1\td1\t1", "q1\td2\t0"]
SMALL = ("adi", "cacm", "cisi", "codebase_chunks", "cranfield", "lisa", "medline", "npl_vaswani",
         "scifact", "stackfaq", "time", "trecqa")  # fmt: skip
LARGE = ("lama_trex", "wiki_mix", "xquad_r")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes a BEIR folder; a file is a list of lines, JSON objects among them."""

    def make(
        corpus: Sequence = CORPUS, queries: Sequence = QUERIES, qrels: Sequence = QRELS
    ) -> Path:
        (tmp_path / "qrels").mkdir()
        for name, lines in (
            ("corpus.jsonl", corpus),
            ("queries.jsonl", queries),
            ("qrels/test.tsv", qrels),
        ):
            texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
        return tmp_path

    return make


def test_a_folder_becomes_numbered_documents_and_judged_queries(folder: Folder):
    collection = read_beir(folder())
    assert collection.document_ids == ["d1", "d2"]
    assert collection.documents == ["One first", "second"]
    assert (collection.query_ids, collection.queries) == (["q1", "q2"], ["who?", "why?"])
    assert [part.tolist() for part in collection.qrels] == [[0, 2, 3], [0, 1, 1], [1, 0, 2]]
    assert [part.dtype.kind for part in collection.qrels] == ["i", "i", "f"]
    assert collection.absent == ()


def test_judged_documents_that_the_corpus_lacks_are_numbered_beyond_it(folder: Folder):
    collection = read_beir(folder(qrels=[*QRELS, "q2\tgone\t1", "q1\tlost\t1", "q1\tgone\t1"]))
    assert collection.absent == ("gone", "lost")
    assert collection.qrels.ids.tolist() == [0, 1, 3, 2, 1, 2]


def test_the_header_of_qrels_blank_lines_crlf_and_a_byte_order_mark_are_accepted(folder: Folder):
    root = folder(qrels=["q1\td1\t1\r", "", "q2\td2\t-1"])
    corpus = root / "corpus.jsonl"
    corpus.write_bytes(b"\xef\xbb\xbf" + corpus.read_bytes() + b"\n  \n")
    assert read_beir(root).qrels.gains.tolist() == [1, -1]


def test_integer_ids_are_their_digits_and_a_missing_title_is_none(folder: Folder):
    corpus = [{"_id": 7, "title": None, "text": "seven"}, {"_id": 8, "title": "T", "text": ""}]
    collection = read_beir(folder(corpus=corpus, qrels=["q1\t7\t1"]))
    assert collection.document_ids == ["7", "8"]
    assert collection.documents == ["seven", "T"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"corpus": [CORPUS[0], "{not json"]}, r"corpus.jsonl:2: not valid JSON"),
        ({"corpus": ["[1]"]}, r"corpus.jsonl:1: expected a JSON object"),
        ({"corpus": [{"_id": "d1"}]}, r"corpus.jsonl:1: the field 'text' is missing; .*\['_id'\]"),
        ({"corpus": [{"text": "x"}]}, r"corpus.jsonl:1: the field '_id' is missing"),
        ({"corpus": [{"_id": "", "text": "x"}]}, r"corpus.jsonl:1: '_id' is empty"),
        ({"corpus": [{"_id": None, "text": "x"}]}, r"'_id' must be a string, got null"),
        ({"corpus": [{"_id": "d1", "text": 5}]}, r"'text' must be a string, got 5"),
        ({"corpus": [{"_id": "d", "title": 5, "text": ""}]}, r"'title' must be a string, got 5"),
        ({"corpus": ['{"_id": "d1", "text": "\\ud800"}']}, r"corpus.jsonl:1: .*surrogate"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, r"corpus.jsonl:3: '_id' 'd1' is already that of line 1"),
        ({"corpus": []}, r"corpus.jsonl: the file is empty"),
        ({"queries": []}, r"queries.jsonl: the file is empty"),
        ({"queries": [*QUERIES, QUERIES[1]]}, r"queries.jsonl:4: .*already that of line 2"),
        ({"qrels": []}, r"test.tsv: no judgments"),
        ({"qrels": QRELS[:1]}, r"test.tsv: no judgments"),
        ({"qrels": [*QRELS, "q9\td1\t1"]}, r"test.tsv:5: query 'q9' is not in queries.jsonl"),
        ({"qrels": [*QRELS, "q1\td1\t0"]}, r"test.tsv:5: document 'd1' is judged twice for .*'q1'"),
        (
            {"qrels": [*QRELS, "q1\td1\tyes"]},
            r"test.tsv:5: the score must be an integer, got 'yes'",
        ),
        ({"qrels": ["q1 0 d1 1"]}, r"test.tsv:1: expected query-id, corpus-id and score"),
    ],
)
def test_a_bad_line_is_an_error_with_its_file_and_number(folder: Folder, change, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_beir(folder(**change))


def test_bytes_that_are_no_text_are_traced_to_their_line(folder: Folder):
    root = folder()
    with (root / "corpus.jsonl").open("ab") as file:
        file.write(b'{"_id": "d3", "text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:3: not UTF-8: .* at byte 24"):
        read_beir(root)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named_with_the_layout(folder: Folder, name: str):
    root = folder()
    (root / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"is no BEIR folder: {name} is missing \(expected"
    ):
        read_beir(root)


def test_the_folder_above_is_an_error_that_points_inside(folder: Folder, tmp_path: Path):
    root = folder()
    inside = tmp_path / "outer" / "beir"
    inside.mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        (root / name).rename(inside / name)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*beir\?"):
        read_beir(inside.parent)


def test_a_wrong_split_is_an_error_that_lists_the_others(folder: Folder):
    root = folder()
    (root / "qrels" / "dev.tsv").write_text("q1\td1\t1\n")
    with pytest.raises(FileNotFoundError, match=r"has no split 'train'; it has: dev, test"):
        read_beir(root, "train")


def test_packed_judgments_keep_queries_without_any():
    qrels = Qrels.pack([{3: 1}, {}, {1: 2, 0: 1}])
    assert [part.tolist() for part in qrels] == [[0, 1, 1, 3], [3, 1, 0], [1, 2, 1]]


# ---- real collections ----------------------------------------------------------------------------


def consistent(collection: Collection) -> bool:
    offsets, ids, gains = collection.qrels
    known = len(collection.documents) + len(collection.absent)
    return (
        len(collection.document_ids) == len(collection.documents)
        and len(collection.query_ids) == len(collection.queries) == len(offsets) - 1
        and (np.diff(offsets) > 0).all()
        and 0 <= ids.min() <= ids.max() < known
        and len(ids) == len(gains) == offsets[-1]
    )


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
def test_every_collection_loads_with_every_split(data_folder: Path, name: str):
    root = data_folder / name / "beir"
    splits = [path.stem for path in (root / "qrels").glob("*.tsv")]
    assert splits
    for split in splits[:3]:
        collection = read_beir(root, split)
        assert consistent(collection)
        assert len(collection.absent) == (2 if name == "time" else 0)


# ---- runs ----------------------------------------------------------------------------------------


def test_a_run_falls_strictly_even_in_fp32_where_scores_are_tied(tmp_path: Path):
    path = tmp_path / "dense.trec"
    tied = np.float32([[1, 1, 1, 0.5], [0, 0, -np.inf, -np.inf]])
    write_run(path, ["q1", "q2"], list("abcd"), tied, [[2, 0, 1, 3], [3, 1, -1, -1]])
    rows = [line.split() for line in path.read_text().splitlines()]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        *(("q1", name, str(rank)) for rank, name in enumerate("cabd", 1)),
        ("q2", "d", "1"),
        ("q2", "b", "2"),
    ]
    for query in ("q1", "q2"):
        scores = np.array([row[4] for row in rows if row[0] == query], np.float32)
        assert (np.diff(scores) < 0).all()
    assert {(row[1], row[5]) for row in rows} == {("Q0", "tilefold")}


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "dense.trec"
    path.write_text("old")
    with pytest.raises(IndexError):
        write_run(path, ["q1"], ["a"], [[1.0, 0.5]], [[0, 5]])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["dense.trec"]


def test_a_name_with_white_space_cannot_stand_in_a_run(tmp_path: Path):
    with pytest.raises(ValueError, match="'two words' cannot stand in a run"):
        write_run(tmp_path / "x", ["q"], ["two words"], [[1.0]], [[0]])
