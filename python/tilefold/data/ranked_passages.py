"""Looks up the texts of ranked passages, and checks rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..integers import as_integer
from .qrels import IdArray


def ranked_passages(ids: Any, texts: Sequence[str], n_passages: int) -> list[list[str]]:
    """Looks up the texts of the first passages of each question.

    Args:
        ids: ``[n, k]`` integers, best first: positions in `texts`, -1 where there is no result.
        texts: of the corpus, without titles.
        n_passages: of each question, at most k.

    Returns:
        The texts of each question; fewer where there are fewer results.

    Raises:
        ValueError: ids of another shape or dtype, an id that is no position, n_passages above k.

    >>> ranked_passages([[1, 0], [1, -1]], ["a hen", "a fox"], 2)
    [['a fox', 'a hen'], ['a fox']]
    """
    op = "ranked_passages"
    n = as_integer(n_passages, op, "n_passages", at_least=1)
    ranking = checked_ranking(op, ids, len(texts), at_least=n)
    return [[texts[place] for place in row if place >= 0] for row in ranking[:, :n].tolist()]


def checked_ranking(op: str, ids: Any, n_texts: int, *, at_least: int = 0) -> IdArray:
    """Returns a ranking of texts as int64 ``[n, k]``.

    Args:
        op: starts the messages.
        ids: ``[n, k]`` integers: positions of texts, best first, -1 where there is no result.
        n_texts: number of texts.
        at_least: number of passages that are wanted.

    Raises:
        ValueError: ids of another shape or dtype, an id that is no position, too few results.

    Example:
        >>> checked_ranking("search", [[1, -1]], 2)
        array([[ 1, -1]])
    """
    ranking = np.asarray(ids)
    if ranking.ndim != 2 or ranking.dtype.kind not in "iu":
        raise ValueError(
            f"{op}: ids must be [n, k] integers, got {ranking.dtype} of shape {ranking.shape}"
        )
    if at_least > ranking.shape[1]:
        raise ValueError(
            f"{op}: n_passages is {at_least}, but the ranking has {ranking.shape[1]} results"
        )
    if ranking.size and not -1 <= ranking.min() <= ranking.max() < n_texts:
        raise ValueError(
            f"{op}: ids must lie between -1 and {n_texts - 1}, the last text, "
            f"got {ranking.min()} to {ranking.max()}"
        )
    return ranking.astype(np.int64)
