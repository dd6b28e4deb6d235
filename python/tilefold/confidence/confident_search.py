"""ConfidentSearch: dense search with calibrated confidence, a fallback and conformal sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..arrays import Array
from ..evaluate import Measure, evaluate
from ..integers import as_integer
from ..models import BiEncoder
from ..ragged_lists import Lists
from ..retrieval.bm25 import Bm25
from ..retrieval.fusion import fuse
from ..retrieval.running_search import SearchResult
from .calibrated_confidence import CalibratedConfidence, Calibration
from .confidence_estimator import ConfidenceEstimator, LabelledEstimator, checked_labels
from .conformal_sets import ConformalSets
from .encoded_corpus import EncodedCorpus
from .fallback_threshold import FallbackThreshold, best_threshold
from .softmax_temperature import fit_temperature
from .top_probability import TopProbability

_OP = "ConfidentSearch"
_DEPTH = 100  # of rankings that are fused, or more where k is larger


class ConfidentResult(NamedTuple):
    """Answers of a search, and how certain it is that the first document of the dense one is right.

    Scores of a query that fell back are those of the ranking that replaced the dense one.
    """

    scores: NDArray[np.float32]  # [n, k], -inf where there is no document
    ids: NDArray[np.int64]  # [n, k], -1 where there is no document
    confidence: NDArray[np.float64]  # [n], probability that the first dense document is relevant
    fell_back: NDArray[np.bool_]  # [n]


class ConfidentSearch:
    """Searches documents, says how certain each answer is, and falls back where it is not.

    Args:
        model: the retriever.
        documents: texts; a document's id is its position.
        titles: of the documents; by default none.
        estimator: of confidence, which `fit` trains if it has a `fit`; by default
            `TopProbability(temperature)`.
        temperature: of the softmax of conformal sets; None to fit it on labelled queries.
        fallback: "bm25" replaces the dense ranking of uncertain queries by that of BM25, "fusion"
            by the reciprocal rank fusion of both; None keeps it. A query that shares no word with
            the documents keeps its dense ranking.
        vectors: ``[m, dim]`` embeddings of the documents by the model; by default computed.
        batch_size: texts per forward pass.
        progress: whether to show progress of encoding the documents on stderr.

    Attributes:
        corpus: the `EncodedCorpus`.
        estimator_rows_, calibration_rows_: rows of the labelled queries in each share.
        temperature_: of the softmax of conformal sets, given or fitted on the estimator's share.
        calibrated_: the `CalibratedConfidence`, fitted on the calibration share.
        conformal_: the `ConformalSets`, fitted on the calibration share.
        threshold_: the `FallbackThreshold`, chosen on the calibration share; None without fallback.

    Raises:
        ImportError: bm25s is not installed, and there is a fallback.
        ValueError: an unknown fallback, a temperature that is not above 0; documents or titles that
            `EncodedCorpus` refuses.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark", "rain falls"]
        >>> search = ConfidentSearch(
        ...     BiEncoder(minilm()), texts, temperature=0.1, fallback=None, progress=False
        ... )
        >>> queries = ["a kitten", "an invoice", "a tree", "wet weather", "a nap", "a leaf"]
        >>> queries += ["a debt", "a green leaf", "green", "a storm", "trees", "puddles"]
        >>> relevant = [[1], [0], [], [3], [1], [], [0], [], [], [3], [], [3]]
        >>> _ = search.fit(queries, Lists.pack(relevant))
        >>> result = search.search(["cats", "green trees"], k=2)
        >>> result.ids[0, 0], bool(result.confidence[0] > result.confidence[1])
        (np.int64(1), True)
    """

    def __init__(
        self,
        model: BiEncoder,
        documents: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        estimator: ConfidenceEstimator | None = None,
        temperature: float | None = None,
        fallback: Literal["bm25", "fusion"] | None = "bm25",
        vectors: Array | None = None,
        batch_size: int = 32,
        progress: bool | str = True,
    ) -> None:
        if fallback not in ("bm25", "fusion", None):
            raise ValueError(f'{_OP}: fallback must be "bm25", "fusion" or None, got {fallback!r}')
        self.fallback = fallback
        softmax = TopProbability(temperature)
        self.temperature = softmax.temperature
        self.estimator = softmax if estimator is None else estimator
        self._lexical = None
        if fallback is not None:  # first, because encoding takes longer than finding no bm25s
            self._lexical = Bm25(model.document_texts(documents, titles))
        self.corpus = EncodedCorpus(
            model, documents, titles, vectors=vectors, batch_size=batch_size, progress=progress
        )
        self.estimator_rows_: NDArray[np.int64] | None = None
        self.calibration_rows_: NDArray[np.int64] | None = None
        self.temperature_: float | None = None
        self.calibrated_: CalibratedConfidence | None = None
        self.conformal_: ConformalSets | None = None
        self.threshold_: FallbackThreshold | None = None

    def fit(
        self,
        queries: Sequence[str],
        relevant: Lists,
        *,
        calibration: Calibration = "platt",
        measure: str = "RR@10",
        groups: Sequence[int] | None = None,
        seed: int = 0,
    ) -> Self:
        """Trains the estimator on half of the labelled queries, and calibrates it on the others.

        The threshold of falling back maximises the measure on the calibration share. Queries with
        the same text, or of one group, are in the same share. Conformal sets are calibrated on one
        query of each group, as queries of a group are not exchangeable with those of others.

        Args:
            queries: n texts that the retriever was not trained on.
            relevant: documents of each query; an empty list where no document is relevant.
            calibration: "platt" or "isotonic", see `CalibratedConfidence`.
            measure: what falling back should improve, such as "RR@10" or "nDCG@10"; queries without
                a relevant document count as 0.
            groups: ``[n]`` integers, equal for queries that ask for the same, such as paraphrases;
                by default equal texts alone are a group.
            seed: of the shares, and of the query that stands for a group.

        Raises:
            ValueError: not one list for each query; fewer than two different queries; labels from
                which the estimator, the temperature or the calibration cannot be fitted; an unknown
                measure.
        """
        op = f"{_OP}.fit"
        lists = checked_labels(op, self.corpus, queries, relevant)
        parsed = Measure.parse(measure)
        own_groups = _groups(queries, groups)
        seed = as_integer(seed, op, "seed", at_least=0)
        shares = _shares(own_groups, seed)
        self.estimator_rows_, self.calibration_rows_ = shares
        (some, own), (others, rest) = (_rows(queries, lists, rows) for rows in shares)
        self.temperature_ = self.temperature
        if self.temperature_ is None:
            self.temperature_ = fit_temperature(self.corpus, some, own)
        if isinstance(self.estimator, LabelledEstimator):
            self.estimator.fit(self.corpus, some, own)
        self.calibrated_ = CalibratedConfidence(self.estimator, calibration)
        self.calibrated_.fit(self.corpus, others, rest)
        alone = _one_of_each(own_groups, shares[1], seed)
        self.conformal_ = ConformalSets(self.temperature_)
        self.conformal_.fit(self.corpus, *_rows(queries, lists, alone))
        self.threshold_ = None
        if self._lexical is not None:
            confidence = self.calibrated_.scores(self.corpus, others)
            self.threshold_ = best_threshold(confidence, *self._values(others, rest, parsed))
        return self

    def search(
        self, queries: Sequence[str], k: int, *, confidence: float | None = None
    ) -> ConfidentResult:
        """Finds the k best documents of each query.

        Args:
            queries: n texts.
            k: answers per query, at least 1.
            confidence: queries below this confidence fall back; by default `threshold_`.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: k is below 1; a confidence outside 0 to 1, or one without a fallback.
        """
        calibrated, op = self._fitted("search"), f"{_OP}.search"
        k = as_integer(k, op, "k", at_least=1)
        if confidence is not None:
            if self._lexical is None:
                raise ValueError(f"{op}: confidence={confidence}, but there is no fallback")
            if not 0 <= confidence <= 1:
                raise ValueError(f"{op}: confidence must be 0 to 1, got {confidence}")
        elif self.threshold_ is not None:
            confidence = self.threshold_.confidence
        sure = calibrated.scores(self.corpus, queries)
        scores, ids = self.corpus.search(queries, k)
        fell_back = np.zeros(len(queries), np.bool_)
        if confidence is not None:
            rows = np.flatnonzero(sure < confidence)
            found = self._replaced([queries[row] for row in rows.tolist()], k)
            matched = found.ids[:, 0] >= 0
            rows = rows[matched]
            scores[rows], ids[rows] = found.scores[matched], found.ids[matched]
            fell_back[rows] = True
        return ConfidentResult(scores, ids, sure, fell_back)

    def sets(self, queries: Sequence[str], *, coverage: float = 0.9) -> Lists:
        """Finds a set of documents for each query that has a relevant one with this probability.

        See `ConformalSets` for what is guaranteed. Sets are of the dense retriever; there is no
        fallback.

        Args:
            queries: n texts.
            coverage: probability, above 0 and below 1.

        Returns:
            Documents of each query, rising.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: a coverage out of range, or one that takes more labelled queries.
        """
        self._fitted("sets")
        assert self.conformal_ is not None
        return self.conformal_.sets(self.corpus, queries, coverage=coverage)

    def _fitted(self, method: str) -> CalibratedConfidence:
        if self.calibrated_ is None or self.conformal_ is None:
            raise NotFittedError(f"{_OP}.{method}: call fit first")
        return self.calibrated_

    def _replaced(self, queries: Sequence[str], k: int) -> SearchResult:
        """Returns the rankings of the fallback; no document where no word matches."""
        assert self._lexical is not None
        depth = k if self.fallback == "bm25" else max(k, _DEPTH)
        found = self._lexical.search(queries, depth, warn=False)
        if self.fallback == "bm25" or not len(queries):
            return SearchResult(found.scores[:, :k], found.ids[:, :k])
        fused = fuse([self.corpus.search(queries, depth).ids, found.ids], k)
        fused.ids[found.ids[:, 0] < 0] = -1
        return fused

    def _values(
        self, queries: Sequence[str], relevant: Lists, measure: Measure
    ) -> list[NDArray[np.float64]]:
        """Computes a measure of the dense rankings, and of those of the fallback."""
        depth = measure.cutoff or len(self.corpus)
        dense, other = self.corpus.search(queries, depth).ids, self._replaced(queries, depth).ids
        other = np.where(other[:, :1] < 0, dense, other)
        qrels = (relevant.offsets, relevant.indices, np.ones(len(relevant.indices), np.int64))
        return [
            np.nan_to_num(evaluate(ids, qrels, [measure])[str(measure)]) for ids in (dense, other)
        ]


def _groups(queries: Sequence[str], groups: Sequence[int] | None) -> NDArray[np.int64]:
    """Numbers the groups of queries: equal texts, or those given."""
    if groups is None:
        texts = np.array(queries, dtype=object)
        return np.unique(texts, return_inverse=True)[1].astype(np.int64)
    given = np.asarray(groups)
    if given.shape != (len(queries),) or given.dtype.kind not in "iu":
        raise ValueError(
            f"{_OP}.fit: groups must be integers [{len(queries)}], got {given.dtype} {given.shape}"
        )
    return np.unique(given, return_inverse=True)[1].astype(np.int64)


def _shares(groups: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits rows of queries in two halves, those of a group together."""
    n = int(groups.max(initial=-1)) + 1
    if n < 2:
        raise ValueError(f"{_OP}.fit: expected 2 different queries or more, got {n}")
    first = np.random.default_rng(seed).permutation(n) < n // 2
    return np.flatnonzero(first[groups]), np.flatnonzero(~first[groups])


def _one_of_each(
    groups: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Draws one row of each group among some rows."""
    order = np.random.default_rng([seed, 1]).permutation(rows)
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def _rows(queries: Sequence[str], lists: Lists, rows: NDArray[np.int64]) -> tuple[list[str], Lists]:
    own = [lists.of(int(row)) for row in rows]
    indices = np.concatenate([np.zeros(0, np.int64), *own])
    return [queries[row] for row in rows.tolist()], Lists(np.cumsum([0, *map(len, own)]), indices)
