"""ConformalSets: sets of documents that have a relevant one with a chosen probability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..ragged_lists import Lists
from .confidence_estimator import checked_labels, with_relevant
from .document_distributions import View, probability_blocks
from .encoded_corpus import EncodedCorpus

FloatArray = NDArray[np.float64]
ConformalScore = Literal["lac", "aps"]
_OP = "ConformalSets"


class ConformalSets:
    """Split conformal prediction: for each query the documents whose nonconformity is small enough.

    For a new query that is exchangeable with the labelled ones of `fit` which have a relevant
    document, its set has a relevant document with the probability asked for or more. The
    probability is over both, the labelled and the new queries: it is no statement about a single
    query, nor about queries of another kind, nor about those without a relevant document. The
    nonconformity of a query is the smallest one of its relevant documents.

    Args:
        temperature: of the softmax, chosen without the queries of `fit`.
        score: nonconformity of a document. "lac": minus its probability, which gives the smallest
            sets on average; they may be empty. "aps": the summed probability of the documents from
            the first one to it, without randomisation; sets are larger for uncertain queries, and
            have the probability asked for more closely for each kind of query.

    Attributes:
        nonconformities_: ``[n]`` of the labelled queries, rising, after `fit`.

    Raises:
        ValueError: a temperature that is not above 0, an unknown score.

    Source: Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error
    Levels (JASA 2019); Romano, Sesia and Candes, Classification with Valid and Adaptive Coverage
    (NeurIPS 2020).

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark"]
        >>> corpus = EncodedCorpus(BiEncoder(minilm()), texts, progress=False)
        >>> queries = ["cats", "an invoice", "a puppy", "kittens"]
        >>> sets = ConformalSets(0.05).fit(corpus, queries, Lists.pack([[1], [0], [2], [1]]))
        >>> sets.sets(corpus, ["dogs"], coverage=0.8).of(0)
        array([2])
    """

    def __init__(self, temperature: float, score: ConformalScore = "lac") -> None:
        if not 0 < temperature < np.inf:
            raise ValueError(f"{_OP}: temperature must be above 0, got {temperature}")
        if score not in ("lac", "aps"):
            raise ValueError(f'{_OP}: score must be "lac" or "aps", got {score!r}')
        self.temperature, self.score = float(temperature), score
        self.nonconformities_: FloatArray | None = None

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Keeps the nonconformity of each labelled query.

        Args:
            corpus: the retriever and its documents.
            queries: n texts that the retriever was not trained on.
            relevant: documents of each query; queries without one are left out.

        Raises:
            ValueError: no query has a relevant document.
        """
        op = f"{_OP}.fit"
        some, lists = with_relevant(op, queries, checked_labels(op, corpus, queries, relevant))
        found = [
            own[lists.of(row)].min()
            for row, own in enumerate(
                row for _, block in self._nonconformities(corpus, some) for row in block
            )
        ]
        self.nonconformities_ = np.sort(np.array(found, np.float64))
        return self

    def threshold(self, coverage: float) -> float:
        """Returns the largest nonconformity in a set: the ``ceil((n + 1) coverage)``-th smallest.

        Args:
            coverage: probability that a set has a relevant document, above 0 and below 1.

        Raises:
            NotFittedError: no labelled queries.
            ValueError: a coverage out of range, or one that takes more labelled queries.
        """
        if self.nonconformities_ is None:
            raise NotFittedError(f"{_OP}: call fit first")
        if not 0 < coverage < 1:
            raise ValueError(f"{_OP}: coverage must be above 0 and below 1, got {coverage}")
        n = len(self.nonconformities_)
        # (n + 1) coverage may be a rounding above an integer.
        place = int(np.ceil((n + 1) * coverage - 1e-9))
        if place > n:
            needed = int(np.ceil(coverage / (1 - coverage) - 1e-9))
            raise ValueError(
                f"{_OP}: coverage {coverage} takes {needed} labelled queries with a relevant "
                f"document, got {n}; with fewer, only sets of all documents have it"
            )
        return float(self.nonconformities_[place - 1])

    def sets(
        self, corpus: EncodedCorpus, queries: Sequence[str], *, coverage: float = 0.9
    ) -> Lists:
        """Finds the set of each query.

        Args:
            corpus: as of `fit`.
            queries: n texts.
            coverage: probability that a set has a relevant document, above 0 and below 1.

        Returns:
            Documents of each query, rising.

        Raises:
            NotFittedError: no labelled queries.
            ValueError: a coverage out of range, or one that takes more labelled queries.
        """
        threshold = self.threshold(coverage)
        found = [
            np.flatnonzero(own <= threshold)
            for _, block in self._nonconformities(corpus, queries)
            for own in block
        ]
        sizes = [len(own) for own in found]
        indices = np.concatenate([np.zeros(0, np.int64), *found])
        return Lists(np.cumsum([0, *sizes], dtype=np.int64), indices)

    def _nonconformities(
        self, corpus: EncodedCorpus, queries: Sequence[str]
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Yields rows of queries and nonconformities of all documents, ``[rows, m]``."""
        view = View(corpus.encode_queries(queries), corpus.vectors, self.temperature)
        for rows, probabilities in probability_blocks(view):
            yield rows, -probabilities if self.score == "lac" else _minus_rest(probabilities)


def _minus_rest(probabilities: FloatArray) -> FloatArray:
    """Returns minus the summed probability of the documents behind each one, ``[rows, m]``.

    It is the sum up to the document less one, and precise where that sum is nearly one. Documents
    of one probability count as one group.
    """
    order = np.argsort(probabilities, axis=1, kind="stable")
    rising = np.take_along_axis(probabilities, order, 1)
    behind = np.cumsum(rising, axis=1) - rising
    found = np.empty_like(behind)
    for row, own in enumerate(rising):
        first = np.searchsorted(own, own, side="left")  # of the group of each document
        found[row, order[row]] = -behind[row, first]
    return found
