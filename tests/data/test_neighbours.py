"""Formats of neighbours: Tevatron 2, DPR's retriever, Pyserini, MTEB, Parquet, MMLU-Pro."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import (
    Documents,
    MultipleChoice,
    detect,
    read,
    read_choices,
    read_collection,
    read_documents,
    read_qrels,
    read_query_texts,
    read_run,
    read_training,
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes records as JSON lines, as a JSON array, or as Parquet: the name decides."""

    def make(name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if name.endswith(".parquet"):
            parquet, arrow = (pytest.importorskip(n) for n in ("pyarrow.parquet", "pyarrow"))
            parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
        elif name.endswith(".json"):
            path.write_text(json.dumps(rows, indent=4))
        else:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return make


FORMS = ("jsonl", "parquet")

# ---- Tevatron 2 ----------------------------------------------------------------------------------

CORPUS = [
    {"docid": "7", "title": "T", "text": "seven", "image": None},
    {"docid": "8", "title": "", "text": "eight", "image": None},
]
BY_ID = {
    "query_id": "q1",
    "query_text": "who?",
    "query_image": None,
    "positive_document_ids": ["8"],
    "negative_document_ids": ["7"],
    "answer": None,
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_of_tevatron_find_their_texts_in_the_corpus_beside_them(write: Write, form: str):
    write(f"corpus.{form}", CORPUS)
    path = write("train.jsonl", [BY_ID, BY_ID | {"query_id": 2, "answer": "she"}])
    assert detect(path) == "tevatron-ids"
    data = read_training(path)
    assert (data.query_ids, data.queries, data.answers) == (
        ["q1", "2"],
        ["who?"] * 2,
        [(), ("she",)],
    )
    assert (data.document_ids, data.titles) == (["7", "8"], ["T", ""])
    assert (data.positives.indices.tolist(), data.negatives.indices.tolist()) == ([1, 1], [0, 0])


def test_the_corpus_of_tevatron_may_be_elsewhere(write: Write, tmp_path: Path):
    path = write("train.jsonl", [BY_ID])
    with pytest.raises(
        FileNotFoundError, match=r"corpus.jsonl beside it, or name a file or folder"
    ):
        read_training(path)
    corpus = write("wiki/all.jsonl", CORPUS)
    assert read_training(path, corpus=corpus).documents == ["seven", "eight"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"positive_document_ids": ["9"]},
            r"document '9' of 'positive_document_ids' is not in the",
        ),
        ({"positive_document_ids": []}, r"the query 'who\?' has no positive"),
        ({"query_image": "x.png"}, r"'query_image' is no text: only texts are read"),
        ({"negative_document_ids": [[1]]}, r"'negative_document_ids\[0\]' must be a string"),
        ({"source": "nq"}, r"unknown fields \['source'\]"),
    ],
)
def test_ids_of_tevatron_that_cannot_be_read_are_named(write: Write, change, complaint: str):
    write("corpus.jsonl", CORPUS)
    path = write("train.jsonl", [BY_ID | change])
    with pytest.raises(ValueError, match=rf"train.jsonl:1: {complaint}"):
        read_training(path)


def test_absent_documents_of_tevatron_are_left_out_when_asked(write: Write):
    write("corpus.jsonl", CORPUS)
    path = write("train.jsonl", [BY_ID | {"negative_document_ids": ["7", "9"]}])
    assert read_training(path, on_missing_positive="drop").negatives.indices.tolist() == [0]


# ---- output of DPR's retriever -------------------------------------------------------------------


def context(name: Any, score: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "title": "T", "text": "t", "score": score, "has_answer": False} | fields


FOUND = [
    {
        "question": "who?",
        "answers": ["she"],
        "ctxs": [context("w:2", "9.5"), context("w:1", "9.5")],
    },
    {"question": "why?", "answers": [], "ctxs": [context(7, "1")]},
]


def test_output_of_the_retriever_of_dpr_is_a_run_in_its_own_order(write: Write):
    path = write("found.json", FOUND)
    assert detect(path) == "dpr-run"
    run = read(path)
    assert (run.query_ids, run.tag) == (["0", "1"], "dpr")
    ranking = run.ranking(["0", "1"], ["w:1", "w:2", "7"])
    assert ranking.tolist() == [[1, 0], [2, -1]]  # ties stay as they are
    assert run.scores.tolist() == [9.5, 9.5, 1]


def test_questions_of_a_run_may_have_ids(write: Write):
    named = [row | {"id": f"q{number}"} for number, row in enumerate(FOUND)]
    assert read_run(write("found.jsonl", named)).query_ids == ["q0", "q1"]
    with pytest.raises(ValueError, match=r"found.jsonl:2: query id '0' is already that of line 1"):
        read_run(write("found.jsonl", [FOUND[0], FOUND[1] | {"id": "0"}]))


@pytest.mark.parametrize(
    ("contexts", "complaint"),
    [
        ([context(1, "1"), context(2, "2")], r"ctxs\[1\]: the score 2 is above the one before"),
        ([context(1, "2"), context(1, "1")], r"document '1' is found twice for query '0'"),
        ([context(1, "nan")], r"ctxs\[0\]: 'score' must be finite"),
        ([context(1, "1", rank=1)], r"ctxs\[0\]: unknown fields \['rank'\]"),
        ([{"text": "t", "score": 1}], r"ctxs\[0\]: the field 'id' is missing"),
    ],
)
def test_a_bad_context_is_an_error_with_its_line(write: Write, contexts, complaint: str):
    path = write("found.jsonl", [FOUND[0] | {"ctxs": contexts}])
    with pytest.raises(ValueError, match=rf"found.jsonl:1: {complaint}"):
        read_run(path)


PYSERINI = {
    "7": {"question": "who?", "answers": ["she"], "contexts": [
        {"docid": "d2", "score": "9.5", "has_answer": True},
        {"docid": "d1", "score": "9.5", "has_answer": False, "text": "T\nt"},
    ]},
    "3": {"question": "why?", "answers": [], "contexts": []},
}  # fmt: skip


def test_retrieval_of_pyserini_is_one_object_with_questions_as_keys(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PYSERINI, indent=4))
    assert detect(path) == "dpr-run"
    run = read(path)
    assert (run.query_ids, run.document_ids, run.ids.tolist()) == (["7"], ["d2", "d1"], [0, 1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", r"run.json: no results"),
        ("{\n}", r"run.json: no results"),
        ('{\n"1": {"question": "", "contexts": []}', r"run.json:2: the object is cut off"),
        ('{\n"1": {"question": "", "contexts": []}\n}x', r"run.json:3: the object has ended"),
        ('{\n"1": {}, "1": {}}', r"run.json:2: key '1' occurs twice"),
        ('{\n"1": []}', r"run.json:2: expected a JSON object, got \[\]"),
        ('{\n"1" {}}', r"run.json:2: expected a key, ':' and a record"),
        ('{\n"1": {"ctxs": []}}', r"run.json:2: unknown fields \['ctxs'\]"),
        ('{\n"1": {"contexts": [}}', r"run.json:2: not valid JSON: .*, in key or value 2 of the"),
    ],
)
def test_a_bad_object_of_questions_is_an_error_with_its_line(tmp_path: Path, text, complaint: str):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_run(path)


def test_other_formats_are_not_read_from_an_object_of_records(tmp_path: Path):
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"q1": {"question": "?", "answer": ["a"]}}, indent=1))
    with pytest.raises(ValueError, match=r"questions.json:1: one JSON object of several lines"):
        read(path)


# ---- corpora and queries -------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("rows", "titles"),
    [
        # Of Pyserini, of BEIR and MTEB, of Tevatron, of wiki_dpr.
        ([{"id": "7", "contents": "seven"}, {"id": "8", "contents": "eight"}], ["", ""]),
        ([{"_id": "7", "title": "T", "text": "seven"}, {"_id": "8", "title": "", "text": "eight"}],
         ["T", ""]),
        (CORPUS, ["T", ""]),
        ([{"id": "7", "text": "seven", "title": "T", "embeddings": [1.0]},
          {"id": "8", "text": "eight", "title": "", "embeddings": [0.0]}], ["T", ""]),
    ],
)  # fmt: skip
def test_documents_are_known_by_the_names_of_their_fields(write: Write, form, rows, titles):
    expected = Documents(["7", "8"], ["seven", "eight"], titles)
    assert read_documents(write(f"corpus.{form}", rows)) == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "text"), [("_id", "text"), ("query_id", "query_text"),
                                            ("query_id", "query"), ("id", "question")])  # fmt: skip
def test_queries_are_known_by_the_names_of_their_fields(write: Write, form, name, text):
    path = write(f"queries.{form}", [{name: "7", text: "who?"}])
    assert read_query_texts(path) == {"7": "who?"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"docid": "1", "text": "", "image": "x.png"}, "'image' is no text: only texts are read"),
        ({"_id": "1", "id": "2", "text": ""}, r"unknown fields \['id'\]"),
        ({"_id": "1", "text": "", "contents": ""}, r"unknown fields \['contents'\]"),
        ({"id": "1", "contents": ["a"]}, "'contents' must be a string"),
        ({"docno": "1", "text": ""}, "the field '_id' is missing|unknown fields"),
    ],
)
def test_fields_that_are_not_understood_are_refused(write: Write, row, complaint: str):
    with pytest.raises(ValueError, match=rf"corpus.jsonl:1: ({complaint})"):
        read_documents(write("corpus.jsonl", [row]))


# ---- judgments -----------------------------------------------------------------------------------

JUDGED = [
    {"query-id": "q1", "corpus-id": "d1", "score": 1.0},
    {"query-id": "q1", "corpus-id": "d2", "score": 0},
]


@pytest.mark.parametrize("form", [*FORMS, "json"])
def test_judgments_of_mteb_are_records(write: Write, form: str):
    rows = [row | {"score": float(row["score"])} for row in JUDGED]
    path = write(f"test.{form}", rows)
    assert detect(path) == "mteb-qrels"
    judgments = read_qrels(path)
    assert (judgments.query_ids, judgments.document_ids) == (["q1"], ["d1", "d2"])
    assert judgments.qrels.gains.tolist() == [1, 0]


def test_a_grade_of_mteb_that_is_no_integer_is_named(write: Write):
    path = write("test.jsonl", [*JUDGED, JUDGED[0] | {"corpus-id": "d3", "score": 0.5}])
    with pytest.raises(ValueError, match=r"test.jsonl:3: 'score' must be an integer, got 0.5"):
        read_qrels(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_mteb_is_one_of_beir(write: Write, tmp_path: Path, form: str):
    write(f"corpus.{form}", [{"_id": f"d{n}", "title": "", "text": "x"} for n in (1, 2)])
    write(f"queries.{form}", [{"_id": "q1", "text": "who?"}])
    write(f"qrels/test.{form}", [row | {"score": int(row["score"])} for row in JUDGED])
    assert detect(tmp_path) == "beir"
    collection = read_collection(tmp_path)
    assert (collection.document_ids, collection.query_ids) == (["d1", "d2"], ["q1"])
    assert collection.qrels.gains.tolist() == [1, 0]
    data = read_training(tmp_path, split="test")
    assert (data.positives.indices.tolist(), data.negatives.indices.tolist()) == ([0], [1])


def test_judgments_between_tabs_come_before_the_same_as_json(write: Write, tmp_path: Path):
    write("corpus.jsonl", [{"_id": "d1", "text": "x"}])
    write("queries.jsonl", [{"_id": "q1", "text": "who?"}])
    (write("qrels/test.jsonl", JUDGED).parent / "test.tsv").write_text("q1\td1\t2\n")
    assert read_collection(tmp_path).qrels.gains.tolist() == [2]
    packed = tmp_path / "qrels" / "dev.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(JUDGED[0]).encode()))
    assert read_collection(tmp_path, "dev").qrels.gains.tolist() == [1]
    with pytest.raises(FileNotFoundError, match=r"has no split 'x'; it has: dev, test|test, dev"):
        read_collection(tmp_path, "x")


# ---- MMLU-Pro ------------------------------------------------------------------------------------

PRO = {
    "question_id": 70,
    "question": "Which?",
    "options": ["a", "b", "c"],
    "answer": "C",
    "answer_index": 2,
    "cot_content": "",
    "category": "law",
    "src": "ori_mmlu",
}


@pytest.mark.parametrize("form", FORMS)
def test_mmlu_pro_has_ids_categories_and_up_to_ten_options(write: Write, form: str):
    path = write(f"test.{form}", [PRO])
    assert read_choices(path) == [MultipleChoice("70", "Which?", ("a", "b", "c"), 2, "law")]


def test_mmlu_of_the_hub_is_parquet(write: Write):
    row = {"question": "Which?", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 2}
    path = write("test-00000-of-00001.parquet", [row])
    assert read_choices(path)[0].options == ("a", "b", "c", "d")
    assert read_choices(path)[0].subject == "law"


def test_an_answer_and_an_index_that_differ_are_named(write: Write):
    with pytest.raises(ValueError, match=r"test.jsonl:1: 'answer_index' is not that of 'answer'"):
        read_choices(write("test.jsonl", [PRO | {"answer_index": 1}]))
