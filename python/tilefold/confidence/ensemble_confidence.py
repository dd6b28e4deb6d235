"""EnsembleConfidence: retrievers that were trained independently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..models import BiEncoder
from ..ragged_lists import Lists
from .document_distributions import MeanDistribution, View, mean_distribution
from .encoded_corpus import EncodedCorpus
from .softmax_temperature import fit_temperature

_OP = "EnsembleConfidence"


class EnsembleConfidence:
    """Confidence is the largest probability of the mean distribution of several retrievers.

    Each retriever has embeddings of its own for queries and documents. The documents of a corpus
    are encoded once, at the first call with it; the retriever of the corpus is a member only where
    it is one of `models`, and its embeddings are used then.

    Args:
        models: two retrievers or more, such as of one training with several seeds.
        temperature: scores of all are divided by it; None to fit one for each on labelled queries.

    Attributes:
        temperatures_: the temperatures in use, after `fit`.

    Raises:
        ValueError: fewer than two models, a temperature that is not above 0.

    Source: Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles (NeurIPS 2017).

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> model, other = BiEncoder(minilm()), BiEncoder(minilm().with_options(pooling="cls"))
        >>> corpus = EncodedCorpus(model, ["bills are due", "cats sleep"], progress=False)
        >>> estimator = EnsembleConfidence([model, other], temperature=0.05)
        >>> sure, unsure = estimator.scores(corpus, ["cats", "green"])
        >>> bool(sure > unsure)
        True
    """

    def __init__(self, models: Sequence[BiEncoder], *, temperature: float | None = None) -> None:
        if len(models) < 2:
            raise ValueError(f"{_OP}: expected 2 models or more, got {len(models)}")
        if temperature is not None and not 0 < temperature < np.inf:
            raise ValueError(f"{_OP}: temperature must be above 0 or None, got {temperature}")
        self.models = list(models)
        self.temperature = temperature
        self.temperatures_ = None if temperature is None else [float(temperature)] * len(models)
        self._encoded: tuple[EncodedCorpus, list[EncodedCorpus]] | None = None

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Fits a temperature for each model where none was given, by `fit_temperature`.

        Args:
            corpus: the documents.
            queries: n texts that the models were not trained on.
            relevant: documents of each query.
        """
        if self.temperature is None:
            members = self._members(corpus)
            self.temperatures_ = [fit_temperature(each, queries, relevant) for each in members]
        return self

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the largest mean probability for each query, ``[n]``.

        Args:
            corpus: the documents.
            queries: n texts.

        Raises:
            NotFittedError: no temperature was given or fitted.
        """
        return self.distribution(corpus, queries).top_probability

    def distribution(self, corpus: EncodedCorpus, queries: Sequence[str]) -> MeanDistribution:
        """Summarises the mean distribution, with mutual information and disagreement of models.

        Args and errors are those of `scores`.
        """
        if self.temperatures_ is None:
            raise NotFittedError(f"{_OP}.scores: pass a temperature, or call fit first")
        members = zip(self._members(corpus), self.temperatures_, strict=True)
        return mean_distribution(
            [View(each.encode_queries(queries), each.vectors, t) for each, t in members]
        )

    def _members(self, corpus: EncodedCorpus) -> list[EncodedCorpus]:
        if self._encoded is None or self._encoded[0] is not corpus:
            texts, size = (corpus.documents, corpus.titles), corpus.batch_size
            members = [
                corpus
                if model is corpus.model
                else EncodedCorpus(model, *texts, batch_size=size, progress=False)
                for model in self.models
            ]
            self._encoded = corpus, members
        return self._encoded[1]
