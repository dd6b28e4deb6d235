"""The interface of estimators of confidence, and the labelled queries that some learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Lists, checked
from .encoded_corpus import EncodedCorpus


@runtime_checkable
class ConfidenceEstimator(Protocol):
    """Estimates how certain it is that the first document of a ranking is relevant."""

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Returns a number for each query, ``[n]``, larger where it is more certain."""
        ...


@runtime_checkable
class LabelledEstimator(ConfidenceEstimator, Protocol):
    """An estimator that learns from queries whose relevant documents are known."""

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Learns from labelled queries, and returns the estimator itself."""
        ...


def checked_labels(
    op: str, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists
) -> Lists:
    """Checks the relevant documents of labelled queries.

    Args:
        op: the public function, for messages.
        corpus: the documents.
        queries: n texts, at least one.
        relevant: documents of each query; an empty list where no document is relevant.

    Returns:
        The lists, with rising documents in each.

    Raises:
        ValueError: no query, not one list for each, or a list that names what is no document.
    """
    lists = Lists(*(np.asarray(part, np.int64) for part in relevant))
    if not len(queries) or len(lists.offsets) != len(queries) + 1:
        raise ValueError(
            f"{op}: expected 1 query or more and a list of relevant documents for each, got "
            f"{len(queries)} queries and {len(lists.offsets) - 1} lists"
        )
    return checked(lists, op, "relevant", len(corpus))


def with_relevant(op: str, queries: Sequence[str], relevant: Lists) -> tuple[list[str], Lists]:
    """Selects the queries that have a relevant document, with their lists.

    Raises:
        ValueError: no query has one.
    """
    sizes = np.diff(relevant.offsets)
    if not sizes.any():
        raise ValueError(f"{op}: none of the {len(queries)} queries has a relevant document")
    kept = [queries[row] for row in np.flatnonzero(sizes).tolist()]
    return kept, Lists(np.cumsum([0, *sizes[sizes > 0]]), relevant.indices)


def first_is_relevant(
    corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists
) -> NDArray[np.bool_]:
    """Returns whether the first document of each query is relevant, ``[n]``.

    Args:
        corpus: the retriever and its documents.
        queries: n texts, at least one.
        relevant: documents of each query; an empty list where no document is relevant.

    Raises:
        ValueError: not one list for each query, or a list that names what is no document.
    """
    lists = checked_labels("first_is_relevant", corpus, queries, relevant)
    first = corpus.search(queries, 1).ids[:, 0]
    keys = np.arange(len(queries)) * len(corpus) + first
    return np.isin(keys, lists.keys(len(corpus)))
