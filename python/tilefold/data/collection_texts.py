"""Reads the documents and the queries of a collection, each file once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from .documents import Documents
from .lines import BLANKS, Place, lines
from .tables import named_records, records_under, rows_after
from .text_records import Text, document_texts_of, is_header, query_texts_of

_ADDRESSES = ("http://", "https://")


def read_corpus(layout: str, path: Path) -> Documents:
    """Reads the documents of a layout."""
    if layout == "msmarco":
        found = _tsv_texts(path, titled=True)
    else:
        found = document_texts_of(named_records(path))
    names, texts, titles = _distinct(path, found)
    return Documents(names, texts, titles)


def read_queries(layout: str, path: Path) -> dict[str, str]:
    """Reads the queries of a layout, as {id: text}."""
    if layout == "msmarco":
        found = _tsv_texts(path, titled=False)
    else:
        found = query_texts_of(named_records(path))
    names, texts, _ = _distinct(path, found)
    return dict(zip(names, texts, strict=True))


def _distinct(path: Path, found: Iterator[Text]) -> tuple[list[str], list[str], list[str]]:
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


def _tsv_texts(path: Path, *, titled: bool) -> Iterator[Text]:
    """Parses a table with a header, or the plain lines of MS MARCO.

    Under a header, columns are those that it names, and quotes are those of csv, as in the passages
    of DPR: id, text, title. Without one they are id and text, or of documents id, title and text,
    or id, address, title and text as in MS MARCO's documents, and nothing is quoted.
    """
    found = lines(path)
    first = next(((place, text) for place, text in found if text.strip(BLANKS)), None)
    if first is None:
        return
    place, text = first
    header = [cell.strip('"') for cell in text.rstrip("\r\n").lower().split("\t")]
    if not is_header(header, titled=titled):
        yield from _plain_texts(chain([first], found), titled=titled)
        return
    table = rows_after(path, place.line, (text for _, text in found), "\t")
    read = document_texts_of if titled else query_texts_of
    yield from read(records_under(place, header, table))


def _plain_texts(found: Iterable[tuple[Place, str]], *, titled: bool) -> Iterator[Text]:
    for place, text in found:
        if not text.strip(BLANKS):
            continue
        name, *texts = text.rstrip("\r\n").split("\t")
        if len(texts) == 3 and titled and texts[0].startswith(_ADDRESSES):
            del texts[0]  # documents of MS MARCO: id, address, title, body
        if not name.strip(BLANKS) or len(texts) not in ((1, 2) if titled else (1,)):
            place.fail(f"expected an id, a tab and a text, got {text.rstrip()[:60]!r}")
        yield Text(place, name, texts[-1], texts[0] if len(texts) == 2 else "")
