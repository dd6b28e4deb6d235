"""Adaptive Retrieval: passages for unpopular subjects only, by a popularity threshold per relation.

Mallen et al., "When Not to Trust Language Models", ACL 2023: an LM knows facts about popular
subjects by heart, and passages can mislead it there. Thresholds are chosen on a development split,
where both answers of every question are known, and applied to a test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer

FloatArray = NDArray[np.float64]
AUTHORS_BINS = 10  # of log popularity, in the authors' notebook


@dataclass(frozen=True, eq=False)
class AnsweredQuestions:
    """How two ways of answering did on the questions of a split.

    Args:
        ids: n different ids.
        relations: n names.
        popularity: ``[n]`` of the subject, at least 0, such as monthly page views.
        parametric: ``[n]`` 1 where the LM is right without retrieved passages, otherwise 0. In AAR
            it reads a document that it generated (GenRead).
        retrieval: ``[n]`` 1 where it is right with retrieved passages, otherwise 0.

    Raises:
        ValueError: lengths differ, an id occurs twice, a value is negative or not finite.
    """

    ids: Sequence[str]
    relations: Sequence[str]
    popularity: Any
    parametric: Any
    retrieval: Any

    def __post_init__(self) -> None:
        op, n = "AnsweredQuestions", len(self.ids)
        if len(set(self.ids)) < n:
            raise ValueError(f"{op}: an id occurs twice")
        if len(self.relations) != n:
            raise ValueError(
                f"{op}: expected relations of {n} questions, got {len(self.relations)}"
            )
        for name in ("popularity", "parametric", "retrieval"):
            object.__setattr__(self, name, _checked(getattr(self, name), op, name, n))


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """Values of Adaptive Retrieval on the test split, and the thresholds that gave them."""

    values: FloatArray  # [n] of the way that was used
    retrieves: NDArray[np.bool_]  # [n] whether it was retrieval
    thresholds: dict[str, float]  # relation -> popularity below which passages are retrieved
    default: float  # threshold of relations that the development split does not have


def adaptive_retrieval(
    development: AnsweredQuestions, test: AnsweredQuestions, *, n_bins: int | None = None
) -> AdaptiveResult:
    """Chooses thresholds on a development split, and applies them to a test split.

    Args:
        development: answers that thresholds are chosen by.
        test: answers to other questions, which no threshold depends on.
        n_bins: of `popularity_threshold`.

    Raises:
        ValueError: a question is in both splits; the development split is empty; n_bins below 1.

    Example:
        >>> development = AnsweredQuestions(["0", "1"], ["P19"] * 2, [10, 1000], [0, 1], [1, 0])
        >>> test = AnsweredQuestions(["2", "3"], ["P19"] * 2, [5, 5000], [0, 1], [1, 0])
        >>> adaptive_retrieval(development, test).values.tolist()
        [1.0, 1.0]
    """
    op = "adaptive_retrieval"
    shared = set(development.ids) & set(test.ids)
    if shared:
        raise ValueError(
            f"{op}: {len(shared)} questions are in both splits, such as {min(shared)!r}; "
            f"thresholds must not be chosen on the test split"
        )
    if not len(development.ids):
        raise ValueError(f"{op}: the development split is empty")
    thresholds = popularity_thresholds(development, n_bins=n_bins)
    default = popularity_threshold(
        development.popularity, development.parametric, development.retrieval, n_bins=n_bins
    )
    limits = np.array([thresholds.get(name, default) for name in test.relations], np.float64)
    retrieves = test.popularity < limits
    return AdaptiveResult(
        values=np.where(retrieves, test.retrieval, test.parametric),
        retrieves=retrieves,
        thresholds=thresholds,
        default=default,
    )


def popularity_thresholds(
    development: AnsweredQuestions, *, n_bins: int | None = None
) -> dict[str, float]:
    """Chooses the threshold of each relation; see `popularity_threshold`."""
    relations = np.asarray(development.relations, np.str_)
    return {
        str(name): popularity_threshold(
            development.popularity[relations == name],
            development.parametric[relations == name],
            development.retrieval[relations == name],
            n_bins=n_bins,
        )
        for name in np.unique(relations)
    }


def popularity_threshold(
    popularity: Any, parametric: Any, retrieval: Any, *, n_bins: int | None = None
) -> float:
    """Finds the threshold below which retrieving gives the most right answers.

    Of equally good thresholds the smallest is taken, which retrieves least.

    Args:
        popularity, parametric, retrieval: ``[n]``, as in `AnsweredQuestions`.
        n_bins: None tries every split of the questions by popularity. A number tries the edges of
            so many equal bins of log popularity instead, 10 in the authors' notebook; fewer
            thresholds fit the development split less closely.

    Returns:
        Questions with a lower popularity are to be answered with retrieval: the smallest popularity
        for none of them, infinity for all.

    Raises:
        ValueError: no questions; lengths differ; a value is negative or not finite; n_bins below 1.

    >>> popularity_threshold([1, 10, 100], parametric=[0, 0, 1], retrieval=[1, 1, 0])
    100.0
    """
    op, n = "popularity_threshold", len(popularity)
    if not n:
        raise ValueError(f"{op}: expected one question or more, got none")
    values = _checked(popularity, op, "popularity", n)
    retrieved = _checked(retrieval, op, "retrieval", n)
    parametric = _checked(parametric, op, "parametric", n)
    candidates = np.append(_edges(values, n_bins), np.inf)
    order = np.argsort(values, kind="stable")
    # Right answers if the i least popular questions are answered with retrieval, for i from 0 to n.
    gain = (retrieved - parametric)[order]
    right = np.concatenate([[0.0], np.cumsum(gain)])
    below = np.searchsorted(values[order], candidates, side="left")
    return float(candidates[right[below].argmax()])


def _checked(values: Any, op: str, name: str, n: int) -> FloatArray:
    found = np.asarray(values, np.float64)
    if found.shape != (n,):
        raise ValueError(f"{op}: {name} must be [{n}], got shape {found.shape}")
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"{op}: {name} must be finite and at least 0")
    return found


def _edges(popularity: FloatArray, n_bins: int | None) -> FloatArray:
    """Returns thresholds to try, rising; the first retrieves for no question."""
    if n_bins is None:
        return np.unique(popularity)
    as_integer(n_bins, "popularity_threshold", "n_bins", at_least=1)
    logs = np.log(np.maximum(popularity, 1.0))  # subjects without page views count as one view
    edges = np.exp(np.linspace(logs.min(), logs.max(), n_bins + 1)[:-1])
    return np.concatenate([[popularity.min()], edges[1:]])
