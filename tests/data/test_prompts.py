"""Templates: what one read of a passage can be made into, and what is refused."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.data import (
    TEXT_FORMAT,
    TITLE_FORMAT,
    TITLE_TEXT_FORMAT,
    document_texts,
    format_columns,
    query_texts,
    read_documents,
)


@pytest.fixture
def passage(tmp_path):
    path = tmp_path / "collection.tsv"
    path.write_text("7\tRome\tA city.\n8\t\tUntitled.\n")
    return read_documents(path)


def test_one_read_of_a_passage_gives_every_form_of_aar(passage):
    columns = passage.texts, passage.titles
    assert document_texts(*columns, TITLE_TEXT_FORMAT) == ["Title: Rome Text: A city.", "Untitled."]
    assert document_texts(*columns, TEXT_FORMAT) == ["A city.", "Untitled."]
    # The source language model reads the start of a passage, without its title, then the question.
    prompt = query_texts(["where?"], ["Answer the following question."], "{prompt}\n{query}")
    assert format_columns(
        "{text}{prompt}", text=[text[:500] for text in passage.texts], prompt=prompt * 2
    ) == [
        "A city.Answer the following question.\nwhere?",
        "Untitled.Answer the following question.\nwhere?",
    ]
    assert (passage.texts, passage.titles) == (["A city.", "Untitled."], ["Rome", ""])


LISTS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)))


@given(LISTS, st.sampled_from([TITLE_FORMAT, "{title} [SEP] {text}", TITLE_TEXT_FORMAT, "{text}"]))
def test_titles_are_joined_row_by_row_as_readers_did(rows, template: str):
    titles, texts = [title for title, _ in rows], [text for _, text in rows]
    expected = [
        string.Template(template.replace("{", "${")).substitute(title=a, text=b).strip() if a else b
        for a, b in rows
    ]
    assert list(document_texts(texts, titles, template)) == expected


@given(LISTS)
def test_prompts_are_joined_like_titles(rows):
    prompts, queries = [prompt for prompt, _ in rows], [query for _, query in rows]
    assert query_texts(queries, prompts) == document_texts(queries, prompts)


def test_texts_without_titles_are_not_copied():
    texts = ["a", "b"]
    assert document_texts(texts) is texts
    assert document_texts(texts, ["", ""]) is texts
    assert query_texts(texts, ["", ""]) is texts


@pytest.mark.parametrize("template", ["{title}", "{text} {name}", "{text} {}", "{text"])
def test_a_template_without_the_text_or_with_anything_else_is_refused(template: str):
    with pytest.raises(
        ValueError, match="document_texts: title_format: .*" + template.replace("{", r"\{")
    ):
        document_texts(["x"], ["y"], template)
    with pytest.raises(ValueError, match=r"query_texts: query_format: expected a template of"):
        query_texts(["x"], ["y"], "{title} {query}")


@pytest.mark.parametrize(
    ("template", "columns", "complaint"),
    [
        ("{a} {c}", {"a": ["x"], "b": ["y"]}, r"with the fields \['a', 'b'\], got \['a', 'c'\]"),
        ("{a}", {"a": ["x"], "b": ["y"]}, r"the fields \['a', 'b'\], got \['a'\]"),
        ("{a} {b}", {"a": ["x"], "b": []}, "columns of equal length, got 1 a but 0 b"),
        ("{a", {"a": ["x"]}, "format_columns: template: cannot parse '{a'"),
    ],
)
def test_columns_that_do_not_fit_a_template_are_refused(template: str, columns, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        format_columns(template, **columns)


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"document_texts: .*, got 2 texts but 1 titles"):
        document_texts(["x", "y"], ["z"])
    with pytest.raises(ValueError, match=r"query_texts: .*, got 1 queries but 2 prompts"):
        query_texts(["x"], ["y", "z"])
