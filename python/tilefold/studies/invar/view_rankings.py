"""Rankings of test questions under every wording and context window, and their measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_array, digest_of_columns
from ..study import StepStore
from ..training_digest import digest_of_training
from .invar_result import BOTH, ORIGINAL, REWRITES, WINDOWS
from .invar_settings import DEPTH

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...invar import Interventions
    from ...models import BiEncoder

FloatArray = NDArray[np.float64]
RECIPROCAL, FIRST, RECALL = "RR@10", "Success@1", "R@100"
VARIANCE = "variance of probabilities"


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

    @cached_property
    def interventions(self) -> Interventions:
        """Every wording in every window, the question itself and whole documents first."""
        from ...invar import Interventions, Window

        windows = [None, *map(Window, self.windows)]
        return Interventions(self.data.queries, self.unseen, windows)

    def digest(self) -> list[Any]:
        """Returns digests of everything that rankings depend on beside the model."""
        texts = digest_of_columns(*self.interventions.wordings)
        return [texts, *digest_of_training(self.data), *self.windows]


@dataclass(frozen=True)
class ViewRankings:
    """Rankings of n questions under S wordings in W windows.

    Args:
        ids: ``[S, W, n, depth]`` document ids; the question itself and whole documents first.
        variances: of the probabilities of documents, ``[n]`` by condition; none for a system
            without probabilities.
        reranked: rankings of coarse candidates, ``[S, W, n, depth]``; None where there are none.
    """

    ids: NDArray[np.int64]
    variances: Mapping[str, FloatArray] = field(default_factory=dict)
    reranked: NDArray[np.int64] | None = None

    @property
    def wordings(self) -> NDArray[np.int64]:
        """Rankings of whole documents, ``[S, n, depth]``."""
        return self.ids[:, 0]


def compared_views(n_wordings: int, n_windows: int) -> dict[str, NDArray[np.int64]]:
    """Returns the views that each condition compares, which are two or more.

    Args:
        n_wordings: the question itself included.
        n_windows: whole documents included.

    Returns:
        By condition the places of its views, where windows change faster than wordings.
    """
    places = np.arange(n_wordings * n_windows).reshape(n_wordings, n_windows)
    conditions = {REWRITES: places[:, 0], WINDOWS: places[0]}
    if min(n_wordings, n_windows) > 1:  # else it would be one of the two
        conditions[BOTH] = places.ravel()
    return {name: own for name, own in conditions.items() if len(own) > 1}


def rank_views(
    model: BiEncoder,
    views: QuestionViews,
    temperature: float | None,
    *,
    candidates: NDArray[np.int64] | None = None,
    steps: StepStore,
    batch_size: int,
    progress: bool,
) -> ViewRankings:
    """Ranks documents for every wording and window, unless an earlier run did.

    Args:
        model: the retriever.
        views: questions, wordings and windows.
        temperature: of the probabilities; None for a retriever whose temperature is not known,
            which then has no variances.
        candidates: ``[S, W, n, c]`` documents to rank again, beside the ranking of all.
        steps: keeps the rankings.
        batch_size: texts in a forward pass.
        progress: whether to show progress on stderr.
    """
    product = views.interventions
    shape = len(product.wordings), len(product.windows)
    conditions = compared_views(*shape)
    towers = model.query_encoder.fingerprint(), model.document_encoder.fingerprint()
    depends = [*towers, model.title_format, views.digest(), temperature]
    # What is kept: of which views, and for which conditions.
    depends += [[each.name for each in product], list(conditions), DEPTH]
    listed = None
    if candidates is not None:
        listed = candidates.reshape(-1, *candidates.shape[2:])
        depends.append(digest_of_array(listed))

    def make() -> dict[str, NDArray[Any]]:
        from ...invar import EncodedInterventions

        data = views.data
        texts = product, data.documents, data.titles
        options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        encoded = EncodedInterventions(model, *texts, prompts=data.prompts, **options)
        depth = min(DEPTH, len(data.documents))
        found: dict[str, NDArray[Any]] = {"ids": encoded.rankings(depth=depth).ids}
        if listed is not None:
            found["reranked"] = encoded.rankings(depth=depth, candidates=listed).ids
        if temperature is not None:
            selections = [own.tolist() for own in conditions.values()]
            found["variances"] = encoded.probability_variances(temperature, selections)
        return found

    found = steps.once("rankings of views", depends, make)
    variances = {}
    if "variances" in found:
        variances = dict(zip(conditions, found["variances"], strict=True))
    rankings = {
        name: ids.astype(np.int64).reshape(*shape, *ids.shape[1:])
        for name, ids in found.items()
        if name in ("ids", "reranked")
    }
    return ViewRankings(variances=variances, **rankings)


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
        k = min(DEPTH, len(index))
        wordings = views.interventions.wordings
        return {"ids": np.stack([index.search(texts, k).ids for texts in wordings])}

    ids = steps.once("rankings by words", views.digest(), make)["ids"].astype(np.int64)
    return ViewRankings(ids[:, None])


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
    """Computes how much rankings differ between wordings, between windows, and between all views.

    Args:
        found: rankings of the questions of `views`.
        views: with the relevant documents.
        cutoff: documents of a ranking that are compared.

    Returns:
        By condition and measure, float64 ``[n]``.
    """
    from ...evaluate import decision_flips, jaccard, rank_biased_overlap, view_spread

    ids = found.ids.reshape(-1, *found.ids.shape[2:])
    measured = [_measures(own, views.data) for own in ids]
    reciprocal = np.stack([own[RECIPROCAL] for own in measured])
    first = np.stack([own[FIRST] for own in measured]) > 0
    depth = min(cutoff, ids.shape[2])
    values: dict[tuple[str, str], FloatArray] = {}
    for condition, places in compared_views(*found.ids.shape[:2]).items():
        spread = view_spread(reciprocal[places])
        values[condition, f"deviation of {RECIPROCAL}"] = spread.deviation
        values[condition, f"lowest {RECIPROCAL}"] = spread.worst
        values[condition, f"Jaccard@{depth}"] = jaccard(ids[places], depth)
        values[condition, f"RBO@{depth}"] = rank_biased_overlap(ids[places], k=depth)
        values[condition, f"flips of {FIRST}"] = decision_flips(first[places])
        if condition in found.variances:
            values[condition, VARIANCE] = found.variances[condition]
    return values


def _measures(ids: NDArray[np.int64], data: TrainingSet) -> Mapping[str, FloatArray]:
    from ...evaluate import evaluate

    padded = ids
    if ids.shape[1] < DEPTH:  # a corpus may have fewer documents
        padded = np.pad(ids, ((0, 0), (0, DEPTH - ids.shape[1])), constant_values=-1)
    gains = np.ones(len(data.positives.indices))
    qrels = data.positives.offsets, data.positives.indices, gains
    return evaluate(padded, qrels, [RECIPROCAL, FIRST, RECALL])
