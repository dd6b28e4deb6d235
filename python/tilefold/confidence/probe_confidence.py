"""ProbeConfidence: a logistic regression that predicts whether the first document is relevant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..activations.capture import Rows
from ..integers import as_integer
from ..ragged_lists import Lists
from .confidence_estimator import checked_labels, first_is_relevant
from .encoded_corpus import EncodedCorpus
from .query_states import query_states

_OP = "ProbeConfidence"
_STRENGTHS = tuple(10.0**power for power in range(-4, 3))


class ProbeConfidence:
    """Confidence is the predicted probability that the first document is relevant.

    Features are the query's embedding, or its pooled state in a layer, and perhaps the first score
    and its leads over the next ones; they are standardised. The strength of the L2 penalty is
    chosen by cross-validated log loss within the labelled queries.

    Args:
        site: dotted name of a module of the query encoder's model, such as "encoder.layer.3"; None
            for the embedding.
        rows: how tokens of `site` are pooled: "cls", "mean" (the default), "last" or "max".
        top_scores: number of first scores that are features, too.
        strengths: values of C to choose from, larger for a weaker penalty.
        folds: of the cross-validation; no more than queries of the smaller class.
        seed: of the folds.

    Attributes:
        search_: the `GridSearchCV`, with `best_params_` and `best_score_`, after `fit`.

    Raises:
        ValueError: a number out of range; rows without a site.

    Source: linear probes: Alain and Bengio, Understanding intermediate layers using linear
    classifier probes (2016); of a model's own correctness: Kadavath et al., Language Models
    (Mostly) Know What They Know (2022).

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark"]
        >>> corpus = EncodedCorpus(BiEncoder(minilm()), texts, progress=False)
        >>> queries = ["a cat", "cats", "dogs", "a puppy", "green", "a tree", "grass", "leaves"]
        >>> relevant = Lists.pack([[1], [1], [2], [2], [], [], [], []])
        >>> probe = ProbeConfidence(folds=2).fit(corpus, queries, relevant)
        >>> sure, unsure = probe.scores(corpus, ["kittens", "a forest"])
        >>> bool(sure > unsure)
        True
    """

    def __init__(
        self,
        *,
        site: str | None = None,
        rows: Rows | None = None,
        top_scores: int = 0,
        strengths: Sequence[float] = _STRENGTHS,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        if rows is not None and site is None:
            raise ValueError(f"{_OP}: rows={rows!r} needs a site; the embedding is pooled already")
        self.site, self.rows = site, rows
        self.top_scores = as_integer(top_scores, _OP, "top_scores", at_least=0)
        self.folds = as_integer(folds, _OP, "folds", at_least=2)
        self.seed = as_integer(seed, _OP, "seed", at_least=0)
        self.strengths = tuple(strengths)
        if not self.strengths or not all(0 < each < np.inf for each in self.strengths):
            raise ValueError(f"{_OP}: strengths must be one or more above 0, got {strengths}")
        self.search_: Any = None

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Trains the probe on whether the first document of each query is relevant.

        Args:
            corpus: the retriever and its documents.
            queries: n texts that the retriever was not trained on.
            relevant: documents of each query; an empty list where no document is relevant.

        Raises:
            ValueError: the first document is relevant, or not, for fewer than two queries.
        """
        op = f"{_OP}.fit"
        labels = first_is_relevant(corpus, queries, checked_labels(op, corpus, queries, relevant))
        fewest = int(min(labels.sum(), (~labels).sum()))
        if fewest < 2:
            raise ValueError(
                f"{op}: expected 2 queries or more whose first document is relevant, and 2 whose "
                f"is not, got {labels.sum()} and {(~labels).sum()}"
            )
        folds = StratifiedKFold(min(self.folds, fewest), shuffle=True, random_state=self.seed)
        self.search_ = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
            {"logisticregression__C": sorted(self.strengths)},
            scoring="neg_log_loss",
            cv=folds,
        ).fit(self.features(corpus, queries), labels)
        return self

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the probability that the first document is relevant for each query, ``[n]``.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: the probe is not trained.
        """
        if self.search_ is None:
            raise NotFittedError(f"{_OP}.scores: call fit first")
        if not len(queries):
            return np.zeros(0)
        found: NDArray[np.float64] = self.search_.predict_proba(self.features(corpus, queries))
        return found[:, 1]

    def features(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes what the probe reads, ``[n, features]``, before it is standardised.

        Raises:
            ValueError: a corpus with fewer documents than `top_scores`, or no module `site`.
        """
        if self.site is None:
            states = corpus.encode_queries(queries)
        else:
            model = corpus.model
            states = query_states(
                model.query_encoder,
                model.query_texts(queries),
                self.site,
                rows=self.rows or "mean",
                batch_size=corpus.batch_size,
            )
        parts = [states.astype(np.float64)]
        if self.top_scores:
            if self.top_scores > len(corpus):
                raise ValueError(
                    f"{_OP}: top_scores must be at most the number of documents, {len(corpus)}, "
                    f"got {self.top_scores}"
                )
            top = corpus.search(queries, self.top_scores).scores.astype(np.float64)
            parts += [top[:, :1], top[:, :1] - top[:, 1:]]
        return np.concatenate(parts, axis=1)
