"""Answers several requests by one call of the encoder and one of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Integers, Lists
from ..retrieval.running_search import SearchResult
from .served_index import ServedIndex, Vectors

Answer = TypeVar("Answer")
_NO_LIMIT = -np.inf


@dataclass(frozen=True, eq=False)
class SearchWork:
    """A request that was checked.

    Attributes:
        served: the index that it was checked for, which answers it.
        k: results per query.
        texts: queries, where vectors are to be encoded.
        vectors: float32 ``[n, dim]``; None where there are texts.
        exclude: ids that a query may not retrieve, one list per query; None for none.
        allowed: sorted ids that may be retrieved; None for all.
        min_score: of all results; None for any.
    """

    served: ServedIndex
    k: int
    texts: Sequence[str] = ()
    vectors: Vectors | None = None
    exclude: Sequence[Integers] | None = None
    allowed: Integers | None = None
    min_score: float | None = None

    @property
    def n_queries(self) -> int:
        """The number of queries."""
        return len(self.texts) if self.vectors is None else len(self.vectors)

    @property
    def call(self) -> tuple[int, bytes]:
        """Key of the works that one call of the kernel can answer."""
        return id(self.served), b"all" if self.allowed is None else self.allowed.tobytes()


def answer_batch(
    works: Sequence[SearchWork], num_threads: int | None = None
) -> list[SearchResult | Exception]:
    """Answers works, each with the bits of `FlatIndex.search` for its vectors alone.

    Works of one index and one filter are one call of the kernel, with the largest k among them: the
    first results of a search do not depend on k. An error is that of its own work, as works are
    answered one by one where a call fails.

    Args:
        works: of any indexes.
        num_threads: of the kernel.

    Returns:
        Scores and ids ``[n, k]`` of each work, k being at most the number of documents, or its
        error.
    """
    encoded = _each(works, _encode)
    found: list[SearchResult | Exception] = [ValueError("never answered")] * len(works)
    ready = [(i, work) for i, work in enumerate(encoded) if not isinstance(work, Exception)]
    for i, work in enumerate(encoded):
        if isinstance(work, Exception):
            found[i] = work
    ready.sort(key=lambda pair: pair[1].call)
    for _, group in groupby(ready, key=lambda pair: pair[1].call):
        places, members = zip(*group, strict=True)
        results = _each(members, partial(_search, num_threads=num_threads))
        for place, result in zip(places, results, strict=True):
            found[place] = result
    return found


def _each(
    works: Sequence[SearchWork], answer: Callable[[Sequence[SearchWork]], Sequence[Answer]]
) -> Sequence[Answer | Exception]:
    """Answers works together; one by one where that fails, so that an error stays with its own."""
    try:
        return answer(works)
    except Exception as error:
        if len(works) == 1:
            return [error]
        return [one for work in works for one in _each([work], answer)]


def _encode(works: Sequence[SearchWork]) -> list[SearchWork]:
    """Encodes the texts of works, those of one encoder in one call."""
    encoded = list(works)
    waiting = [i for i, work in enumerate(works) if work.vectors is None]
    waiting.sort(key=lambda i: id(works[i].served.encoder))
    for _, group in groupby(waiting, key=lambda i: id(works[i].served.encoder)):
        places = list(group)
        encoder = works[places[0]].served.encoder
        if encoder is None:
            raise ValueError("search: this index is served without a model")
        vectors = encoder.encode([text for i in places for text in works[i].texts])
        ends = np.cumsum([works[i].n_queries for i in places])
        for i, part in zip(places, np.split(vectors, ends[:-1]), strict=True):
            encoded[i] = replace(works[i], vectors=part)
    return encoded


def _search(works: Sequence[SearchWork], num_threads: int | None) -> list[SearchResult]:
    """Answers works of one index and one filter by one call of the kernel."""
    first = works[0]
    vectors = np.concatenate([work.vectors for work in works if work.vectors is not None])
    scores, ids = first.served.search(
        vectors,
        max(work.k for work in works),
        allowed=first.allowed,
        exclude=_exclusions(works),
        min_score=_limits(works),
        num_threads=num_threads,
    )
    ends = np.cumsum([work.n_queries for work in works])[:-1]
    parts = zip(works, np.split(scores, ends), np.split(ids, ends), strict=True)
    return [SearchResult(s[:, : work.k], i[:, : work.k]) for work, s, i in parts]


def _exclusions(works: Sequence[SearchWork]) -> Lists | None:
    if all(work.exclude is None for work in works):
        return None
    nothing = np.empty(0, np.int64)
    each = [work.exclude or [nothing] * work.n_queries for work in works]
    lists = [ids for part in each for ids in part]
    return Lists(np.cumsum([0, *map(len, lists)], dtype=np.int64), np.concatenate(lists))


def _limits(works: Sequence[SearchWork]) -> NDArray[np.float32] | None:
    if all(work.min_score is None for work in works):
        return None
    limits = [_NO_LIMIT if work.min_score is None else work.min_score for work in works]
    return np.repeat(np.array(limits, np.float32), [work.n_queries for work in works])
