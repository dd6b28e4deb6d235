"""Tables as DPR, ColBERT, MS MARCO, BEIR and MMLU publish them, with and without a header."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import (
    Documents,
    MultipleChoice,
    read_beir,
    read_choices,
    read_documents,
    read_msmarco,
    read_qrels,
    read_query_texts,
    read_training,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.tsv"


# ---- documents and queries -----------------------------------------------------------------------

# Rows in the form of psgs_w100.tsv: id, text, title; texts in quotes, quotes in them doubled.
PASSAGES = (
    "id\ttext\ttitle\n"
    '1\t"Aaron ( or ; ""Ahärôn"") is a prophet, high priest."\tAaron\n'
    '2\t"God commands Aaron\tto accompany Moses."\t"""Heroes"" (song)"\n'
    "3\tplain\tAaron\n"
)


def test_passages_of_dpr_have_a_header_texts_before_titles_and_quotes_of_csv(path: Path):
    path.write_text(PASSAGES)
    assert read_documents(path) == Documents(
        ["1", "2", "3"],
        [
            'Aaron ( or ; "Ahärôn") is a prophet, high priest.',
            "God commands Aaron\tto accompany Moses.",
            "plain",
        ],
        ["Aaron", '"Heroes" (song)', "Aaron"],
    )


@pytest.mark.parametrize(
    ("header", "row", "titles"),
    [
        ("pid\ttext", "7\tseven", [""]),
        ("pid\tpassage\ttitle", "7\tseven\tT", ["T"]),
        ('"id"\t"text"', '"7"\t"seven"', [""]),
        ("docid\turl\ttitle\tbody", "7\thttp://x\tT\tseven", ["T"]),
        ("DocID\tTitle\tText", "7\tT\tseven", ["T"]),
    ],
)
def test_columns_of_a_header_are_known_by_their_names(path: Path, header, row, titles):
    path.write_text(f"\ufeff{header}\r\n{row}\r\n", encoding="utf-8")
    assert read_documents(path) == Documents(["7"], ["seven"], titles)


def test_lines_without_a_header_are_id_title_and_text_and_nothing_is_quoted(path: Path):
    path.write_text('0\t"eight\n1\t"T"\ttext\nid\tof\tanother\n')
    assert read_documents(path) == Documents(
        ["0", "1", "id"], ['"eight', "text", "another"], ["", '"T"', "of"]
    )


def test_documents_of_ms_marco_have_addresses_before_titles(path: Path):
    path.write_text("D1\thttps://x.org/a\tT\tone\nD2\thttp://y.org\t\ttwo\n")
    assert read_documents(path) == Documents(["D1", "D2"], ["one", "two"], ["T", ""])
    path.write_text("D1\tx\tT\tone\n")
    with pytest.raises(ValueError, match=r"table.tsv:1: expected an id, a tab and a text"):
        read_documents(path)


@pytest.mark.parametrize("header", ["qid\tquery\n", "query_id\tquery_text\n", "id\ttext\n", ""])
def test_queries_may_have_a_header(path: Path, header: str):
    path.write_text(f'{header}7\twho?\n8\tis "it"?\n')
    assert read_query_texts(path) == {"7": "who?", "8": 'is "it"?'}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (PASSAGES + "4\t5\n", r"table.tsv:5: expected 3 cells, as the header has, got 2"),
        (PASSAGES + '4\t"open\tT\n', r"table.tsv:5: not a table: unexpected end of data"),
        (PASSAGES + "3\tagain\tT\n", r"table.tsv:5: the id '3' is already that of line 4"),
        ("id\ttext\n", r"table.tsv: the file is empty"),
    ],
)
def test_a_bad_row_under_a_header_is_an_error_with_its_line(path: Path, text: str, complaint: str):
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_documents(path)


def test_the_line_of_a_row_is_known_after_cells_of_several_lines(path: Path):
    path.write_text('id\ttext\n1\t"one\n\ntwo"\n1\tagain\n')
    with pytest.raises(ValueError, match=r"table.tsv:5: the id '1' is already that of line 2"):
        read_documents(path)


def test_a_folder_of_ms_marco_may_have_headers_too(tmp_path: Path):
    for name, text in {
        "collection.tsv": "pid\ttext\n7\tseven\n",
        "queries.dev.tsv": "qid\tquery\nq\twho?\n",
        "qrels.dev.tsv": "q\t0\t7\t1\n",
    }.items():
        (tmp_path / name).write_text(text)
    collection = read_msmarco(tmp_path, "dev")
    assert (collection.document_ids, collection.queries) == (["7"], ["who?"])
    (tmp_path / "triples.tsv").write_text("q\t7\t7\n")
    with pytest.raises(ValueError, match="positive and negative"):
        read_training(tmp_path / "triples.tsv", format="msmarco-ids", split="dev")


# ---- judgments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["+1", "1.0", "1", "1e0", " 1 "])
def test_the_first_line_of_judgments_is_no_header_if_it_is_a_judgment(path: Path, score: str):
    path.write_text(f"q\td1\t{score}\nq\td2\t0\n")
    judgments = read_qrels(path)
    assert judgments.document_ids == ["d1", "d2"]
    assert judgments.qrels.gains.tolist() == [1, 0]


@pytest.mark.parametrize(
    "header", ["query-id\tcorpus-id\tscore", "qid\tdocid\trelevance", "query_id\tdoc_id\tlabel"]
)
def test_a_header_of_judgments_is_known_by_its_names(path: Path, header: str):
    path.write_text(f"{header}\nscore\tscore\t1\n")
    assert read_qrels(path).query_ids == ["score"]


@pytest.mark.parametrize("score", ["0.5", "1.7", "nan", "inf", "-inf", "yes", "1_0", ""])
@pytest.mark.parametrize("first", ["", "q\td0\t1\n"])
def test_a_grade_that_is_no_integer_is_named_on_every_line(tmp_path: Path, score: str, first: str):
    for name, text in (
        ("corpus", '{"_id": "d", "text": ""}\n'),
        ("queries", '{"_id": "q", "text": ""}\n'),
    ):
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(f"{first}q\td\t{score}\n")
    line = 2 if first else 1
    with pytest.raises(ValueError, match=rf"test.tsv:{line}: the score must be an integer, got '"):
        read_beir(tmp_path)
    if score:
        trec = tmp_path / "qrels.txt"
        trec.write_text(f"{first.replace(chr(9), ' 0 ', 1)}q 0 d {score}\n".replace("\t", " "))
        with pytest.raises(ValueError, match=rf"qrels.txt:{line}: the gain must be an integer"):
            read_qrels(trec, format="trec-qrels")


def test_an_empty_id_of_a_judgment_is_named(path: Path):
    path.write_text("query-id\tcorpus-id\tscore\n\td\t1\n")
    with pytest.raises(ValueError, match=r"table.tsv:2: an id is empty"):
        read_qrels(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"nan"', "1e999", "1" + "0" * 400])
def test_a_score_that_is_not_finite_is_named(path: Path, value: str):
    path.write_text(f'{{"query": "?", "pos": ["p"], "pos_scores": [{value}]}}\n')
    with pytest.raises(ValueError, match=r"table.tsv:1: 'pos_scores\[0\]' must be finite, got"):
        read_training(path)


# ---- MMLU ----------------------------------------------------------------------------------------

QUESTION: dict[str, Any] = {"question": "Which?", "subject": "law", "choices": ["a", "b", "c", "d"]}


def test_a_table_of_mmlu_is_read_by_the_names_of_its_header(tmp_path: Path):
    path = tmp_path / "law_test.csv"
    for header, row in (
        ("question,subject,choices,answer", "Which?,law,\"['a', 'b', 'c', 'd']\",2"),
        ("question,A,B,C,D,answer", "Which?,a,b,c,d,C"),
        ("question,subject,choice0,choice1,choice2,choice3,answer", "Which?,law,a,b,c,d,2"),
    ):
        path.write_text(f"{header}\n{row}\n")
        expected = [MultipleChoice("law_test-0", "Which?", ("a", "b", "c", "d"), 2, "law")]
        assert read_choices(path) == read_choices(path, format="mmlu") == expected


def test_a_column_that_mmlu_does_not_have_is_no_option(tmp_path: Path):
    path = tmp_path / "law.csv"
    path.write_text("question,hint,choice0,choice1,answer\nWhich?,it is a,a,b,0\n")
    with pytest.raises(ValueError, match=r"law.csv:2: unknown fields \['hint'\]"):
        read_choices(path, format="mmlu")


@pytest.mark.parametrize("answer", [1, 1.0, "B", "1"])
def test_the_answer_is_a_letter_or_an_index(tmp_path: Path, answer: Any):
    path = tmp_path / "law.jsonl"
    path.write_text(json.dumps(QUESTION | {"answer": answer}))
    assert read_choices(path)[0].answer == 1


@pytest.mark.parametrize("answer", [1.7, float("nan"), float("inf"), "1.7", None, True])
def test_an_answer_that_is_no_index_is_named(tmp_path: Path, answer: Any):
    path = tmp_path / "law.jsonl"
    path.write_text(json.dumps(QUESTION | {"answer": answer}))
    with pytest.raises(ValueError, match=r"law.jsonl:1: "):
        read_choices(path)


def test_published_tables_of_mmlu_are_those_without_a_header(tmp_path: Path):
    path = tmp_path / "anatomy_dev.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Which, of these?", "a", "b", "c", "d", "D"]] * 2)
    assert [choice.answer for choice in read_choices(path)] == [3, 3]
