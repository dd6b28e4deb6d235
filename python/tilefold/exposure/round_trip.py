"""Keeps synthetic questions that lead back to the passage they were made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..integers import as_integer
from .synthetic_questions import SyntheticQuestions

Search = Callable[[Sequence[str], int], Any]


def round_trip(made: SyntheticQuestions, search: Search, *, k: int = 1) -> NDArray[np.bool_]:
    """Tests which questions retrieve a document that they were made from.

    The consistency filter of synthetic questions (Alberti et al., "Synthetic QA Corpora Generation
    with Roundtrip Consistency", 2019; for retrieval Dai et al., "Promptagator", 2023, section 3.2).

    Args:
        made: questions and their documents.
        search: a function of texts and k that returns ids ``[n, k]`` of documents, best first, -1
            where there is none, such as ``lambda texts, k: bm25.search(texts, k).ids``.
        k: number of top results in which a document of the question must appear; 1 as in
            Promptagator.

    Returns:
        ``[n]`` booleans, for `SyntheticQuestions.take`.

    Raises:
        ValueError: k below 1, or results of another shape.

    Example:
        >>> made = SyntheticQuestions.merged(["a cat", "a dog"], [0, 1])
        >>> round_trip(made, lambda texts, k: [[0], [0]]).tolist()
        [True, False]
    """
    k = as_integer(k, "round_trip", "k", at_least=1)
    if not len(made):
        return np.zeros(0, np.bool_)
    ids = np.asarray(search(made.questions, k))
    if ids.shape != (len(made), k):
        raise ValueError(
            f"round_trip: search must return ids [{len(made)}, {k}], got {list(ids.shape)}"
        )
    kept = [bool(np.isin(own, made.documents.of(row)).any()) for row, own in enumerate(ids)]
    return np.array(kept, np.bool_)
