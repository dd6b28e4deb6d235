"""GaussianConfidence: embeddings of queries as Gaussians, whose variances are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..integers import as_integer
from ..ragged_lists import Lists
from .confidence_estimator import checked_labels, with_relevant
from .document_distributions import MeanDistribution, View, mean_distribution
from .encoded_corpus import EncodedCorpus
from .gaussian_head import GaussianHead, HeadTraining, ListwiseBatch
from .softmax_temperature import TemperedEstimator

_OP = "GaussianConfidence"
_HELD_SHARE = 0.2  # of labelled queries, which choose the epoch
_BATCH = 64  # queries


class GaussianConfidence(TemperedEstimator):
    """Confidence is the largest mean probability over draws of a query's embedding.

    A linear head on the embedding, which stays as it is, predicts a diagonal variance. It is
    trained to make relevant documents likely on average over draws, so it learns where retrieval is
    wrong and a wider distribution costs less. Draws of normalised embeddings are not normalised
    again.

    Args:
        temperature: scores are divided by it; None to fit it on labelled queries, before the head.
        samples: draws of an embedding, the same standard normal ones for all queries.
        epochs, learning_rate, weight_decay: of AdamW; a fifth of the labelled queries chooses the
            epoch.
        candidates: in training, the softmax of a batch of 64 queries is over the relevant documents
            and this many first ones of each query, together; all documents where there are no more.
            Confidence is always over all documents.
        seed: of draws and of the order of queries.

    Attributes:
        temperature_: the temperature in use, after `fit`.
        head_: the `GaussianHead`.

    Raises:
        ValueError: a temperature or a number out of range.

    Source: Kendall and Gal, What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision? (NeurIPS 2017), eq. 12, for embeddings of queries in the place of logits.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark"]
        >>> corpus = EncodedCorpus(BiEncoder(minilm()), texts, progress=False)
        >>> estimator = GaussianConfidence(temperature=0.05, epochs=2)
        >>> queries = ["cats", "dogs", "an invoice", "a kitten", "a puppy"]
        >>> _ = estimator.fit(corpus, queries, Lists.pack([[1], [2], [0], [1], [2]]))
        >>> estimator.scores(corpus, ["cats", "green"]).shape
        (2,)
    """

    def __init__(
        self,
        *,
        temperature: float | None = None,
        samples: int = 8,
        epochs: int = 20,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.1,
        candidates: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(temperature)
        self.samples = as_integer(samples, _OP, "samples", at_least=1)
        self.epochs = as_integer(epochs, _OP, "epochs", at_least=1)
        self.candidates = as_integer(candidates, _OP, "candidates", at_least=1)
        self.seed = as_integer(seed, _OP, "seed", at_least=0)
        if not 0 < learning_rate < np.inf or not 0 <= weight_decay < np.inf:
            raise ValueError(
                f"{_OP}: learning_rate must be above 0 and weight_decay 0 or more, got "
                f"{learning_rate} and {weight_decay}"
            )
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.head_: GaussianHead | None = None

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Fits the temperature where none was given, then trains the head.

        Args:
            corpus: the retriever and its documents.
            queries: n texts that the retriever was not trained on.
            relevant: documents of each query; queries without one are left out.

        Raises:
            ValueError: fewer than two queries with a relevant document.
        """
        op = f"{_OP}.fit"
        some, lists = with_relevant(op, queries, checked_labels(op, corpus, queries, relevant))
        if len(some) < 2:
            raise ValueError(f"{op}: expected 2 queries with relevant documents or more, got 1")
        super().fit(corpus, queries, relevant)
        order = np.random.default_rng(self.seed).permutation(len(some))
        held, kept = np.split(order, [max(1, round(_HELD_SHARE * len(some)))])
        training = HeadTraining(
            self._fitted_temperature(),
            self.samples,
            self.epochs,
            self.learning_rate,
            self.weight_decay,
            self.seed,
        )
        batches = [kept[begin : begin + _BATCH] for begin in range(0, len(kept), _BATCH)]
        self.head_ = training.train(
            [self._batch(corpus, some, lists, rows) for rows in batches],
            self._batch(corpus, some, lists, held),
        )
        return self

    def log_variances(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float32]:
        """Predicts the log variance of each dimension of a query's embedding, ``[n, dim]``.

        Raises:
            NotFittedError: the head is not trained.
        """
        if self.head_ is None:
            raise NotFittedError(f"{_OP}: call fit first")
        rows = torch.from_numpy(corpus.encode_queries(queries))
        predicted: NDArray[np.float32] = self.head_.log_variances(rows).numpy()
        return predicted

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the largest mean probability for each query, ``[n]``.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: the head is not trained.
        """
        return self.distribution(corpus, queries).top_probability

    def distribution(self, corpus: EncodedCorpus, queries: Sequence[str]) -> MeanDistribution:
        """Summarises the mean distribution over draws; args and errors are those of `scores`."""
        deviations = np.exp(self.log_variances(corpus, queries) / 2)
        rows, temperature = corpus.encode_queries(queries), self._fitted_temperature()
        shape = self.samples, rows.shape[1]
        noise = np.random.default_rng(self.seed).standard_normal(shape, np.float32)
        return mean_distribution(
            [View(rows + deviations * each, corpus.vectors, temperature) for each in noise]
        )

    def _batch(
        self, corpus: EncodedCorpus, queries: Sequence[str], lists: Lists, rows: NDArray[np.int64]
    ) -> ListwiseBatch:
        own = [lists.of(int(row)) for row in rows]
        texts = [queries[row] for row in rows]
        listed = np.arange(len(corpus))
        if len(corpus) > self.candidates:
            found = corpus.search(texts, self.candidates).ids.ravel()
            listed = np.unique(np.concatenate([found, *own]))
        is_relevant = np.stack([np.isin(listed, each) for each in own])
        return ListwiseBatch(
            torch.from_numpy(corpus.encode_queries(texts)),
            torch.from_numpy(corpus.vectors[listed]),
            torch.from_numpy(is_relevant),
        )
