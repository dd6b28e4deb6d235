"""Reads the documents and the queries of a collection, each file once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .documents import Documents
from .lines import Place, filled_lines
from .records import json_lines

_BEIR_CORPUS = ("_id", "title", "text", "metadata")
_BEIR_QUERIES = ("_id", "text", "metadata")


class _Text(NamedTuple):
    """A document or a query."""

    place: Place
    name: str
    text: str
    title: str = ""


def read_corpus(layout: str, path: Path) -> Documents:
    """Reads the documents of a layout."""
    found = _tsv_texts(path, titled=True) if layout == "msmarco" else _json_documents(path)
    names, texts, titles = _distinct(path, found)
    return Documents(names, texts, titles)


def read_queries(layout: str, path: Path) -> dict[str, str]:
    """Reads the queries of a layout, as {id: text}."""
    found = _tsv_texts(path, titled=False) if layout == "msmarco" else _json_queries(path)
    names, texts, _ = _distinct(path, found)
    return dict(zip(names, texts, strict=True))


def _distinct(path: Path, found: Iterator[_Text]) -> tuple[list[str], list[str], list[str]]:
    """Returns ids, texts and titles in the order of the file; fails on an id that repeats."""
    names: dict[str, None] = {}
    texts: list[str] = []
    titles: list[str] = []
    numbers = array("q")  # of lines
    for place, name, text, title in found:
        if name in names:
            first = numbers[list(names).index(name)]
            what = "'_id'" if path.name.removesuffix(".gz").endswith(".jsonl") else "the id"
            place.fail(f"{what} {name!r} is already that of line {first}")
        names[name] = None
        texts.append(text)
        # Passages of one article follow one another: they share one string.
        titles.append(titles[-1] if titles and titles[-1] == title else title)
        numbers.append(place.line)
    if not names:
        raise ValueError(f"{path}: the file is empty")
    return list(names), texts, titles


def _json_documents(path: Path) -> Iterator[_Text]:
    for record in json_lines(path):
        record.only(_BEIR_CORPUS)
        text, title = record.string("text"), record.optional("title")
        yield _Text(record.place, record.identifier("_id"), text, title)


def _json_queries(path: Path) -> Iterator[_Text]:
    for record in json_lines(path):
        record.only(_BEIR_QUERIES)
        text = record.string("text")
        yield _Text(record.place, record.identifier("_id"), text)


def _tsv_texts(path: Path, *, titled: bool) -> Iterator[_Text]:
    """Parses lines of id and text between tabs; of id, title and text where titles may occur."""
    for place, line in filled_lines(path):
        name, *texts = line.split("\t")
        if not name.strip() or len(texts) not in ((1, 2) if titled else (1,)):
            place.fail(f"expected an id, a tab and a text, got {line[:60]!r}")
        yield _Text(place, name, texts[-1], texts[0] if len(texts) == 2 else "")
