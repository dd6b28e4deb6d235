"""Judgments: which documents answer which queries. Files of BEIR and of TREC."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lines import BLANKS, Place, StrPath, columns_of, filled_lines
from .records import Record
from .written_numbers import parsed_number

IdArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

JUDGMENT_FIELDS = ("query-id", "corpus-id", "score")
# Names under which published files have these columns, with "_" for "-".
_COLUMNS = (
    {"query_id", "qid", "query", "queryid"},
    {"corpus_id", "document_id", "doc_id", "docid", "pid", "document"},
    {"score", "label", "relevance", "rel", "gain", "grade"},
)


class Qrels(NamedTuple):
    """Judgments of n queries: query i judged `ids[offsets[i]:offsets[i + 1]]` with these gains."""

    offsets: IdArray  # [n + 1]
    ids: IdArray  # [judgments] document numbers
    gains: FloatArray  # [judgments], below 1: not relevant

    @classmethod
    def pack(cls, judged: Sequence[Mapping[int, float]]) -> Qrels:
        """Packs {document number: gain} of every query.

        >>> Qrels.pack([{4: 1}, {}, {2: 3}]).offsets
        array([0, 1, 1, 2])
        """
        counts = [len(gains) for gains in judged]
        return cls(
            np.cumsum([0, *counts], dtype=np.int64),
            np.array([document for gains in judged for document in gains], np.int64),
            np.array([gain for gains in judged for gain in gains.values()], np.float64),
        )


class Judgment(NamedTuple):
    """One line of a file."""

    place: Place
    query: str
    document: str
    gain: int


@dataclass(frozen=True)
class Judgments:
    """Judgments without a collection; documents are numbered as they appear."""

    query_ids: list[str]
    document_ids: list[str]
    qrels: Qrels


def is_header(cells: Sequence[str]) -> bool:
    """Returns whether the cells are the names of the three columns of BEIR.

    >>> is_header(["query-id", "corpus-id", "score"]), is_header(["q1", "d1", "+1"])
    (True, False)
    """
    return len(cells) == 3 and all(
        cell.strip(BLANKS).lower().replace("-", "_") in names
        for cell, names in zip(cells, _COLUMNS, strict=True)
    )


def beir_judgments(path: StrPath) -> Iterator[Judgment]:
    """Parses lines `query-id<tab>corpus-id<tab>score`; the header is optional."""
    first = True
    for place, text in filled_lines(path):
        fields = text.split("\t")
        if len(fields) != 3:
            place.fail(f"expected query-id, corpus-id and score between tabs, got {text!r}")
        if not (first and is_header(fields)):
            query, document, gain = fields
            if not (query and document):
                place.fail(f"an id is empty: {text!r}")
            yield Judgment(place, query, document, integral(place, gain, "score"))
        first = False


def record_judgments(records: Iterable[Record]) -> Iterator[Judgment]:
    """Parses records with query-id, corpus-id and score, as MTEB publishes them."""
    for record in records:
        record.only(JUDGMENT_FIELDS)
        query, document = (record.identifier(name) for name in JUDGMENT_FIELDS[:2])
        yield Judgment(record.place, query, document, record.integer("score"))


def trec_judgments(path: StrPath) -> Iterator[Judgment]:
    """Parses lines `query iteration document gain`; those that begin with # are comments."""
    for place, text in filled_lines(path):
        if text.startswith("#"):
            continue
        fields = columns_of(text)
        if len(fields) != 4:
            place.fail(f"expected query, iteration, document and gain, got {text!r}")
        query, _, document, gain = fields
        yield Judgment(place, query, document, integral(place, gain, "gain"))


def by_query(
    path: StrPath, judgments: Iterator[Judgment], queries: Container[str] | None, where: str
) -> dict[str, dict[str, int]]:
    """Groups judgments as {query: {document: gain}}.

    Raises:
        ValueError: a document judged twice for a query, a query that is not one of `queries`
            (those of the file `where`), or no judgment at all.
    """
    judged: dict[str, dict[str, int]] = {}
    for place, query, document, gain in judgments:
        if queries is not None and query not in queries:
            place.fail(f"query {query!r} is not in {where}")
        if document in judged.setdefault(query, {}):
            place.fail(f"document {document!r} is judged twice for query {query!r}")
        judged[query][document] = gain
    if not judged:
        raise ValueError(f"{path}: no judgments")
    return judged


def integral(place: Place, text: str, name: str) -> int:
    """Parses an integer, which may be written as "+1" or "1.0".

    Raises:
        ValueError: any other text or number: with file and line.
    """
    if text.isascii() and text.isdecimal():
        return int(text)
    number = parsed_number(text)
    if number is None or not number.is_integer():  # NaN and infinity are no integers
        place.fail(f"the {name} must be an integer, got {text!r}")
    return int(number)
