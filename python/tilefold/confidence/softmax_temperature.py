"""The temperature of the softmax over documents, fitted on labelled queries."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.exceptions import NotFittedError

from ..ragged_lists import Lists
from .confidence_estimator import checked_labels, with_relevant
from .document_distributions import View, log_likelihoods
from .encoded_corpus import EncodedCorpus

FloatArray = NDArray[np.float64]
# In units of the lead of first documents over the mean document. A softmax over m documents with
# normally distributed scores has its optimum near 1 / log m of it.
_GRID = np.logspace(-3, 2, 26)


def fit_temperature(corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> float:
    """Finds the temperature at which relevant documents are most likely.

    Minimises the mean over queries of minus the log of the summed softmax probabilities of the
    relevant documents, over all documents: 26 temperatures in one pass over the documents, then
    Brent's method between the neighbours of the best one. Queries without a relevant document are
    left out.

    Args:
        corpus: the retriever and its documents.
        queries: n texts.
        relevant: documents of each query.

    Raises:
        ValueError: no query has a relevant document, or all documents of a query have one score.

    Warns:
        UserWarning: the best temperature is at an end of the range. At the lower one, relevant
            documents are first for all queries, and the likelihood has no maximum; at the upper
            one, scores say nothing about relevance.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark"]
        >>> corpus = EncodedCorpus(BiEncoder(minilm()), texts, progress=False)
        >>> relevant = Lists.pack([[1], [2], [0], [1]])
        >>> queries = ["cats", "dogs", "an invoice", "what barks?"]
        >>> bool(0.05 < fit_temperature(corpus, queries, relevant) < 5)
        True
    """
    op = "fit_temperature"
    some, lists = with_relevant(op, queries, checked_labels(op, corpus, queries, relevant))
    view = View(corpus.encode_queries(some), corpus.vectors, 1.0)
    scale = _mean_lead(corpus, some)
    losses = _losses(view, lists, scale * _GRID)
    best = int(losses.argmin())
    if best in (0, len(_GRID) - 1):
        warnings.warn(
            f"{op}: the likelihood has no maximum between {scale * _GRID[0]:.3g} and "
            f"{scale * _GRID[-1]:.3g}, so the temperature is {scale * _GRID[best]:.3g}; label more "
            "queries, or pass a temperature",
            stacklevel=2,
        )
        return float(scale * _GRID[best])
    found = minimize_scalar(
        lambda log: _losses(view, lists, [np.exp(log)])[0],
        bounds=tuple(np.log(scale * _GRID[[best - 1, best + 1]])),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


class TemperedEstimator:
    """Part of estimators that read softmax probabilities: a temperature, given or fitted.

    Args:
        temperature: scores are divided by it; None to fit it on labelled queries.

    Attributes:
        temperature_: the temperature in use, after `fit`.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def __init__(self, temperature: float | None) -> None:
        if temperature is not None and not 0 < temperature < np.inf:
            kind = type(self).__name__
            raise ValueError(f"{kind}: temperature must be above 0 or None, got {temperature}")
        self.temperature = temperature
        self.temperature_ = None if temperature is None else float(temperature)

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Fits the temperature where none was given, by `fit_temperature`.

        Args:
            corpus: the retriever and its documents.
            queries: n texts that the retriever was not trained on.
            relevant: documents of each query.
        """
        if self.temperature is None:
            self.temperature_ = fit_temperature(corpus, queries, relevant)
        return self

    def _fitted_temperature(self) -> float:
        if self.temperature_ is None:
            kind = type(self).__name__
            raise NotFittedError(f"{kind}.scores: pass a temperature, or call fit first")
        return self.temperature_


def _mean_lead(corpus: EncodedCorpus, queries: Sequence[str]) -> float:
    """Returns by how much first documents lead over the mean document, mean over queries."""
    mean = corpus.vectors.mean(0, dtype=np.float64)
    firsts = corpus.search(queries, 1).scores[:, 0].astype(np.float64)
    lead = float((firsts - corpus.encode_queries(queries) @ mean).mean())
    if not lead > 0:
        raise ValueError("fit_temperature: all documents of a query have the same score")
    return lead


def _losses(view: View, lists: Lists, temperatures: Sequence[float] | FloatArray) -> FloatArray:
    """Computes the mean negative log-likelihood of relevant documents, ``[G]``."""
    losses: FloatArray = -log_likelihoods(view, lists, temperatures).mean(1)
    return losses
