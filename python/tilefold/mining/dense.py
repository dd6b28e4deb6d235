"""mine(): mines hard negatives by the vectors of queries and documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, check_dim
from ..integers import as_integer
from ..placement import placement_of
from ..progress import Progress
from ..ragged_lists import Lists, ListsLike, united
from ..retrieval.flat_index import FlatIndex
from ..retrieval.resident_segments import ResidentSegments
from .document_pool import DocumentPool, on_host
from .mined import Mined, joined, listed, part
from .miner import Batch, Miner
from .mining_inputs import (
    Ranks,
    ScoreWindow,
    as_lists,
    as_positives,
    check_finite,
    checked_batch_size,
)
from .shuffle import Shuffle


def mine(
    queries: Array,
    documents: Array | FlatIndex,
    positives: ListsLike,
    *,
    n_negatives: int = 1,
    range_min: int = 0,
    range_max: int | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    sampling: Literal["top", "random"] = "top",
    seed: int = 0,
    groups: Array | None = None,
    exclude: ListsLike | None = None,
    batch_size: int = 4096,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Mined:
    """Finds documents that score high for a query and are none of its positives.

    Equals ranking all documents by inner product for every query, as `tilefold.search` does, and
    taking what passes every option, without forming the score matrix or ranking more than is
    needed. Positives and the score window are left out inside the search, so it goes on until
    `n_negatives` are found, however many documents are too close to the positive.

    A negative must pass all of these:

    - it is no positive of the query and not in its `exclude`, nor of the group of one that is;
    - its rank among the documents that pass the first test is `range_min` or more, from 0, and
      below `range_max`. Scores play no part in this: a document above `max_score` has a rank;
    - its score is at least `min_score` and at most each of `max_score`, ``p - absolute_margin`` and
      ``p - |p| relative_margin``, where p is the score of the query's positive: of several, the
      lowest. For p > 0 a relative margin of 0.05 is the TopK-PercPos 95 % of NV-Retriever; for
      p < 0, too, it keeps negatives below the positive.

    The options are those of `sentence_transformers.util.mine_hard_negatives`. What differs: that
    function counts `range_min` among the documents within the score window; looks no deeper than
    some ten times `n_negatives` if `range_max` is not given, and up to the number of positives
    deeper than `range_max` if it is; and draws "random" from that.

    If queries, documents or the index are on a GPU, searches run there, but for those deeper than
    rank 4,096; everything else, and the result, is on the host.

    Args:
        queries: ``[n, dim]``, of the kinds and dtypes that `tilefold.search` takes.
        documents: ``[m, dim]``, or a `FlatIndex` whose ids are rows, 0 to m - 1.
        positives: for each query a list of rows of documents, at least one; or `Lists`.
        n_negatives: how many to find for each query; fewer where fewer pass.
        range_min: ranks below this are passed over.
        range_max: ranks from this on are not looked at; all are by default.
        min_score: lowest score of a negative.
        max_score: highest score of a negative.
        absolute_margin: minimum difference to the score of the positive, 0 or more.
        relative_margin: the same as a share of the positive's score.
        sampling: "top" takes the hardest that pass; "random" draws from all that pass, each as
            likely as the others, without replacement. Without `range_max` or `min_score` most of
            those are easy.
        seed: of the draw, 0 to 2^64 - 1. What a query draws depends on the seed, the query's row
            and the documents alone.
        groups: ``[m]`` integers, equal for documents that are the same, such as
            ``np.unique(texts, return_inverse=True)[1]``: the first of them stands for all, and is
            no negative of a query that has another as its positive.
        exclude: rows of documents, in the same form, that are no negatives beside the positives:
            those of `tilefold.data.own_documents` are the query itself.
        batch_size: queries at a time: memory beyond the result is bounded by `batch_size` times the
            deepest rank that is looked at. The result does not depend on it.
        num_threads: by default `get_num_threads()`. The result does not depend on it.
        progress: called as ``progress(queries_done, queries)``.

    Returns:
        `Mined`: negatives as `Lists`, the hardest of each query first, ties by row; their scores,
        those of the positives, and counts of rejected documents.

    Raises:
        TypeError: no arrays, numbers or lists, or of the wrong dtype.
        ValueError: shapes that do not fit, non-finite vectors, a query without positives, rows that
            are no documents, options out of range, or that cannot be met together.

    Source: Moreira et al., "NV-Retriever: Improving text embedding models with effective
    hard-negative mining", 2024, section 3, for the margins.

    Example:
        >>> import numpy as np
        >>> documents = np.float32([[1, 0], [0.9, 0.1], [0.6, 0.4], [0, 1]])
        >>> mined = mine(documents[:1], documents, [[0]], n_negatives=2, relative_margin=0.2)
        >>> mined.negatives.indices, mined.scores
        (array([2, 3]), array([0.6, 0. ], dtype=float32))
    """
    ranks = Ranks("mine", n_negatives, range_min, range_max)
    window = ScoreWindow("mine", min_score, max_score, absolute_margin, relative_margin)
    step = checked_batch_size(batch_size, "mine")
    rows = _checked_queries(queries)
    n = len(rows)
    corpus = DocumentPool("mine", documents, groups, num_threads, _residents(queries, documents))
    check_dim("mine", "queries", rows.shape[1], "documents have", corpus.dim)
    own = as_positives(positives, "mine", n, corpus.size)
    left_out = _left_out(corpus, own, exclude, n)
    positive_scores = corpus.scores(rows, own.owners(), own.indices)
    ceilings = window.ceilings(_lowest(positive_scores, own) if window.margins else np.zeros(n))
    miner = Miner(corpus, ranks, _shuffle(sampling, seed, corpus.size))
    lists, scores = [], []
    for batch in _batches(rows, left_out, window.min_score, ceilings, step):
        begin, end = int(batch.numbers[0]), int(batch.numbers[-1]) + 1
        negatives = miner.mine(batch, _counting(progress, begin, end, n))
        lists.append(listed(negatives.ids))
        scores.append(negatives.scores[negatives.ids >= 0])
        if progress is not None:
            progress(end, n)
    return Mined(
        joined(lists),
        np.concatenate([np.empty(0, np.float32), *scores]),
        ranks.n_negatives,
        positive_scores,
        miner.removed,
    )


def _checked_queries(queries: Array) -> Vectors:
    """Checks all queries before the first batch is searched."""
    rows = on_host(queries, "mine", "queries")
    check_finite(rows, "mine", "queries")
    return rows


def _residents(queries: Array, documents: Array | FlatIndex) -> ResidentSegments | None:
    """Returns the segments on the device of queries or documents; None if both are on the host."""
    indexed = documents.residents if isinstance(documents, FlatIndex) else None
    own = placement_of(documents) if indexed is None else indexed.placement
    found = [placement for placement in (placement_of(queries), own) if placement is not None]
    if len({placement.device for placement in found}) > 1:
        raise ValueError(
            f"mine: queries are on {found[0].device} and documents on {found[1].device}; move one "
            "to the device of the other"
        )
    if indexed is not None or not found:
        return indexed
    return ResidentSegments(found[0])


def _left_out(corpus: DocumentPool, positives: Lists, exclude: ListsLike | None, n: int) -> Lists:
    """Returns documents that are no negatives of a query, whatever their scores and ranks."""
    others = Lists(np.zeros(n + 1, np.int64), np.empty(0, np.int64))
    if exclude is not None:
        others = as_lists(exclude, "mine", "exclude", n, corpus.size)
    return united(corpus.standing_for(positives), corpus.standing_for(others), corpus.size)


def _batches(
    queries: Vectors,
    left_out: Lists,
    floor: float | None,
    ceilings: dict[str, NDArray[np.float32]],
    step: int,
) -> Iterator[Batch]:
    for begin in range(0, len(queries), step):
        numbers = np.arange(begin, min(len(queries), begin + step))
        some = slice(begin, begin + step)
        yield Batch(
            numbers,
            queries[some],
            part(left_out, begin, begin + len(numbers)),
            None if floor is None else np.full(len(numbers), floor, np.float32),
            {name: limits[some] for name, limits in ceilings.items()},
        )


def _lowest(scores: NDArray[np.float32], positives: Lists) -> NDArray[np.float64]:
    """Returns ``[n]``, the lowest score of each query's positives."""
    if not len(scores):
        return np.empty(0)
    lowest = np.minimum.reduceat(scores, positives.offsets[:-1])
    if not np.isfinite(lowest).all():
        query = int(np.argmin(np.isfinite(lowest)))
        raise ValueError(
            f"mine: a positive of query {query} scores {lowest[query]}, and margins need finite "
            "scores"
        )
    return lowest.astype(np.float64)


def _shuffle(sampling: str, seed: int, m: int) -> Shuffle | None:
    if sampling not in ("top", "random"):
        raise ValueError(f'mine: sampling must be "top" or "random", got {sampling!r}')
    number = as_integer(seed, "mine", "seed")
    if not 0 <= number < 2**64:
        raise ValueError(f"mine: seed must be 0 to 2^64 - 1, got {number}")
    return None if sampling == "top" else Shuffle(number, m)


def _counting(progress: Progress | None, begin: int, end: int, n: int) -> Progress | None:
    """Converts progress in documents of a batch to progress in queries."""
    if progress is None:
        return None
    return lambda done, total: progress(begin + (end - begin) * done // max(total, 1), n)
