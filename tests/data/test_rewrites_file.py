"""Files of rewrites: read for the queries at hand, and refused with file and line otherwise."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import read_rewrites, write_rewrites
from tilefold.data.rewrites import wording


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "rewrites.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_rewrites_come_in_the_order_of_the_queries_whatever_the_order_of_lines(tmp_path: Path):
    path = written(
        tmp_path,
        {"_id": "b", "rewrites": ["who is it?", {"text": "whoo?", "family": "typo"}]},
        "",
        {"_id": 7, "rewrites": [{"text": "wo ist es?"}]},
    )
    assert read_rewrites(path, ["7", "a", "b"]) == [["wo ist es?"], [], ["who is it?", "whoo?"]]


def test_a_packed_file_and_an_array_are_read_too(tmp_path: Path):
    path = tmp_path / "rewrites.json.gz"
    path.write_bytes(gzip.compress(b'[{"_id": "a", "rewrites": ["x"]}]'))
    assert read_rewrites(path, ["a"]) == [["x"]]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"_id": "z", "rewrites": ["x"]}, "'z' is the id of no query; there are 2"),
        ({"_id": "a", "rewrites": ["x"]}, "the rewrites of 'a' are already in line 1"),
        ({"_id": "b"}, "the field 'rewrites' is missing; there are ['_id']"),
        ({"rewrites": ["x"]}, "the field '_id' is missing; there are ['rewrites']"),
        ({"_id": "", "rewrites": ["x"]}, "'_id' is empty"),
        ({"_id": "b", "rewrites": ["x"], "lang": "en"}, "unknown fields ['lang']"),
        ({"_id": "b", "rewrites": "x"}, "'rewrites' must be a list, got \"x\""),
        ({"_id": "b", "rewrites": None}, "'rewrites' must be a list, got null"),
        ({"_id": "b", "rewrites": ["x", 3]}, "'rewrites[1]' must be a string, got 3"),
        ({"_id": "b", "rewrites": ["x", " \t"]}, "rewrites[1] is blank"),
        ({"_id": "b", "rewrites": [{"text": ""}]}, "rewrites[0] is blank"),
        ({"_id": "b", "rewrites": [{"family": "typo"}]}, "rewrites[0]: the field 'text' is miss"),
        ({"_id": "b", "rewrites": [{"text": "x", "style": 1}]}, "rewrites[0]: unknown fields ['st"),
        ({"_id": "b", "rewrites": [{"text": "x", "family": 1}]}, "'family' must be a string"),
        ({"_id": "b", "rewrites": ["\ud800"]}, "has half a surrogate pair"),
        ('{"_id": "b", "rewrites": ["x"', "not valid JSON"),
        ('"b"', "expected a JSON object"),
    ],
)
def test_a_bad_line_is_an_error_with_file_and_line(tmp_path: Path, line: Any, problem: str):
    path = written(tmp_path, {"_id": "a", "rewrites": ["x"]}, line)
    with pytest.raises(ValueError, match=re.escape(f"{path}:2: ")) as error:
        read_rewrites(path, ["a", "b"])
    assert problem in str(error.value)


def test_an_empty_file_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"rewrites\.jsonl: the file is empty"):
        read_rewrites(written(tmp_path), ["a"])


def test_repeated_rewrites_and_those_of_the_query_are_left_out_and_counted(tmp_path: Path):
    path = written(tmp_path, {"_id": "a", "rewrites": ["Who is it?", "who", " WHO ", "who?"]})
    with pytest.warns(UserWarning, match=r"1 rewrites equal to earlier ones are left out"):
        assert read_rewrites(path, ["a"]) == [["Who is it?", "who", "who?"]]
    with pytest.warns(UserWarning, match=r"2 rewrites equal to their query or to earlier ones"):
        assert read_rewrites(path, ["a"], ["who is  it?"]) == [["who", "who?"]]


@pytest.mark.parametrize(
    ("ids", "queries", "error", "problem"),
    [
        ("ab", None, TypeError, "query_ids must be a list of strings, got the string 'ab'"),
        (["a", 3], None, TypeError, "query_ids[1]: expected a string, got int"),
        (["a", ""], None, ValueError, "query_ids[1]: '' is blank"),
        (["a", "a"], None, ValueError, "query_ids must differ, but 'a' is in rows 0 and 1"),
        (["a"], ["x", "y"], ValueError, "expected queries of 1 query_ids, one for each, got 2"),
    ],
)
def test_arguments_of_reading_are_checked(
    tmp_path: Path, ids: Any, queries: Any, error: type[Exception], problem: str
):
    path = written(tmp_path, {"_id": "a", "rewrites": ["x"]})
    with pytest.raises(error, match=re.escape(f"read_rewrites: {problem}")) as raised:
        read_rewrites(path, ids, queries)
    assert str(path) not in str(raised.value)


@pytest.mark.parametrize("families", [None, [["typo", "template"], [], ["näive"]]])
def test_what_was_written_is_read_back(tmp_path: Path, families: Any):
    path, ids = tmp_path / "rewrites.jsonl", ["a", "b", "é"]
    rewrites = [['say "who"', "line\nbreak"], [], ["\u2028 wer?"]]
    write_rewrites(path, ids, rewrites, families)
    assert read_rewrites(path, ids) == rewrites
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["_id"] for line in lines] == ["a", "é"]
    if families is not None:
        found = [[item["family"] for item in line["rewrites"]] for line in lines]
        assert found == [families[0], families[2]]


@pytest.mark.parametrize(
    ("ids", "rewrites", "families", "error", "problem"),
    [
        (["a", "b"], [["x"]], None, ValueError, "expected lists of rewrites of 2 query_ids"),
        (["a"], [["x"]], [], ValueError, "expected lists of families of 1 query_ids"),
        (["a"], [["x"]], [["t", "u"]], ValueError, "rewrites of 'a': expected 1 families, got 2"),
        (["a"], ["x"], None, TypeError, "rewrites must be a list of strings, got 'x'"),
        (["a"], [["x"]], ["t"], TypeError, "families must be a list of strings, got 't'"),
        (["a"], [["x", " "]], None, ValueError, "rewrites of 'a': ' ' is blank"),
        (["a"], [["x", None]], None, TypeError, "rewrites of 'a': expected a string, got None"),
        (["a"], [["\udfff"]], None, ValueError, "has half a surrogate pair"),
        (["a"], [["x"]], [[1]], TypeError, "families of 'a': expected a string, got int"),
        (["a", "a"], [["x"], ["y"]], None, ValueError, "must differ, but 'a' is in rows 0 and 1"),
        (["a"], [[]], None, ValueError, "no query has a rewrite"),
    ],
)
def test_nothing_is_written_for_bad_arguments(
    tmp_path: Path, ids: Any, rewrites: Any, families: Any, error: type[Exception], problem: str
):
    path = tmp_path / "rewrites.jsonl"
    path.write_text("as it was")
    with pytest.raises(error, match=re.escape(problem)):
        write_rewrites(path, ids, rewrites, families)
    assert path.read_text() == "as it was"


def test_wordings_are_compared_without_case_and_white_space():
    assert wording(" Straße\n") == wording("STRASSE")
    assert wording("who?") != wording("who")
