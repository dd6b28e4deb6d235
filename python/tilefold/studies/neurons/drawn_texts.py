"""Draws the queries and passages whose neurons are attributed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...data import TrainingSet
from ..subject import Subject

PARAPHRASES = (0, 1, 2, 3)  # of a world's questions: the overlap of their neurons is measured


def draw_queries(subject: Subject, n: int, seed: int) -> tuple[NDArray[np.int64], list[list[int]]]:
    """Draws queries, those that have paraphrases first, and returns the groups of paraphrases.

    No row outside a group asks for the same passages as a group.

    Args:
        subject: whose queries.
        n: at most as many.
        seed: of the draw.

    Returns:
        ``[at most n]`` rows of queries, and groups as places in these rows.
    """
    from ...mechanisms.probing.candidates import paraphrases

    data = subject.data
    rng = np.random.default_rng([seed, 7])
    if subject.world is not None:  # questions about a fact stand one after the other
        together = np.arange(len(data)).reshape(-1, len(PARAPHRASES)).tolist()
    else:
        together = paraphrases(data)
    chosen: list[int] = []
    groups = []
    for place in rng.permutation(len(together)):
        group = together[int(place)][: len(PARAPHRASES)]
        if len(chosen) + len(group) <= n:
            groups.append(list(range(len(chosen), len(chosen) + len(group))))
            chosen += group
    # Paraphrases are not independent texts: what is left of groups, or of those that did not fit,
    # is read where there is nothing else at all.
    others = np.setdiff1d(np.arange(len(data)), [row for group in together for row in group])
    if not len(chosen) and not len(others):
        others = np.array([group[0] for group in together])
    chosen += others[rng.permutation(len(others))[: n - len(chosen)]].tolist()
    return np.array(chosen), groups


def draw_passages(queries: TrainingSet, n: int, seed: int) -> list[int]:
    """Draws at most n relevant passages, each once, and returns their rows in order."""
    relevant = np.unique(queries.positives.indices)
    drawn = np.random.default_rng([seed, 8]).permutation(len(relevant))[:n]
    return [int(d) for d in relevant[np.sort(drawn)]]
