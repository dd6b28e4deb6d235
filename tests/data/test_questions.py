"""Questions and multiple choice: every format of open-domain QA comes down to one shape."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import MultipleChoice, Question, read_choices, read_collection, read_questions

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text, or JSON lines."""

    def make(content: Any, name: str) -> Path:
        if not isinstance(content, str):
            content = "".join(f"{json.dumps(line)}\n" for line in content)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return make


# ---- questions -----------------------------------------------------------------------------------


def test_nq_open_gives_questions_numbered_from_zero(write: Write):
    lines = [{"question": "who?", "answer": ["she", "her"]}, {"question": "why?", "answer": "so"}]
    assert read_questions(write(lines, "NQ-open.jsonl")) == [
        Question("0", "who?", ("she", "her")),
        Question("1", "why?", ("so",)),
    ]


POPQA = {
    "id": "4222362",
    "subj": "George Rankin",
    "prop": "occupation",
    "obj": "politician",
    "s_aliases": '["George James Rankin"]',
    "s_pop": "142",
    "o_pop": "25692",
    "question": "What is George Rankin's occupation?",
    "possible_answers": '["politician", "political \\"leader\\""]',
}


def test_popqa_gives_answers_and_metadata_from_lists_in_cells(tmp_path: Path):
    path = tmp_path / "popQA.tsv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(POPQA), delimiter="\t")
        table.writeheader()
        table.writerow(POPQA)
    (question,) = read_questions(path)
    assert (question.id, question.question) == ("4222362", POPQA["question"])
    assert question.answers == ("politician", 'political "leader"')
    assert (question.popularity, question.relation) == (142, "occupation")
    assert question.metadata == {
        "subj": "George Rankin",
        "prop": "occupation",
        "obj": "politician",
        "s_aliases": ["George James Rankin"],
        "s_pop": 142,
        "o_pop": 25692,
    }


def test_popqa_may_be_json(write: Write):
    record = {"id": 7, "question": "?", "possible_answers": '["a"]', "s_pop": 3, "prop": "capital"}
    (question,) = read_questions(write([record], "popqa.jsonl"))
    assert (question.id, question.answers, question.popularity) == ("7", ("a",), 3)


def test_questions_of_dpr_have_answers_in_the_spelling_of_json_or_of_python(write: Write):
    text = 'who?\t[\'she\', "it\'s"]\nwhy?\t["so"]\nwhere?\t"[\'a\', ""b\'c""]"\n'
    questions = read_questions(write(text, "nq-test.qa.csv"))
    assert [question.answers for question in questions] == [("she", "it's"), ("so",), ("a", "b'c")]


def test_entityquestions_has_its_relation_in_the_name_of_the_file(write: Write):
    record = {"question": "What is the capital of X?", "answers": ["Y"]}
    write(json.dumps([record, record], indent=4), "dev/P36.dev.json")
    path = write(json.dumps([record]), "dev/P17.dev.json")
    assert read_questions(path) == [
        Question("0", record["question"], ("Y",), {"prop": "P17"}),
    ]
    found = read_questions(path.parent)
    assert [question.id for question in found] == ["P17.dev-0", "P36.dev-0", "P36.dev-1"]
    assert [question.relation for question in found] == ["P17", "P36", "P36"]


def test_answers_beside_a_collection_have_the_ids_of_its_queries(write: Write):
    path = write([{"_id": "q1", "answers": ["a"], "s_pop": 5, "odd": [1]}], "answers.jsonl")
    assert read_questions(path) == [Question("q1", "", ("a",), {"s_pop": 5, "odd": [1]})]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", r"q.txt: the file is empty"),
        ([{"question": "?", "answer": []}], r"q.txt:1: the question '\?' has no answer"),
        ([{"question": "?", "answer": ["a"], "x": 1}], r"q.txt:1: unknown fields \['x'\]"),
        ([{"question": "?", "answer": [1]}], r"q.txt:1: 'answer\[0\]' must be a string, got 1"),
        (
            [{"question": "?", "answers": ["a"]}, {"question": "?"}],
            r":2: the question .* no answer",
        ),
        ([{"_id": "1", "answers": ["a"]}] * 2, r"q.txt:2: id '1' is already that of line 1"),
        ([{"_id": "1", "answers": []}], r"q.txt:1: the question '1' has no answer"),
        (
            [{"question": "?", "possible_answers": "[a"}],
            r":1: 'possible_answers' must be a list in brackets",
        ),
        (
            [{"title": "?"}],
            r"found JSON with the fields \['title'\], which is none of:\s+popqa: a t",
        ),
        (
            "who?\t['a']\nwho?\n",
            r"q.txt:2: expected a question, a tab and its answers, got 1 cells",
        ),
        ("who?\t['a']\nwho?\t[a\n", r"q.txt:2: 'answers' must be a list in brackets, .* got '\[a'"),
        ("who?\t['a']\nwho?\t'a'\n", r"q.txt:2: 'answers' must be a list in brackets"),
        (
            "who?\t['a']\nwho?\t[__import__('os')]\n",
            r"q.txt:2: 'answers' must be a list in brackets",
        ),
    ],
)
def test_bad_questions_are_an_error_with_file_and_line(write: Write, content, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_questions(write(content, "q.txt"))


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="the folder is empty"):
        read_questions(tmp_path)
    with pytest.raises(ValueError, match="the folder is empty"):
        read_choices(tmp_path)


# ---- multiple choice -----------------------------------------------------------------------------

MMLU = 'Which?,"a, b",b,"c\nd",e,B\nWhat?,1,2,3,4,D\n'


def test_mmlu_has_its_subject_in_the_name_of_the_file(write: Write):
    path = write(MMLU, "high_school_physics_test.csv")
    assert read_choices(path) == [
        MultipleChoice(
            *("high_school_physics_test-0", "Which?"),
            *(("a, b", "b", "c\nd", "e"), 1, "high_school_physics"),
        ),
        MultipleChoice(
            *("high_school_physics_test-1", "What?", ("1", "2", "3", "4"), 3),
            "high_school_physics",
        ),
    ]


def test_mmlu_with_a_header_has_the_answer_as_an_index(write: Write):
    header = "question,choice0,choice1,choice2,choice3,answer\n"
    write(header + "Which?,0,1,2,3,1\n", "dev/anatomy_dev.csv")
    path = write(header + "Which?,0,1,2,3,0\n", "dev/virology_val.csv.gz")
    path.write_bytes(gzip.compress(path.read_bytes()))
    found = read_choices(path.parent)
    assert [(choice.subject, choice.answer) for choice in found] == [
        ("anatomy", 1),
        ("virology", 0),
    ]
    assert found[0].options == ("0", "1", "2", "3")


def test_mmlu_may_be_json(write: Write):
    record = {"question": "?", "subject": "law", "choices": ["a", "b"], "answer": 1}
    assert read_choices(write([record], "all.jsonl")) == [
        MultipleChoice("all-0", "?", ("a", "b"), 1, "law")
    ]


ARC = {
    "id": "Mercury_1",
    "question": {
        "stem": "Which?",
        "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}],
    },
    "answerKey": "2",
}


def test_arc_and_commonsenseqa_name_the_answer_by_its_label(write: Write):
    concept = ARC["question"] | {"question_concept": "punishing"}
    found = read_choices(write([ARC, ARC | {"id": "2", "question": concept}], "train.jsonl"))
    assert found == [
        MultipleChoice("Mercury_1", "Which?", ("a", "b"), 1),
        MultipleChoice("2", "Which?", ("a", "b"), 1, "punishing"),
    ]


INSTRUCTION = {
    "instruction": "Please choose the correct answer to the question: Who?\n\nAnswer1: she is. "
    "Answer2: Answer1: he\n\nAnswer format: answer1/answer2",
    "input": "",
    "output": "the correct answer is answer2",
    "answer": "answer2",
}


def test_instructions_are_taken_apart_into_options(write: Write):
    (found,) = read_choices(write([INSTRUCTION], "train.json"))
    assert found == MultipleChoice("train-0", "Who?", ("she is.", "Answer1: he"), 1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", r"c.csv: the file is empty"),
        ("question,choice0,choice1,answer\n", r"c.csv: no questions"),
        (
            MMLU + "Why?,1,2,A\n",
            r"c.csv:4: expected a question, 4 options and an answer, got \['Wh",
        ),
        (MMLU + "Why?,1,2,3,4,E\n", r"c.csv:4: the answer is none of the 4 options"),
        (MMLU + "Why?,1,2,3,4,Aa\n", r"c.csv:4: the answer must be a letter or an index, got 'Aa'"),
        ([ARC, ARC], r"c.csv:2: id 'Mercury_1' is already that of line 1"),
        (
            [ARC | {"answerKey": "3"}],
            r"c.csv:1: 'answerKey' is '3', but the options are \['1', '2'",
        ),
        ([ARC | {"question": "?"}], r"c.csv:1: question: expected a JSON object, got \"\?\""),
        ([INSTRUCTION | {"answer": "answer3"}], r"c.csv:1: 'answer' is 'answer3', but the options"),
        ([INSTRUCTION | {"instruction": "Who?"}], r"c.csv:1: 'instruction' is not a question with"),
        ([INSTRUCTION | {"id": 1}], r"c.csv:1: unknown fields \['id'\]"),
        (
            [{"question": "?", "choices": ["a"], "answer": 1}],
            r"c.csv:1: the answer is none of the 1",
        ),
        ("a\tb\n", r"found text whose first line is 'a\\tb', which is none of:\s+mmlu: rows of"),
    ],
)
def test_bad_choices_are_an_error_with_file_and_line(write: Write, content, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_choices(write(content, "c.csv"))


# ---- real files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "n"),
    [
        ("nq_open/orig/NQ-open.dev.jsonl", 3610),
        ("nq_open/orig/NQ-open.efficientqa.dev.1.1.jsonl", 1800),
        ("dpr_qa/orig/anserini/topics.dpr.nq.dev.txt", 8757),
        ("dpr_qa/orig/anserini/topics.dpr.nq.test.txt", 3610),
        ("dpr_qa/orig/anserini/topics.dpr.squad.test.txt", 10570),
        ("entityquestions/orig/dev", 22068),
        ("wiki_mix/answers.jsonl", 6548),
    ],
)
def test_every_file_of_questions_loads(data_folder: Path, path: str, n: int):
    found = read_questions(data_folder / path)
    assert len(found) == n
    assert all(question.answers for question in found)
    assert len({question.id for question in found}) == n


def test_answers_of_popqa_have_popularity_and_relation(data_folder: Path):
    root = data_folder / "wiki_mix"
    queries = set(read_collection(root / "beir", "popqa").query_ids)
    found = [q for q in read_questions(root / "answers.jsonl") if q.id in queries]
    assert len(found) == 1000
    assert all(q.popularity is not None and q.relation for q in found)


@pytest.mark.parametrize(
    ("path", "n"),
    [
        ("mmlu/orig/dev", 285),
        ("mcq_qa/orig/ARC-Challenge/train.json", 1119),
        ("mcq_qa/orig/CommonsenseQA/train_rand_split.jsonl", 9741),
    ],
)
def test_every_file_of_multiple_choice_loads(data_folder: Path, path: str, n: int):
    found = read_choices(data_folder / path)
    assert len(found) == n
    assert all(len(choice.options) >= 3 for choice in found)
    if path.startswith("mmlu"):
        assert len({choice.subject for choice in found}) == 57
