"""Runs of TREC: what a system found for each query.

Tools break ties in different ways; a run that is read is ordered as trec_eval orders it, and a run
that is written has no ties.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files.atomic import replacing_text
from .dpr_output import Result, retrieved
from .json_reader import starts_as_json
from .lines import BLANKS, Place, StrPath, columns_of, filled_lines
from .qrels import IdArray
from .text_columns import is_text


@dataclass(frozen=True)
class Run:
    """Ranked documents of each query, best first; documents are numbered as they appear."""

    query_ids: list[str]
    document_ids: list[str]
    offsets: IdArray  # [n + 1]
    ids: IdArray  # [results] of query i: ids[offsets[i]:offsets[i + 1]]
    scores: NDArray[np.float32]  # [results], falling
    tag: str  # that of the first line

    def ranking(
        self,
        query_ids: Sequence[str],
        document_ids: Sequence[str],
        k: int | None = None,
        *,
        remove_query: bool = False,
    ) -> IdArray:
        """Returns ids [n, k] for `evaluate`, numbered as in a collection or in judgments.

        Documents of the run that are not among `document_ids` get numbers beyond the last one: they
        are found, and count as not relevant. A query that the run lacks has -1 everywhere.

        Args:
            query_ids: the queries of the rows.
            document_ids: names of the documents 0, 1, ...; of a collection
                `[*collection.document_ids, *collection.absent]`.
            k: ranks to keep; None for as many as the longest list has.
            remove_query: leave out the document with the id of the query, as BEIR does (its
                `ignore_identical_ids`) and trec_eval does not.
        """
        number = {name: index for index, name in enumerate(document_ids)}
        numbers = np.array(
            [number.setdefault(name, len(number)) for name in self.document_ids], np.int64
        )
        rows = {name: row for row, name in enumerate(self.query_ids)}
        lengths = np.diff(self.offsets)
        depth = int(lengths.max(initial=0)) if k is None else k
        found = np.full((len(query_ids), depth), -1, np.int64)
        for row, name in enumerate(query_ids):
            if name in rows:
                start, stop = self.offsets[rows[name] : rows[name] + 2]
                best = numbers[self.ids[start:stop]]
                if remove_query:
                    best = best[best != number.get(name, -1)]
                best = best[:depth]
                found[row, : len(best)] = best
        return found


def read_run(path: StrPath) -> Run:
    """Reads lines `query Q0 document rank score tag`, ordered as trec_eval orders them.

    That is by score in fp32, descending, then by document, descending; the ranks of the file do not
    count. The tag is the rest of the line. Lines that begin with # are comments.

    JSON is read as the output of DPR's retriever, and of readers that take it, such as FiD's:
    questions with ctxs, which have id and score. Its lists keep their order, the tag is "dpr", and
    questions without an id are "0", "1", ... in the order of the file.

    Raises:
        ValueError: too few columns, a score that is no number, a document found twice for a query,
            a list of JSON whose scores rise, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "dense.trec"
    >>> _ = path.write_text("q1 Q0 d7 1 0.5 demo\\nq1 Q0 d9 2 0.75 demo\\n")
    >>> run = read_run(path)
    >>> run.document_ids, run.ids, run.scores
    (['d7', 'd9'], array([1, 0]), array([0.75, 0.5 ], dtype=float32))
    """
    as_json = starts_as_json(path)
    results = retrieved(path) if as_json else _trec_results(path)
    queries: dict[str, int] = {}
    documents: dict[str, int] = {}
    owners, ids, scores, numbers = array("q"), array("q"), array("f"), array("q")
    tag = ""
    for place, query, document, score, name in results:
        owners.append(queries.setdefault(query, len(queries)))
        ids.append(documents.setdefault(document, len(documents)))
        scores.append(score)
        numbers.append(place.line)
        tag = tag or name.strip(BLANKS)
    if not queries:
        raise ValueError(f"{path}: no results")
    found = _Found(
        list(queries),
        list(documents),
        np.array(owners, np.int64),
        np.array(ids, np.int64),
        np.array(numbers, np.int64),
        np.array(scores, np.float32),
    )
    _refuse_twice(path, found)
    order = np.arange(len(found.ids)) if as_json else _order(found)
    return Run(
        found.queries,
        found.documents,
        np.cumsum([0, *np.bincount(found.owners)], dtype=np.int64),
        found.ids[order],
        found.scores[order],
        tag,
    )


def _trec_results(path: StrPath) -> Iterator[Result]:
    for place, text in filled_lines(path):
        if text.startswith("#"):
            continue
        fields = columns_of(text, 6)
        if len(fields) < 6:
            place.fail(f"expected query, Q0, document, rank, score and tag, got {text!r}")
        query, _, document, _, score, tag = fields
        yield place, query, document, _score(place, score), tag


def _score(place: Place, text: str) -> float:
    try:
        score = math.nan if "_" in text else float(text)  # Python reads 1_000, other tools do not
    except ValueError:
        score = math.nan
    if score != score and text.lower().lstrip("+-") != "nan":
        place.fail(f"the score must be a number, got {text!r}")
    if score != score:
        place.fail("the score is NaN, which has no rank")
    return score


class _Found(NamedTuple):
    """A run in the order of its file."""

    queries: list[str]
    documents: list[str]
    owners: IdArray  # [results] the query of each
    ids: IdArray
    lines: IdArray
    scores: NDArray[np.float32]


def _order(found: _Found) -> IdArray:
    """Results by query, then score and name of the document, both descending."""
    names = found.documents
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=lambda at: names[at].encode())] = np.arange(len(names))
    order: IdArray = np.lexsort((-places[found.ids], -found.scores, found.owners))
    return order


def _refuse_twice(path: StrPath, found: _Found) -> None:
    keys = found.owners * len(found.documents) + found.ids
    order = np.argsort(keys, kind="stable")
    twice = order[1:][keys[order][1:] == keys[order][:-1]]
    if len(twice):
        at = int(twice.min())
        query, document = found.queries[found.owners[at]], found.documents[found.ids[at]]
        place = Place(path, int(found.lines[at]))
        place.fail(f"document {document!r} is found twice for query {query!r}")


def check_run_names(
    query_ids: Sequence[str], document_ids: Sequence[str], tag: str = "tilefold"
) -> None:
    """Checks that names can stand in a run and are read back, before there are results to write.

    Raises:
        ValueError: a name that is empty, has white space of any kind (tools split at different
            ones), is no Unicode text, or occurs twice; one that begins with a byte order mark, or,
            of a query, with "#", where a line is read as a comment.
    """
    for name in (*query_ids, *document_ids, tag):
        if name.split() != [name]:
            raise ValueError(
                f"write_run: {name!r} cannot stand in a run: empty or with white space"
            )
        if not name.isascii() and (name.startswith("\ufeff") or not is_text(name)):
            raise ValueError(
                f"write_run: {name!r} cannot stand in a run: a byte order mark or half a surrogate "
                "pair would not be read back"
            )
    comment = next((name for name in query_ids if name.startswith("#")), None)
    if comment is not None:
        raise ValueError(f"write_run: query {comment!r} begins with '#', as a comment does")
    for kind, names in (("query", query_ids), ("document", document_ids)):
        if len(set(names)) < len(names):
            name = next(name for name, times in Counter(names).items() if times > 1)
            raise ValueError(f"write_run: {kind} id {name!r} is given twice")


def write_run(
    path: StrPath,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    scores: Any,
    ids: Any,
    *,
    tag: str = "tilefold",
) -> None:
    """Writes a TREC run that every tool ranks alike: scores fall strictly, in fp32 and as text.

    Tools break ties in different ways, so a score that does not lie below the one before it is
    lowered to the next fp32 number. The file appears whole or not at all, and `read_run` reads it
    back in the same order.

    Args:
        path: file to write; an existing one is replaced.
        query_ids, document_ids: names of queries and of documents, as `check_run_names` has them.
        scores: [n, k] float32, best first.
        ids: [n, k] document numbers, -1 after the last result of a query.
        tag: last column of the file.

    Raises:
        ValueError: names that cannot stand in a run; scores or ids of another shape, a number that
            is no document's or twice in a row, a result after padding, a score that is NaN or
            cannot be lowered; no result at all.
    """
    check_run_names(query_ids, document_ids, tag)
    numbers = np.asarray(ids)
    given = np.array(scores, np.float32)
    _check_results(given, numbers, len(query_ids), len(document_ids))
    falling = _strictly_falling(given)
    if (np.isneginf(falling) & (numbers >= 0)).any():
        raise ValueError("write_run: a score is -inf, or cannot be lowered below the one before it")
    with replacing_text(path) as file:
        for query, row, found in zip(query_ids, falling, numbers, strict=True):
            for rank, (score, document) in enumerate(zip(row, found, strict=True), 1):
                if document >= 0:
                    name = document_ids[document]
                    file.write(f"{query} Q0 {name} {rank} {score:.9g} {tag}\n")


def _check_results(scores: NDArray[np.float32], ids: NDArray[Any], n: int, m: int) -> None:
    if ids.ndim != 2 or ids.shape != scores.shape or len(ids) != n or ids.dtype.kind not in "iu":
        raise ValueError(
            f"write_run: expected scores and integer ids [{n}, k], one row for each query, got "
            f"{list(scores.shape)} and {ids.dtype} {list(ids.shape)}"
        )
    listed = ids >= 0
    if not listed.any():
        raise ValueError("write_run: no query has a result, and an empty file is no run")
    if int(ids.max()) >= m:
        raise ValueError(
            f"write_run: ids must be below {m}, the number of documents, got {ids.max()}"
        )
    if (listed[:, 1:] & ~listed[:, :-1]).any():
        raise ValueError("write_run: ids have a result after -1, which ends the results of a query")
    ranked = np.sort(ids, axis=1)
    twice = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)
    if twice.any():
        row = int(twice.any(axis=1).argmax())
        raise ValueError(
            f"write_run: row {row} has document {ranked[row, 1:][twice[row]][0]} twice"
        )
    if (np.isnan(scores) & listed).any():
        raise ValueError("write_run: a score is NaN, which has no rank")


def _strictly_falling(scores: Any) -> NDArray[np.float32]:
    falling = np.array(scores, np.float32)
    for rank in range(1, falling.shape[1]):
        below = np.nextafter(falling[:, rank - 1], np.float32(-np.inf))
        np.minimum(falling[:, rank], below, out=falling[:, rank])
    return falling
