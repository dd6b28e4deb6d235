"""Formats: each is told from the others by its content, and one reader reads them all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from format_examples import BEIR, EXAMPLES, MSMARCO
from tilefold.data import (
    FORMATS,
    Collection,
    TrainingSet,
    detect,
    read,
    read_collection,
    read_training,
)
from tilefold.data.json_reader import json_array


@pytest.fixture
def source(tmp_path: Path) -> Callable[[Any], Path]:
    """Makes a file with a name that says nothing, or a folder."""

    def make(content: Any) -> Path:
        if content in (BEIR, MSMARCO):
            for name, text in content.items():
                path = tmp_path / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            return tmp_path
        path = tmp_path / "file"
        path.write_text(content if isinstance(content, str) else json.dumps(content) + "\n")
        return path

    return make


def test_every_format_has_an_example_here():
    assert set(FORMATS) == {*EXAMPLES, "msmarco-ids", "tevatron-ids"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_format_is_told_from_the_others_and_read(name: str, source):
    content, kind = EXAMPLES[name]
    path = source(content)
    assert detect(path) == name
    found = read(path)
    assert isinstance(found[0] if isinstance(found, list) else found, kind)


@pytest.mark.parametrize("name", ["dpr", "tevatron", "flagembedding", "columns", "nq-open", "arc"])
def test_a_json_array_is_the_same_format_as_lines(name: str, source):
    assert detect(source(f"\ufeff  [\n{json.dumps(EXAMPLES[name][0])}]")) == name


def test_triples_of_ids_are_told_by_the_collection_beside_them(source):
    path = source(MSMARCO) / "triples.tsv"
    path.write_text("7\t1\t2\n")
    assert detect(path) == "msmarco-ids"
    assert read(path, split="test").document_ids == ["1", "2"]
    (path.parent / "collection.tsv").unlink()
    assert detect(path) == "beir-qrels"


def test_what_looks_like_two_formats_is_read_as_it_is_asked_for(source):
    folder = source(BEIR)
    assert isinstance(read_collection(folder), Collection)
    assert isinstance(read_training(folder, split="test"), TrainingSet)
    pair = source({"question": "who?", "answer": "she"})
    assert (detect(pair), detect(pair, ("questions",))) == ("columns", "nq-open")


def test_options_go_to_the_reader(source):
    path = source(BEIR)
    assert read(path, split="test").query_ids == ["q"]
    with pytest.raises(FileNotFoundError, match="no split 'dev'"):
        read(path, split="dev")
    with pytest.raises(TypeError, match="split"):
        read(source("q Q0 1 1 0.5 tag\n"), split="dev")


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ({"foo": 1}, r"found JSON with the fields \['foo'\]"),
        ("id\ttext\n1\tone\n", r"found text whose first line is 'id\\ttext'"),
        ("1 2 3\n", r"found text whose first line is '1 2 3'"),
    ],
)
def test_an_unknown_format_is_an_error_with_what_was_seen_and_what_is_known(source, content, seen):
    with pytest.raises(ValueError, match=rf"file: {seen}, which is none of:") as error:
        read(source(content))
    for name in FORMATS:
        assert f"\n  {name}: " in str(error.value)


def test_an_unknown_folder_is_an_error_with_what_lies_in_it(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"found a folder with notes.txt, which is none of:"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "\n \n", "# a comment\n"])
def test_an_empty_file_is_an_error(source, content: str):
    with pytest.raises(ValueError, match="file: the file is empty"):
        read(source(content))


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


# ---- arrays --------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
ARRAYS = st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=5)


@given(ARRAYS, st.integers(1, 64), st.sampled_from([None, 0, 2]), st.booleans())
def test_an_array_read_in_pieces_is_what_json_reads(tmp_path, records, chunk, indent, ascii_only):
    text = json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    path = tmp_path / "array.json"
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tilefold.data.lines._CHUNK", chunk)
        found = list(json_array(path))
    assert [record.fields for record in found] == json.loads(path.read_text("utf-8"))
    if indent == 2:
        starts = [line for line, part in enumerate(text.split("\n"), 1) if part[:3] == "  {"]
        assert [record.place.line for record in found] == starts


@given(ARRAYS, st.integers(1, 64), st.data())
def test_an_array_that_is_cut_off_anywhere_is_an_error_with_a_line(tmp_path, records, chunk, data):
    text = json.dumps(records, indent=1)
    path = tmp_path / "array.json"
    path.write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tilefold.data.lines._CHUNK", chunk)
        with pytest.raises(ValueError, match=r"array.json:(\d+): ") as error:
            list(json_array(path))
    assert int(str(error.value).split(":")[1]) <= text.count("\n") + 1


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000])
@pytest.mark.parametrize("form", ['{{"query": {}}}\n', '[{{"query": {}}}]\n'])
def test_json_beyond_all_limits_is_an_error_with_its_line(source, form: str, value: str):
    with pytest.raises(ValueError, match=r"file:1: cannot decode JSON: "):
        read(source(form.format(value)))
