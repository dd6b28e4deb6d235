"""Compares dense, lexical and fused rankings of one collection, for `eval` and `demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, Qrels, document_texts, query_texts, without_own
from ...evaluate import Interval, bootstrap
from ...progress import show_progress
from ...ragged_lists import Lists
from ...retrieval.bm25 import Bm25
from ...retrieval.fusion import fuse
from ...retrieval.running_search import SearchResult
from ..shown_warnings import warnings_as_facts
from ..terminal import count, fact, table

if TYPE_CHECKING:
    from ...models import BiEncoder

MEASURES = ("nDCG@10", "R@100", "RR@10")


class Embedded(NamedTuple):
    """Vectors of a collection."""

    documents: NDArray[np.float32]  # [n_documents, dim]
    queries: NDArray[np.float32]  # [n_queries, dim]


def check_judged(collection: Collection) -> None:
    """Checks that the corpus has a judged document, without which every measure is 0.

    Raises:
        ValueError: it has none; shows an id of the judgments and one of the corpus.
    """
    judged = collection.qrels.ids
    if len(judged) and judged.min() >= len(collection.document_ids):
        absent = count(len(collection.absent), "judged document")
        raise ValueError(
            f"the corpus has none of the {absent}: an id of the judgments is "
            f"{collection.absent[0]!r}, and one of the corpus {collection.document_ids[0]!r}"
        )


def describe(collection: Collection) -> None:
    """Prints the size of a collection, queries without relevant documents, and absent documents."""
    qrels = collection.qrels
    n_queries, n_relevant = len(collection.queries), int(np.count_nonzero(qrels.gains > 0))
    fact("documents", f"{len(collection.documents):,}")
    fact("queries", f"{n_queries:,} with {count(n_relevant, 'relevant document')}")
    without = n_queries - _count_answered(qrels)
    if without:
        fact("", f"{without:,} of them with none, which scores 0")
    if collection.absent:
        absent = count(len(collection.absent), "judged document")
        fact("", f"{absent} not in the corpus, which counts as missed")


def embed(collection: Collection, model: BiEncoder, *, batch_size: int = 32) -> Embedded:
    """Encodes documents and queries, shows progress, and prints the time that it took.

    Args:
        collection: documents and queries.
        model: encodes both.
        batch_size: texts in a batch.
    """
    started = time.perf_counter()
    documents = model.encode_documents(
        collection.documents, collection.titles, batch_size=batch_size
    )
    between = time.perf_counter()
    queries = model.encode_queries(collection.queries, collection.prompts, batch_size=batch_size)
    ended = time.perf_counter()
    fact("encoded", f"documents in {between - started:.0f} s, queries in {ended - between:.0f} s")
    return Embedded(documents, queries)


def lexical(
    collection: Collection, dense: SearchResult, k: int, own: Lists
) -> dict[str, SearchResult]:
    """Ranks by BM25, and fuses that ranking with the dense one.

    BM25 counts the words of titles like those of texts, whatever the dense model makes of titles.

    Args:
        collection: documents and queries.
        dense: the dense ranking, `[n_queries, k]`.
        k: results per query.
        own: documents that a query may not retrieve, as they are the query itself.

    Returns:
        The rankings by name; an empty dictionary without bm25s, after a line that names the extra.
    """
    try:
        with show_progress("index words"):
            words = Bm25(document_texts(collection.documents, collection.titles))
    except ImportError as error:
        fact("BM25", f"left out: {error}")
        return {}
    progress = show_progress("search words", len(collection.queries))
    with warnings_as_facts("BM25"), progress as display:
        texts = query_texts(collection.queries, collection.prompts)
        # As many more as are removed afterwards, so that k remain.
        depth = k + int(np.diff(own.offsets).max(initial=0))
        result = without_own(words.search(texts, depth, progress=display), own, k)
    return {"BM25": result, "dense + BM25": fuse([dense.ids, result.ids], k)}


def show_quality(values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Prints the mean of each measure and its 95% bootstrap interval, one row per ranking.

    Args:
        values: for each ranking and measure, the values of the queries.
    """
    rows = list(values.values())
    columns = {name: [_format_interval(bootstrap(row[name])) for row in rows] for name in rows[0]}
    table(list(values), columns)


def _format_interval(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _count_answered(qrels: Qrels) -> int:
    """Returns the number of queries that have a relevant document."""
    rows = np.repeat(np.arange(len(qrels.offsets) - 1), np.diff(qrels.offsets))
    return len(np.unique(rows[qrels.gains > 0]))
