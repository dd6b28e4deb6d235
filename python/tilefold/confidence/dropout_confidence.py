"""DropoutConfidence: passes of the query encoder with dropout (Monte Carlo dropout)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..integers import as_integer
from ..models import Encoder
from ..models.length_batches import by_length
from .active_dropout import active_dropout
from .document_distributions import MeanDistribution, View, mean_distribution
from .encoded_corpus import EncodedCorpus
from .softmax_temperature import TemperedEstimator


class DropoutConfidence(TemperedEstimator):
    """Confidence is the largest probability of the mean distribution over passes with dropout.

    Queries are encoded several times with dropout active, documents once without. For a model that
    was trained with dropout, passes are draws of approximate Bayesian inference. With `rate`, a
    model that was trained without it, or with another one, is disturbed after the fact: a test of
    stability, without that interpretation. Masks depend on the seed and on the batch, so on the
    other queries of a call, too.

    Args:
        rate: probability of dropping, in all places of the encoder, attention included; None for
            the model's own rates.
        passes: number of passes.
        temperature: scores are divided by it; None to fit it, on scores without dropout.
        seed: of the masks.

    Attributes:
        temperature_: the temperature in use, after `fit`.

    Raises:
        ValueError: a rate or a temperature out of range, fewer than 2 passes.

    Source: Gal and Ghahramani, Dropout as a Bayesian Approximation (ICML 2016).

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> corpus = EncodedCorpus(
        ...     BiEncoder(minilm()), ["bills are due", "cats sleep"], progress=False
        ... )
        >>> estimator = DropoutConfidence(0.1, passes=4, temperature=0.05)
        >>> sure, unsure = estimator.scores(corpus, ["cats", "green"])
        >>> bool(sure > 0.99 > unsure)
        True
    """

    def __init__(
        self,
        rate: float | None = None,
        passes: int = 8,
        *,
        temperature: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(temperature)
        if rate is not None and not 0 < rate < 1:
            raise ValueError(
                f"DropoutConfidence: rate must be above 0 and below 1, or None, got {rate}"
            )
        self.rate, self.seed = rate, as_integer(seed, "DropoutConfidence", "seed", at_least=0)
        self.passes = as_integer(passes, "DropoutConfidence", "passes", at_least=2)

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the largest mean probability for each query, ``[n]``.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: no temperature was given or fitted.
            ValueError: the query encoder has no dropout, and no rate was given.
        """
        return self.distribution(corpus, queries).top_probability

    def distribution(self, corpus: EncodedCorpus, queries: Sequence[str]) -> MeanDistribution:
        """Summarises the mean distribution, with mutual information and disagreement of passes.

        Args and errors are those of `scores`.
        """
        temperature = self._fitted_temperature()
        embeddings = dropout_embeddings(
            corpus.model.query_encoder,
            corpus.model.query_texts(queries),
            passes=self.passes,
            rate=self.rate,
            seed=self.seed,
            batch_size=corpus.batch_size,
        )
        return mean_distribution([View(each, corpus.vectors, temperature) for each in embeddings])


def dropout_embeddings(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    passes: int,
    rate: float | None,
    seed: int,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Computes embeddings with dropout, float32 ``[passes, len(texts), dim]``.

    Modes and rates of the encoder and the states of torch's generators are those of before
    afterwards, also after an exception.

    Args:
        encoder: of queries.
        texts: strings.
        passes: number of passes.
        rate: see `active_dropout`.
        seed: of the masks, with the number of the pass.
        batch_size: texts per forward pass.
    """
    found = np.zeros((passes, len(texts), encoder.dim), np.float32)
    batches = by_length(
        texts,
        encoder.tokenize,
        batch_size=batch_size,
        max_length=encoder.max_length,
        progress=False,
    )
    with active_dropout(encoder, rate), torch.inference_mode(), contextlib.closing(batches):
        torch.manual_seed(seed)
        for rows, tokens in batches:
            batch = encoder.pad(tokens)
            for embeddings in found:
                embeddings[rows] = encoder(batch).float().cpu().numpy()
    return found
