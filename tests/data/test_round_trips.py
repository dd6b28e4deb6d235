"""What a writer writes, the reader reads back, or the writer refuses and leaves the old file.

Formats that tilefold only reads are written here as their tools write them: JSON lines, csv, lines
between tabs.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tilefold.data import (
    FORMATS,
    TrainingSet,
    ir_datasets_reader,
    read_beir,
    read_choices,
    read_documents,
    read_msmarco,
    read_qrels,
    read_query_texts,
    read_questions,
    read_run,
    read_training,
    write_run,
    write_training,
)
from tilefold.ragged_lists import Lists

ANY = st.text(max_size=6)  # half surrogate pairs, blanks of every kind and marks among them
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
# What every table can hold in a cell without quotes: no tab and no line break, and an id that is
# neither blank nor begins with the mark that a file may begin with.
CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=6
).filter(lambda text: text.strip(" \t\v\f") and not text.startswith("\ufeff"))
# Characters that some reader or tool takes for a blank, a comment, a quote or a mark.
ODD = st.text(st.sampled_from("a#\ufeff\u00a0\u3000\x85\x1c\u2028 \t\r\n\"'[{,\ud800"), max_size=4)


def unique(texts: st.SearchStrategy[str], n: int) -> st.SearchStrategy[list[str]]:
    return st.lists(texts, min_size=n, max_size=n, unique=True)


# ---- runs ----------------------------------------------------------------------------------------

OLD = "old Q0 file 1 1 old\n"


@st.composite
def runs(draw: st.DrawFn, names: st.SearchStrategy[str]) -> tuple[Any, ...]:
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    queries, documents = (
        draw(st.lists(names, min_size=n, max_size=n)),
        draw(st.lists(names, min_size=m, max_size=m)),
    )
    scores = draw(
        st.lists(st.lists(st.floats(width=32), min_size=m, max_size=m), min_size=n, max_size=n)
    )
    ids = [draw(st.lists(st.integers(-1, m), min_size=m, max_size=m)) for _ in range(n)]
    return queries, documents, np.float32(scores), np.array(ids)


@given(runs(ANY | ODD), ANY | ODD | st.just("tag"))
@example((["#q"], ["d"], np.float32([[1]]), np.array([[0]])), "tag")
@example((["\ufeffq"], ["d"], np.float32([[1]]), np.array([[0]])), "tag")
@example((["q"], ["d", "d"], np.float32([[2, 1]]), np.array([[0, 1]])), "tag")
@example((["q", "q"], ["d"], np.float32([[1], [1]]), np.array([[0], [0]])), "tag")
@example((["q"], ["d"], np.float32([[np.nan]]), np.array([[0]])), "tag")
@example((["q"], ["d", "e"], np.float32([[-np.inf, -np.inf]]), np.array([[0, 1]])), "tag")
@example((["q"], ["d", "e"], np.float32([[2, 1]]), np.array([[0, 0]])), "tag")
@example((["q"], ["d", "e"], np.float32([[2, 1]]), np.array([[-1, 0]])), "tag")
@example((["q"], ["d"], np.float32([[1]]), np.array([[-1]])), "tag")
@example((["q"], ["d\ud800"], np.float32([[1]]), np.array([[0]])), "tag")
def test_any_run_is_read_back_or_refused(tmp_path: Path, run, tag: str):
    queries, documents, scores, ids = run
    path = tmp_path / "run.trec"
    path.write_text(OLD)
    try:
        write_run(path, queries, documents, scores, ids, tag=tag)
    except ValueError as refused:
        error = refused
    else:
        error = None
    if error is not None:
        assert str(error).startswith("write_run: ")
        assert path.read_text() == OLD
        return
    back = read_run(path)
    assert back.tag == tag
    found = np.where(ids >= 0, ids, -1)
    np.testing.assert_array_equal(back.ranking(queries, documents, ids.shape[1]), found)


@settings(max_examples=50)  # each writes a file and waits for the disk
@given(st.data())
def test_a_plain_run_is_never_refused(tmp_path: Path, data: st.DataObject):
    names = CELL.filter(lambda text: text.split() == [text] and not text.startswith("#"))
    queries, documents = data.draw(unique(names, 2)), data.draw(unique(names, 3))
    ids = [data.draw(st.permutations(range(3))) for _ in range(2)]
    scores = [sorted(data.draw(unique(st.floats(-9, 9, width=32), 3)))[::-1] for _ in range(2)]
    write_run(tmp_path / "run", queries, documents, scores, ids)
    back = read_run(tmp_path / "run")
    np.testing.assert_array_equal(back.ranking(queries, documents), ids)
    np.testing.assert_array_equal(back.scores.reshape(2, 3), np.float32(scores))


# ---- training sets -------------------------------------------------------------------------------


@st.composite
def training_sets(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> TrainingSet:
    """One to three queries, each with the documents 0 and perhaps 1 and 2."""
    n = draw(st.integers(1, 3))

    def column(size: int) -> list[str]:
        return draw(st.lists(texts, min_size=size, max_size=size))

    negatives = Lists.pack([draw(st.sampled_from([[], [1], [2, 1]])) for _ in range(n)])
    scores = [
        draw(st.none() | st.lists(st.floats(), min_size=size, max_size=size))
        for size in (n, len(negatives.indices))
    ]
    return TrainingSet(
        *(column(n), column(n), column(3), column(3), Lists.pack([[0]] * n), negatives),
        answers=[tuple(column(draw(st.integers(0, 2)))) for _ in range(n)],
        positive_scores=None if scores[0] is None else np.array(scores[0]),
        negative_scores=None if scores[1] is None else np.array(scores[1]),
        titles=column(3),
        prompts=draw(st.just([]) | st.lists(texts, min_size=n, max_size=n)),
    )


def by_name(data: TrainingSet) -> list[Any]:
    """All that a set says of each query, with documents by name and content."""

    def passages(lists: Lists, scores: Any, query: int) -> list[Any]:
        places = range(lists.offsets[query], lists.offsets[query + 1])
        return [
            (
                *(getattr(data, name)[lists.indices[at]] for name in DOCUMENT_COLUMNS),
                "none" if scores is None or np.isnan(scores[at]) else float(scores[at]),
            )
            for at in places
        ]

    return [
        (
            *(getattr(data, name)[query] for name in QUERY_COLUMNS),
            passages(data.positives, data.positive_scores, query),
            passages(data.negatives, data.negative_scores, query),
        )
        for query in range(len(data))
    ]


DOCUMENT_COLUMNS = ("document_ids", "documents", "titles")
QUERY_COLUMNS = ("query_ids", "queries", "prompts", "answers")


def plain(data: TrainingSet) -> TrainingSet:
    """The set with the ids that a file can hold, and without what DPR's format lacks."""
    return dataclasses.replace(
        data,
        query_ids=[f"q{row}" for row in range(len(data))],
        document_ids=["a", "b", "c"],
        prompts=[],
        positive_scores=None,
        negative_scores=None,
    )


@pytest.mark.parametrize("format", ["tevatron", "dpr"])
@given(data=training_sets(ANY | ODD))
def test_any_training_set_is_read_back_or_refused(tmp_path: Path, format, data: TrainingSet):
    path = tmp_path / "train.json"
    path.write_text(OLD)
    try:
        write_training(path, data, format=format)
    except ValueError as refused:
        error = refused
    else:
        error = None
    if error is not None:
        assert str(error).startswith("write_training: ")
        assert path.read_text() == OLD
        return
    assert by_name(read_training(path)) == by_name(data)


@pytest.mark.parametrize("format", ["tevatron", "dpr"])
@settings(max_examples=50)
@given(data=training_sets(TEXT))
def test_a_plain_training_set_is_never_refused(tmp_path: Path, format, data: TrainingSet):
    path = tmp_path / "train.json"
    write_training(path, plain(data), format=format)
    assert by_name(read_training(path)) == by_name(plain(data))
    json.loads(
        f"[{','.join(path.read_text().splitlines())}]" if format == "tevatron" else path.read_text()
    )


@pytest.mark.parametrize(
    ("change", "format", "complaint"),
    [
        ({"query_ids": ["", "2"]}, "tevatron", "query_ids must not be empty, as the one in row 0"),
        ({"query_ids": ["1", "1"]}, "dpr", "query_ids must differ, but '1' repeats"),
        ({"document_ids": ["a", "a", "c"]}, "dpr", "document_ids must differ, but 'a' repeats"),
        ({"queries": ["\ud800", "?"]}, "dpr", "queries have .* half a surrogate pair"),
        ({"prompts": ["Find:", ""]}, "dpr", "DPR's format has no prompts"),
        ({"positive_scores": np.ones(2)}, "dpr", "DPR's format has no scores"),
        ({"positive_scores": np.array([1, np.inf])}, "tevatron", "positive_scores must be finite"),
        ({}, "json", "expected format to be 'tevatron' or 'dpr', got 'json'"),
    ],
)
def test_what_a_training_file_cannot_hold_is_named(tmp_path: Path, change, format, complaint: str):
    lists = Lists.pack([[0], [1]]), Lists.pack([[1], []])
    data = TrainingSet(["1", "2"], ["?", "!"], list("abc"), list("xyz"), *lists, [(), ()])
    with pytest.raises(ValueError, match=complaint):
        write_training(tmp_path / "file", dataclasses.replace(data, **change), format=format)
    with pytest.raises(ValueError, match="there is no query"):
        write_training(tmp_path / "file", data.take([]))
    assert list(tmp_path.iterdir()) == []


# ---- files for data sets of ir_datasets ----------------------------------------------------------


@given(
    st.lists(st.tuples(TEXT | ODD, TEXT | ODD, st.integers(-2, 3)), min_size=1, max_size=4),
)
def test_judgments_of_ir_datasets_are_read_back_or_refused(tmp_path: Path, judged):
    assume(len({pair[:2] for pair in judged}) == len(judged))
    judged.sort()
    path = tmp_path / "qrels.tsv"
    path.write_text(OLD)
    judgments = [SimpleNamespace(query_id=q, doc_id=d, relevance=g) for q, d, g in judged]
    try:
        ir_datasets_reader._write_qrels(path, iter(judgments))
    except ValueError:  # UnicodeEncodeError among them
        assert path.read_text() == OLD
        return
    back = read_qrels(path, format="beir-qrels")
    found = [
        (back.query_ids[query], back.document_ids[back.qrels.ids[at]], back.qrels.gains[at])
        for query in range(len(back.query_ids))
        for at in range(back.qrels.offsets[query], back.qrels.offsets[query + 1])
    ]
    assert found == judged


# ---- formats that are only read ------------------------------------------------------------------


def json_lines(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(rows: list[list[str]], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


@given(unique(CELL, 2), unique(CELL, 2), st.lists(TEXT, min_size=4, max_size=4))
def test_collections_are_read_as_they_are_written(tmp_path: Path, queries, documents, texts):
    corpus = [
        {"_id": d, "title": texts[2], "text": t} for d, t in zip(documents, texts, strict=False)
    ]
    asked = [{"_id": q, "text": t} for q, t in zip(queries, texts[2:], strict=True)]
    write(tmp_path / "b" / "corpus.jsonl", json_lines(*corpus))
    write(tmp_path / "b" / "queries.jsonl", json_lines(*asked))
    judged = "".join(
        f"{q}\t{d}\t{n}\n" for n, (q, d) in enumerate(zip(queries, documents, strict=True))
    )
    write(tmp_path / "b" / "qrels" / "test.tsv", f"query-id\tcorpus-id\tscore\n{judged}")
    found = read_beir(tmp_path / "b")
    assert (found.query_ids, found.document_ids) == (queries, documents)
    assert (found.queries, found.documents, found.titles) == (texts[2:], texts[:2], [texts[2]] * 2)
    assert [part.tolist() for part in found.qrels] == [[0, 1, 2], [0, 1], [0, 1]]


@given(unique(CELL, 2), unique(CELL, 2), st.lists(CELL, min_size=4, max_size=4))
def test_lines_between_tabs_are_read_as_they_are_written(tmp_path, queries, documents, texts):
    folder = tmp_path / "m"
    lines = "".join(f"{d}\t{t}\n" for d, t in zip(documents, texts, strict=False))
    write(folder / "collection.tsv", lines)
    write(
        folder / "queries.dev.tsv",
        "".join(f"{q}\t{t}\n" for q, t in zip(queries, texts[2:], strict=True)),
    )
    found = read_documents(folder / "collection.tsv")
    assert (found.ids, found.texts) == (documents, texts[:2])
    assert read_query_texts(folder / "queries.dev.tsv") == dict(
        zip(queries, texts[2:], strict=True)
    )
    words = [
        not set(name) & set(" \v\f") and not name.startswith("#") for name in (*queries, *documents)
    ]
    if all(words):
        judged = zip(queries, documents, strict=True)
        write(folder / "qrels.dev.tsv", "".join(f"{q} 0 {d} 1\n" for q, d in judged))
        assert read_msmarco(folder, "dev").query_ids == queries
    triples = [texts[:3], [texts[3], *texts[:2]]]
    assume(texts[0] != texts[3] and texts[1] != texts[2] and texts[0] != texts[1])
    write(folder / "triples", "".join("\t".join(triple) + "\n" for triple in triples))
    data = read_training(folder / "triples", format="msmarco-triples")
    assert data.queries == [texts[0], texts[3]]
    assert [data.documents[row] for row in data.negatives.indices] == [texts[2], texts[1]]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=3))
def test_cells_of_tables_are_read_as_they_are_written(tmp_path: Path, delimiter, rows):
    rows = [
        [f"q{number} {row[0]}", f"d{number} {row[1]}", f"n{number} {row[2]}"]
        for number, row in enumerate(rows)
    ]
    header = ["anchor", "positive", "negative"]
    path = write(tmp_path / "table", table([header, *rows], delimiter))
    data = read_training(path)
    assert data.queries == [row[0] for row in rows]
    assert [data.documents[row] for row in data.positives.indices] == [row[1] for row in rows]
    path = write(tmp_path / "psgs.tsv", table([["id", "text", "title"], *rows], "\t"))
    found = read_documents(path)
    assert [found.ids, found.texts, found.titles] == [
        list(part) for part in zip(*rows, strict=True)
    ]
    choices = [[*row, "B", "A"] for row in rows]
    path = write(tmp_path / "law_test.csv", table(choices, ","))
    options = [choice.options for choice in read_choices(path, format="mmlu")]
    assert options == [(*row[1:], "B") for row in rows]


RECORDS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "dpr": lambda t: {
        "question": t[0],
        "answers": t[:1],
        "positive_ctxs": [{"text": t[1], "title": t[2]}],
    },
    "flagembedding": lambda t: {"query": t[0], "pos": [t[1]], "neg": []},
    "columns": lambda t: {"anchor": t[0], "positive": f"p{t[1]}"},
}


@pytest.mark.parametrize("name", RECORDS)
@given(texts=st.lists(TEXT, min_size=3, max_size=3))
def test_records_of_training_are_read_as_they_are_written(tmp_path: Path, name: str, texts):
    path = write(tmp_path / "train.json", json_lines(RECORDS[name](texts)))
    data = read_training(path)
    assert data.queries == [texts[0]]
    assert data.documents == [f"p{texts[1]}" if name == "columns" else texts[1]]


@given(st.lists(TEXT, min_size=2, max_size=4))
def test_questions_are_read_as_they_are_written(tmp_path: Path, texts: list[str]):
    question, *answers = texts
    for record in (
        {"question": question, "answer": answers},
        {"question": question, "answers": answers},
        {"_id": "1", "answers": answers},
        {"question": question, "possible_answers": json.dumps(answers)},
    ):
        path = write(tmp_path / "questions.jsonl", json_lines(record))
        assert read_questions(path)[0].answers == tuple(answers)
    path = write(tmp_path / "qa.csv", table([[f"q{question}", str(answers)]], "\t"))
    assert read_questions(path, format="dpr-qa")[0].question == f"q{question}"
    assert read_questions(path, format="dpr-qa")[0].answers == tuple(answers)


# {format: the test above, or the file of tests, that writes and reads it}
WRITTEN = {
    "beir": "test_collections",
    "msmarco": "test_lines_between_tabs",
    **dict.fromkeys(("tevatron", "dpr"), "test_any_training_set"),
    **dict.fromkeys(("flagembedding", "columns"), "test_records_of_training"),
    "mmlu": "test_cells_of_tables",
    **dict.fromkeys(("msmarco-triples", "trec-qrels"), "test_lines_between_tabs"),
    "trec-run": "test_any_run",
    "beir-qrels": "test_judgments_of_ir_datasets",
    **dict.fromkeys(("popqa", "entityquestions", "nq-open", "answers", "dpr-qa"), "test_questions"),
    **dict.fromkeys(("tevatron-ids", "dpr-run", "mteb-qrels", "msmarco-ids"), "test_neighbours.py"),
    **dict.fromkeys(("arc", "instructions"), "test_questions.py"),  # JSON and nothing else
}


def test_no_format_is_left_out():
    assert set(WRITTEN) == set(FORMATS)
