"""Dense, lexical and fused rankings of one collection side by side: what `eval` and `demo` show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, Qrels, document_texts, query_texts
from ...evaluate import Interval, bootstrap
from ...retrieval.bm25 import Bm25
from ...retrieval.fusion import fuse
from ...retrieval.running_search import SearchResult
from ..terminal import count, fact, table

if TYPE_CHECKING:
    from ...models import BiEncoder

MEASURES = ("nDCG@10", "R@100", "RR@10")


class Embedded(NamedTuple):
    """Vectors of a collection."""

    documents: NDArray[np.float32]  # [n_documents, dim]
    queries: NDArray[np.float32]  # [n_queries, dim]


def describe(collection: Collection) -> None:
    """Writes what is in the collection, and what is odd about its judgments."""
    qrels = collection.qrels
    n_queries, n_relevant = len(collection.queries), int(np.count_nonzero(qrels.gains > 0))
    fact("documents", f"{len(collection.documents):,}")
    fact("queries", f"{n_queries:,} with {count(n_relevant, 'relevant document')}")
    without = n_queries - len(_answered(qrels))
    if without:
        fact("", f"{without:,} of them with none, which scores 0")
    if collection.absent:
        absent = count(len(collection.absent), "judged document")
        fact("", f"{absent} not in the corpus, which counts as missed")


def embed(collection: Collection, model: BiEncoder, *, batch_size: int = 32) -> Embedded:
    """Encodes a collection, with progress bars, and writes how long it took."""
    started = time.perf_counter()
    documents = model.encode_documents(
        collection.documents, collection.titles, batch_size=batch_size
    )
    between = time.perf_counter()
    queries = model.encode_queries(collection.queries, collection.prompts, batch_size=batch_size)
    ended = time.perf_counter()
    fact("encoded", f"documents in {between - started:.0f} s, queries in {ended - between:.0f} s")
    return Embedded(documents, queries)


def lexical(collection: Collection, dense: SearchResult, k: int) -> dict[str, SearchResult]:
    """BM25, and its fusion with the dense ranking; without bm25s nothing, and a line that says so.

    BM25 counts the words of titles like those of texts, whatever the dense model makes of titles.

    Args:
        collection: documents and queries.
        dense: the dense ranking.
        k: results per query.
    """
    try:
        words = Bm25(document_texts(collection.documents, collection.titles))
    except ImportError as error:
        fact("BM25", f"left out: {error}")
        return {}
    result = words.search(query_texts(collection.queries, collection.prompts), k)
    return {"BM25": result, "dense + BM25": fuse([dense.ids, result.ids], k)}


def show_quality(values: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Writes a row for each ranking: every measure's mean and its 95% bootstrap interval.

    Args:
        values: of each ranking, those of queries under each measure.
    """
    rows = list(values.values())
    columns = {name: [_cell(bootstrap(row[name])) for row in rows] for name in rows[0]}
    table(list(values), columns)


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _answered(qrels: Qrels) -> NDArray[Any]:
    """Numbers of the queries that have a relevant document."""
    rows = np.repeat(np.arange(len(qrels.offsets) - 1), np.diff(qrels.offsets))
    return np.unique(rows[qrels.gains > 0])
