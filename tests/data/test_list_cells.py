"""Lists in cells, blanks and brackets: each read as the tool that wrote it means it."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.data import MultipleChoice, detect, read_choices, read_questions, read_run
from tilefold.data.lines import columns_of
from tilefold.data.list_cells import parsed_list

# NumPy has no text that ends in U+0000.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.lists(st.text(CHARACTERS, max_size=6), max_size=5)
# How a list of texts looks in a cell, by the tool that wrote it.
DIALECTS: dict[str, Callable[[list[str]], str]] = {
    "json": json.dumps,
    "json in Unicode": lambda texts: json.dumps(texts, ensure_ascii=False),
    "a list of pandas": str,
    "a tuple": lambda texts: str(tuple(texts)),
    "an array of NumPy": lambda texts: str(np.array(texts, object)),
    "strings of NumPy in a list": lambda texts: str([np.str_(text) for text in texts]),
    "an array in a list": lambda texts: repr(np.array(texts, object)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(texts=TEXTS)
def test_a_list_in_a_cell_is_read_in_every_dialect(dialect: str, texts: list[str]):
    assert parsed_list(DIALECTS[dialect](texts)) == texts


@given(st.lists(st.floats(-9, 9), max_size=5))
def test_lists_of_numbers_are_read_alike(values: list[float]):
    assert parsed_list(json.dumps(values)) == values
    assert parsed_list(str(values)) == values


@pytest.mark.parametrize(
    "cell",
    [
        *("", "a", "['a'", "'a', 'b'", "['a', 'b' 'c']", "['a'; 'b']", "[a, b]", "[('a',)]"),
        *("['a', ...]", "['a' ... 'z']", "[__import__('os')]", "['a' + 'b']", "['a')", "{'a'}"),
        *("array(['a'])]", "['a'])", "['\\U00110000']"),
    ],
)
def test_what_is_no_list_of_values_is_none(cell: str):
    assert parsed_list(cell) is None


def test_a_backslash_that_escapes_nothing_is_kept_as_python_keeps_it():
    assert parsed_list(r"['\d+ (\S+)', '\\d']") == [r"\d+ (\S+)", r"\d"]


# ---- files ---------------------------------------------------------------------------------------


def table(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


ANSWERS = ["Linda Davis", 'Reba "Mac"', "it's"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_in_tables_are_the_same_in_every_dialect(tmp_path: Path, dialect: str):
    cell = DIALECTS[dialect](ANSWERS)
    popqa = [{"id": 1, "question": "who?", "possible_answers": cell, "s_pop": "142.0"}]
    assert read_questions(table(tmp_path / "popqa.tsv", popqa, "\t"))[0].answers == tuple(ANSWERS)
    entity = [{"question": "who?", "answers": cell}]
    assert read_questions(table(tmp_path / "P1.csv", entity))[0].answers == tuple(ANSWERS)
    nq_open = [{"question": "who?", "answer": cell}, {"question": "why?", "answer": "so"}]
    found = read_questions(table(tmp_path / "nq.csv", nq_open), format="nq-open")
    assert [question.answers for question in found] == [tuple(ANSWERS), ("so",)]
    with (tmp_path / "qa.csv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerow(["who?", cell])
    assert read_questions(tmp_path / "qa.csv", format="dpr-qa")[0].answers == tuple(ANSWERS)


def test_an_array_that_numpy_abbreviates_is_refused(tmp_path: Path):
    cell = str(np.array([f"a{n}" for n in range(2000)]))
    assert "..." in cell
    path = table(tmp_path / "q.csv", [{"question": "?", "answers": cell}])
    with pytest.raises(ValueError, match=r"q.csv:2: 'answers' must be a list in brackets"):
        read_questions(path)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_mmlu_as_datasets_exports_it_has_its_options_in_a_cell(tmp_path: Path, dialect: str):
    choices = ["0", "4", "it's 2", "6"]
    row = {"question": "?", "subject": "algebra", "choices": DIALECTS[dialect](choices)}
    path = table(tmp_path / "all_test.csv", [row | {"answer": 1}])
    expected = [MultipleChoice("all_test-0", "?", tuple(choices), 1, "algebra")]
    assert read_choices(path) == expected
    assert read_choices(path, format="mmlu") == expected


# ---- blanks --------------------------------------------------------------------------------------


def test_columns_of_a_line_are_split_at_the_blanks_of_c_alone(tmp_path: Path):
    blanks = " \t\n\v\f\r"
    others = "\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
    for blank in blanks:
        assert columns_of(f"q{blank}{blank}d") == ["q", "d"]
    for other in others:
        assert columns_of(f"q{other} {other}d") == [f"q{other}", f"{other}d"]
        path = tmp_path / "run.trec"
        path.write_text(f"q{other}1 Q0 d{other}1 1 0.5 t{other}\n", encoding="utf-8")
        run = read_run(path)
        assert (run.query_ids, run.document_ids) == ([f"q{other}1"], [f"d{other}1"])
        assert run.tag == f"t{other}"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.integers(1, 4))
def test_the_last_of_some_columns_holds_the_rest(text: str, most: int):
    every = columns_of(text)
    some = columns_of(text, most)
    assert some[: most - 1] == every[: most - 1]
    assert len(some) == min(most, len(every))
    assert columns_of(" ".join(some)) == every


@pytest.mark.parametrize("start", ["[citation needed] who?", "{who} is it?", "[1] what?"])
def test_a_text_that_begins_with_a_bracket_is_no_json(tmp_path: Path, start: str):
    path = tmp_path / "file"
    path.write_text(f"{start}\t['she']\n")
    assert detect(path) == "dpr-qa"
    assert read_questions(path)[0].question == start
    path.write_text(f"{start}\tshe is\tit is\n")
    assert detect(path) == "msmarco-triples"


def test_a_string_that_looks_like_a_dtype_stays():
    assert parsed_list("array(['a, dtype=b', 'c'], dtype=object)") == ["a, dtype=b", "c"]


def test_a_cell_takes_time_in_proportion_to_its_length():
    start = time.perf_counter()
    assert parsed_list("array(" + ", dtype=" * 20_000) is None
    assert time.perf_counter() - start < 5  # 20 s in quadratic time, here milliseconds
