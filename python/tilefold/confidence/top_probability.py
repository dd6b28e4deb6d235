"""TopProbability: the largest softmax probability of a document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .document_distributions import MeanDistribution, View, mean_distribution
from .encoded_corpus import EncodedCorpus
from .softmax_temperature import TemperedEstimator


class TopProbability(TemperedEstimator):
    """Confidence is the largest softmax probability over all documents.

    Args:
        temperature: scores are divided by it; None to fit it on labelled queries.

    Attributes:
        temperature_: the temperature in use, after `fit`.

    Raises:
        ValueError: a temperature that is not above 0.

    Source: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples (ICLR 2017); temperature scaling: Guo et al. (ICML 2017).

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> corpus = EncodedCorpus(
        ...     BiEncoder(minilm()), ["bills are due", "cats sleep"], progress=False
        ... )
        >>> sure, unsure = TopProbability(0.05).scores(corpus, ["cats", "green"])
        >>> bool(sure > 0.99 > unsure)
        True
    """

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__(temperature)

    def distribution(self, corpus: EncodedCorpus, queries: Sequence[str]) -> MeanDistribution:
        """Summarises the softmax over all documents: its largest probability and its entropy.

        Raises:
            NotFittedError: no temperature was given or fitted.
        """
        temperature = self._fitted_temperature()
        view = View(corpus.encode_queries(queries), corpus.vectors, temperature)
        return mean_distribution([view])

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the largest probability for each query, ``[n]``.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: no temperature was given or fitted.
        """
        return self.distribution(corpus, queries).top_probability
