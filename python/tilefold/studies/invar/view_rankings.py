"""Rankings of test questions under every wording and context window, and their measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_columns
from ..study import StepStore
from ..training_digest import digest_of_training
from .invar_result import ORIGINAL, REWRITES, WINDOWS

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...models import BiEncoder

FloatArray = NDArray[np.float64]
RECIPROCAL, FIRST, RECALL = "RR@10", "Success@1", "R@100"
VARIANCE = "variance of probabilities"
_DEPTH = 100  # documents of a ranking, for R@100
_QUERIES = 256  # questions whose probabilities over all documents are held at a time


@dataclass(frozen=True)
class QuestionViews:
    """Test questions with all wordings and windows.

    Args:
        data: questions and documents.
        unseen: rewrites of each question, the same number of each.
        windows: words of a chunk.
    """

    data: TrainingSet
    unseen: Sequence[Sequence[str]]
    windows: Sequence[int]

    @property
    def wordings(self) -> list[list[str]]:
        """The questions, and each of their rewrites: S lists of n texts."""
        return [list(view) for view in zip(*self._by_question(), strict=True)]

    def digest(self) -> list[Any]:
        """Returns digests of everything that rankings depend on beside the model."""
        return [digest_of_columns(*self.wordings), *digest_of_training(self.data), *self.windows]

    def _by_question(self) -> list[list[str]]:
        pairs = zip(self.data.queries, self.unseen, strict=True)
        return [[query, *own] for query, own in pairs]


@dataclass(frozen=True)
class ViewRankings:
    """Rankings of n questions under S wordings and W windows.

    Args:
        wordings: ``[S, n, depth]`` document ids.
        windows: ``[1 + W, n, depth]``: whole documents first.
        variances: of the probabilities of documents over wordings, and over windows, ``[n]`` each;
            NaN for a system without probabilities.
    """

    wordings: NDArray[np.int64]
    windows: NDArray[np.int64]
    variances: tuple[FloatArray, FloatArray]


def rank_views(
    model: BiEncoder,
    views: QuestionViews,
    temperature: float,
    *,
    steps: StepStore,
    batch_size: int,
    progress: bool,
) -> ViewRankings:
    """Ranks documents for every wording and window, unless an earlier run did.

    Args:
        model: the retriever.
        views: questions, wordings and windows.
        temperature: of the probabilities.
        steps: keeps the rankings.
        batch_size: texts in a forward pass.
        progress: whether to show progress on stderr.
    """
    towers = model.query_encoder.fingerprint(), model.document_encoder.fingerprint()
    depends = [*towers, model.title_format, views.digest(), temperature]

    def make() -> dict[str, NDArray[Any]]:
        return _rank(model, views, temperature, {"batch_size": batch_size, "progress": progress})

    found = steps.once("rankings of views", depends, make)
    variances = found["wording_variance"], found["window_variance"]
    return ViewRankings(found["wordings"], found["windows"], variances)


def _rank(
    model: BiEncoder, views: QuestionViews, temperature: float, options: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    import torch

    from ...invar import Window, search_chunks
    from ...losses import invariance_loss
    from ...retrieval.exact_search import search

    data = views.data
    documents = model.encode_documents(data.documents, data.titles, **options)
    k = min(_DEPTH, len(documents))
    queries = [
        model.encode_queries(model.query_texts(texts, data.prompts), **options)
        for texts in views.wordings
    ]
    wordings = [search(own, documents, k).ids for own in queries]
    stacked = torch.from_numpy(np.stack(queries).astype(np.float32))
    spread = invariance_loss(stacked, torch.from_numpy(documents), temperature=temperature)
    windows, scored = [wordings[0]], [(documents, np.arange(len(documents)))]
    for words in views.windows:
        texts, owners = Window(words).chunks(data.documents)
        titles = [data.titles[row] for row in owners.tolist()]
        chunks = model.encode_documents(texts, titles, **options)
        windows.append(search_chunks(queries[0], chunks, owners, k)[1])
        scored.append((chunks, owners))
    return {
        "wordings": np.stack(wordings).astype(np.int64),
        "windows": np.stack(windows).astype(np.int64),
        "wording_variance": spread.variance.double().numpy(),
        "window_variance": _window_variance(queries[0], scored, temperature),
    }


def _window_variance(
    queries: NDArray[np.float32],
    scored: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    temperature: float,
) -> FloatArray:
    """Variance of the probabilities of documents over windows, summed over documents."""
    from ...invar import ranking_patterns, view_probabilities

    found = [np.zeros(0)]
    for begin in range(0, len(queries), _QUERIES):
        some = queries[begin : begin + _QUERIES]
        scores = []
        for vectors, owners in scored:
            first = np.unique(owners, return_index=True)[1]
            scores.append(np.maximum.reduceat(some @ vectors.T, first, axis=1))
        table = view_probabilities(np.stack(scores), temperature)
        found.append(ranking_patterns(table, 1).uncertainty)
    return np.concatenate(found)


def rank_by_words(views: QuestionViews, *, steps: StepStore) -> ViewRankings:
    """Ranks documents by BM25 for every wording, unless an earlier run did; no windows.

    Args:
        views: questions and wordings.
        steps: keeps the rankings.
    """

    def make() -> dict[str, NDArray[Any]]:
        from ...data import document_texts
        from ...retrieval.bm25 import Bm25

        index = Bm25(list(document_texts(views.data.documents, views.data.titles)))
        k = min(_DEPTH, len(index))
        return {"ids": np.stack([index.search(texts, k).ids for texts in views.wordings])}

    ids = steps.once("rankings by words", views.digest(), make)["ids"].astype(np.int64)
    unknown = np.full(ids.shape[1], np.nan)
    return ViewRankings(ids, ids[:1], (unknown, unknown))


def measure_rankings(
    found: ViewRankings, views: QuestionViews
) -> dict[tuple[str, str], FloatArray]:
    """Computes measures of the original wording, and means over the unseen ones.

    Args:
        found: rankings of the questions of `views`.
        views: with the relevant documents.

    Returns:
        By condition and measure, float64 ``[n]``.
    """
    by_view = [_measures(ids, views.data) for ids in found.wordings]
    values = {(ORIGINAL, name): value for name, value in by_view[0].items()}
    if len(by_view) > 1:
        for name in by_view[0]:
            values[REWRITES, name] = np.mean([one[name] for one in by_view[1:]], 0)
    return values


def measure_robustness(
    found: ViewRankings, views: QuestionViews, cutoff: int
) -> dict[tuple[str, str], FloatArray]:
    """Computes how much rankings differ between wordings, and between windows.

    Args:
        found: rankings of the questions of `views`.
        views: with the relevant documents.
        cutoff: documents of a ranking that are compared.

    Returns:
        By condition and measure, float64 ``[n]``.
    """
    from ...evaluate import decision_flips, jaccard, rank_biased_overlap, view_spread

    values: dict[tuple[str, str], FloatArray] = {}
    sides = (REWRITES, found.wordings), (WINDOWS, found.windows)
    for (condition, ids), variance in zip(sides, found.variances, strict=True):
        if len(ids) < 2:
            continue
        measured = [_measures(own, views.data) for own in ids]
        spread = view_spread([one[RECIPROCAL] for one in measured])
        flips = decision_flips(np.stack([one[FIRST] for one in measured]) > 0)
        depth = min(cutoff, ids.shape[2])
        values[condition, f"deviation of {RECIPROCAL}"] = spread.deviation
        values[condition, f"lowest {RECIPROCAL}"] = spread.worst
        values[condition, f"Jaccard@{depth}"] = jaccard(ids, depth)
        values[condition, f"RBO@{depth}"] = rank_biased_overlap(ids, k=depth)
        values[condition, f"flips of {FIRST}"] = flips
        if not np.isnan(variance).any():
            values[condition, VARIANCE] = variance
    return values


def _measures(ids: NDArray[np.int64], data: TrainingSet) -> Mapping[str, FloatArray]:
    from ...evaluate import evaluate

    padded = ids
    if ids.shape[1] < _DEPTH:  # a corpus may have fewer documents
        padded = np.pad(ids, ((0, 0), (0, _DEPTH - ids.shape[1])), constant_values=-1)
    gains = np.ones(len(data.positives.indices))
    qrels = data.positives.offsets, data.positives.indices, gains
    return evaluate(padded, qrels, [RECIPROCAL, FIRST, RECALL])
