"""Measures whether attribution scores are concentrated on few neurons or spread over many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Decentralisation(NamedTuple):
    """For each text: number of `active` neurons, `effective` number, and `gini` coefficient."""

    active: NDArray[np.int64]
    effective: Floats
    gini: Floats


def decentralisation(
    attribution: NDArray[np.floating], *, threshold: float = 0.1
) -> Decentralisation:
    """Computes how attribution scores are spread over neurons.

    - `active`: neurons whose score exceeds a share of the text's maximum (0.1 in the study);
    - `effective`: exponential of the entropy of the scores as shares, from 1 to all neurons;
    - `gini`: from 0 where all scores are equal, to 1 where one neuron has all.

    Args:
        attribution: ``[texts, ...]``; negative scores count as 0.
        threshold: of active neurons.

    Raises:
        ValueError: no neurons, a threshold outside 0 to 1.

    Example:
        >>> found = decentralisation(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 5.0]]))
        >>> found.active.tolist(), found.effective.round(6).tolist(), found.gini.tolist()
        ([4, 1], [4.0, 1.0], [0.0, 0.75])
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"decentralisation: threshold must be 0 to 1, got {threshold}")
    values = np.maximum(np.asarray(attribution, np.float64).reshape(len(attribution), -1), 0)
    if values.shape[1] == 0:
        raise ValueError("decentralisation: expected neurons, got none")
    n, total = values.shape[1], values.sum(1)
    shares = values / np.where(total > 0, total, 1)[:, None]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    # Gini: 2 sum of i x_(i) / (n sum of x) - (n + 1) / n, over the values in rising order
    rising = np.sort(shares, axis=1)
    gini = 2 * (rising * np.arange(1, n + 1)).sum(1) / n - (n + 1) / n
    return Decentralisation(
        (values > threshold * values.max(1, keepdims=True)).sum(1),
        np.where(total > 0, np.exp(-(shares * logs).sum(1)), 0),
        np.where(total > 0, gini, np.nan),
    )


def active_counts(
    attribution: NDArray[np.floating], thresholds: Sequence[float] = (0.1,)
) -> NDArray[np.int64]:
    """Counts the texts in which each neuron is active, ``[thresholds, ...]``; counts add up.

    Args:
        attribution: ``[texts, ...]`` with maximum 1 for each text (`WeightAttribution.relative`).
        thresholds: a neuron above one is active.

    >>> active_counts(np.array([[1.0, 0.05], [1.0, 0.2]]), (0.1, 0.01)).tolist()
    [[2, 1], [2, 2]]
    """
    return np.stack([(attribution > t).sum(0) for t in thresholds])


def pathway_overlap(paraphrases: Sequence[Collection[tuple[int, int]]]) -> float:
    """Computes the mean Jaccard index of the neurons of every two paraphrases.

    NaN where there are fewer than two, or all are empty.

    >>> pathway_overlap([{(0, 1), (0, 2)}, {(0, 1)}, {(0, 1)}])
    0.6666666666666666
    """
    found = []
    for one, other in combinations(map(set, paraphrases), 2):
        if one | other:
            found.append(len(one & other) / len(one | other))
    return float(np.mean(found)) if found else float("nan")
