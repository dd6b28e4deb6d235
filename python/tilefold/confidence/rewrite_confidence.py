"""RewriteConfidence: how little the probabilities of documents vary over rewrites of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..models.length_batches import check_texts
from .document_distributions import (
    MeanDistribution,
    View,
    mean_distribution,
    probability_variances,
)
from .encoded_corpus import EncodedCorpus
from .softmax_temperature import TemperedEstimator

Rewrites = Callable[[Sequence[str]], Sequence[Sequence[str]]] | Mapping[str, Sequence[str]]
_OP = "RewriteConfidence"


class RewriteConfidence(TemperedEstimator):
    """Confidence is minus the variance of document probabilities over wordings of the query.

    The wordings are the query itself and its rewrites, of which a query may have any number from
    one; the variance of each document's probability is summed over all documents.
    Distributions that are nearly uniform in every wording hardly vary: such a query counts as
    certain, so the temperature must be low enough for differences to show.

    Args:
        rewriters: returns the rewrites of each query, such as `compose_rewrites(...).texts` of
            `tilefold.invar`; or a mapping from queries to their rewrites.
        temperature: scores are divided by it; None to fit it on labelled queries as they are.

    Attributes:
        temperature_: the temperature in use, after `fit`.

    Raises:
        TypeError: rewriters of another kind.
        ValueError: a temperature that is not above 0.

    Source: the uncertainty of the ranking patterns of Invar-RAG, which `tilefold.invar` has for
    products of interventions.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> corpus = EncodedCorpus(
        ...     BiEncoder(minilm()), ["bills are due", "cats sleep"], progress=False
        ... )
        >>> rewrites = {"cats": ["all cats"], "pay": ["sleep"]}
        >>> sure, unsure = RewriteConfidence(rewrites, 0.05).scores(corpus, ["cats", "pay"])
        >>> bool(0 >= sure > unsure)
        True
    """

    def __init__(self, rewriters: Rewrites, temperature: float | None = None) -> None:
        super().__init__(temperature)
        if not callable(rewriters) and not isinstance(rewriters, Mapping):
            kind = type(rewriters).__name__
            raise TypeError(f"{_OP}: rewriters must be a function or a mapping, got {kind}")
        self.rewriters = rewriters

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes minus the variance for each query, ``[n]``, 0 where all wordings agree.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: no temperature was given or fitted.
            TypeError: a rewrite that is no string.
            ValueError: a query without rewrites, not one list of them for each query.
        """
        found = np.zeros(len(queries))
        for rows, views in self._groups(corpus, queries):
            found[rows] = -probability_variances(views)
        return found

    def distribution(self, corpus: EncodedCorpus, queries: Sequence[str]) -> MeanDistribution:
        """Summarises the mean distribution, with mutual information and disagreement of wordings.

        Args and errors are those of `scores`.
        """
        n = len(queries)
        found = MeanDistribution(np.zeros(n), np.zeros(n, np.int64), *np.zeros((3, n)))
        for rows, views in self._groups(corpus, queries):
            for column, own in zip(found, mean_distribution(views), strict=True):
                column[rows] = own
        return found

    def _groups(
        self, corpus: EncodedCorpus, queries: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int64], list[View]]]:
        """Yields rows of queries with as many wordings, which share tiles, and their views."""
        temperature = self._fitted_temperature()
        wordings = self._wordings(queries)
        texts = list(dict.fromkeys(text for own in wordings for text in own))
        vectors = corpus.encode_queries(texts)
        place = {text: row for row, text in enumerate(texts)}
        sizes = np.array([len(own) for own in wordings], np.int64)
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            places = np.array([[place[text] for text in wordings[row]] for row in rows.tolist()]).T
            yield rows, [View(vectors[own], corpus.vectors, temperature) for own in places]

    def _wordings(self, queries: Sequence[str]) -> list[list[str]]:
        check_texts(queries, f"{_OP}.scores", "queries")
        if isinstance(self.rewriters, Mapping):
            rewrites: Sequence[Sequence[str]] = [self.rewriters.get(each, ()) for each in queries]
        else:
            rewrites = self.rewriters(queries)
        if len(rewrites) != len(queries):
            raise ValueError(
                f"{_OP}.scores: expected rewrites of {len(queries)} queries, got {len(rewrites)}"
            )
        for query, own in zip(queries, rewrites, strict=True):
            check_texts(own, f"{_OP}.scores", "rewrites")
            if not len(own):
                raise ValueError(f"{_OP}.scores: {query[:60]!r} has no rewrite")
        return [[query, *own] for query, own in zip(queries, rewrites, strict=True)]
