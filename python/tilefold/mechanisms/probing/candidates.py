"""Samples of probes: a query and passages in random order, one of which is relevant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data import TrainingSet
from ...ragged_lists import Integers

MAX_NEGATIVES = 4  # hard negatives of a sample, as in the study
Floats = NDArray[np.float32]


class Candidates(NamedTuple):
    """Samples of a probe, as row numbers of queries and of passages.

    As in the study there is a sample for every query and each of its positives; the relevant
    passage is the first.
    """

    queries: Integers  # [n]
    passages: Integers  # [n, 1 + negatives]

    @classmethod
    def of(cls, data: TrainingSet, *, negatives: int = MAX_NEGATIVES, seed: int = 42) -> Candidates:
        """Draws hard negatives without replacement, or with it where a query has fewer.

        Queries without any are left out.

        Args:
            data: queries with positives and hard negatives.
            negatives: number of hard negatives of each sample.
            seed: of the draw.

        Raises:
            ValueError: no query has a hard negative.

        Example:
            >>> from tilefold.ragged_lists import Lists
            >>> lists = Lists.pack([[0]]), Lists.pack([[1, 2]])
            >>> data = TrainingSet(["q"], ["who?"], list("abc"), list("abc"), *lists, [()])
            >>> Candidates.of(data, negatives=2).passages.shape
            (1, 3)
        """
        rng = np.random.default_rng(seed)
        queries, passages = [], []
        for row in range(len(data)):
            hard = data.negatives.of(row)
            if not len(hard):
                continue
            for positive in data.positives.of(row):
                drawn = rng.choice(hard, negatives, replace=len(hard) < negatives)
                queries.append(row)
                passages.append([positive, *drawn])
        if not queries:
            raise ValueError("Candidates: no query has a hard negative; mine some first")
        return cls(np.array(queries), np.array(passages))

    def features(self, queries: Any, passages: Any) -> Floats:
        """Returns the rows of each query and its passages, ``[n, 1 + passages, dim]``.

        Args:
            queries: ``[queries, dim]`` rows of a layer.
            passages: ``[passages, dim]`` rows of the same layer.
        """
        q, p = (np.asarray(rows, np.float32) for rows in (queries, passages))
        return np.concatenate([q[self.queries][:, None], p[self.passages]], axis=1)

    def take(self, rows: Any) -> Candidates:
        """Returns the samples with these row numbers."""
        return Candidates(self.queries[rows], self.passages[rows])

    def split(
        self, share: float, *, groups: Sequence[Sequence[int]] = (), seed: int = 42
    ) -> tuple[Candidates, Candidates]:
        """Splits samples in two, the second with a share of the queries; no query is in both.

        Args:
            share: share of queries, or of their groups.
            groups: rows of queries that stay together, such as of `paraphrases`.
            seed: of the draw.
        """
        group = self.groups(groups)
        known = np.unique(group)
        order = np.random.default_rng(seed).permutation(len(known))
        held = np.isin(group, known[order[: round(share * len(known))]])
        return self.take(~held), self.take(held)

    def groups(self, groups: Sequence[Sequence[int]] = ()) -> Integers:
        """Returns ``[n]`` group numbers, equal for samples of one query or group of queries.

        >>> samples = Candidates(np.array([0, 0, 1, 2]), np.zeros((4, 2), np.int64))
        >>> samples.groups([[0, 2]]).tolist()
        [0, 0, 1, 0]
        """
        first = {row: group[0] for group in groups for row in group}
        return np.array([first.get(row, row) for row in self.queries.tolist()], np.int64)


def present(
    x: NDArray[Any],
    n_candidates: int,
    *,
    y: NDArray[Any] | None = None,
    rows: NDArray[Any] | None = None,
    seed: Any = 0,
) -> tuple[Floats, Integers]:
    """Draws n of the passages of each query, the relevant one among them, in random order.

    Args:
        x: ``[n, 1 + passages, dim]`` queries, then passages.
        n_candidates: number of passages of a sample.
        y: ``[n]`` number of the relevant passage; 0 by default.
        rows: row numbers of samples; all by default.
        seed: of the draw; an integer or a `numpy.random.Generator`.

    Returns:
        ``[rows, 1 + n_candidates, dim]``, and the place of the relevant passage, ``[rows]``.

    Raises:
        ValueError: there are fewer passages.
    """
    held = x.shape[1] - 1
    if not 2 <= n_candidates <= held:
        raise ValueError(f"present: n_candidates must be 2 to {held}, got {n_candidates}")
    rng = np.random.default_rng(seed)
    some = np.arange(len(x)) if rows is None else np.asarray(rows)
    relevant = np.zeros(len(some), np.int64) if y is None else np.asarray(y, np.int64)[some]
    others = np.argsort(rng.random((len(some), held - 1)), axis=1)[:, : n_candidates - 1]
    others = others + (others >= relevant[:, None])  # skips the relevant one
    shown = np.concatenate([relevant[:, None], others], axis=1)
    order = np.argsort(rng.random(shown.shape), axis=1)
    shown = np.take_along_axis(shown, order, axis=1)
    columns = np.concatenate([np.zeros((len(some), 1), np.int64), 1 + shown], axis=1)
    places: Integers = (shown == relevant[:, None]).argmax(axis=1)
    return np.asarray(x, np.float32)[some[:, None], columns], places


def paraphrases(data: TrainingSet) -> list[list[int]]:
    """Groups rows of queries that have the same positives, where there are two or more.

    >>> from tilefold.ragged_lists import Lists
    >>> positives, none = Lists.pack([[0], [1], [0]]), Lists.pack([[], [], []])
    >>> texts = ["who?", "when?", "who is it?"], ["a", "b"]
    >>> ids = list("qrs"), list("ab")
    >>> paraphrases(TrainingSet(ids[0], texts[0], ids[1], texts[1], positives, none, [()] * 3))
    [[0, 2]]
    """
    groups: dict[frozenset[int], list[int]] = {}
    for row in range(len(data)):
        passages = frozenset(data.positives.of(row).tolist())
        groups.setdefault(passages, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def shuffle_queries(x: Floats, *, seed: int = 0) -> Floats:
    """Exchanges the queries of samples at random, for a control in which they cannot help."""
    order = np.random.default_rng(seed).permutation(len(x))
    shuffled = x.copy()
    shuffled[:, 0] = x[order, 0]
    return shuffled
