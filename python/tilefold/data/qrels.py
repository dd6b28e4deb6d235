"""Judgments: which documents answer which queries. Files of BEIR and of TREC."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lines import Place, StrPath, filled_lines

IdArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


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


def beir_judgments(path: StrPath) -> Iterator[Judgment]:
    """Parses lines `query-id<tab>corpus-id<tab>score`; the header is optional."""
    for place, text in filled_lines(path):
        fields = text.split("\t")
        if len(fields) != 3:
            place.fail(f"expected query-id, corpus-id and score between tabs, got {text!r}")
        query, document, gain = fields
        if place.line == 1 and not is_integer(gain):
            continue
        if not is_integer(gain):
            place.fail(f"the score must be an integer, got {gain!r}")
        yield Judgment(place, query, document, int(gain))


def trec_judgments(path: StrPath) -> Iterator[Judgment]:
    """Parses lines `query iteration document gain`; those that begin with # are comments."""
    for place, text in filled_lines(path):
        if text.startswith("#"):
            continue
        fields = text.split()
        if len(fields) != 4:
            place.fail(f"expected query, iteration, document and gain, got {text!r}")
        query, _, document, gain = fields
        if not is_integer(gain):
            place.fail(f"the gain must be an integer, got {gain!r}")
        yield Judgment(place, query, document, int(gain))


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


def is_integer(text: str) -> bool:
    """Returns whether the text is an integer in digits."""
    return text.removeprefix("-").isdecimal()
