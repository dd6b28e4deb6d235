"""Finds queries for which an intervention loses what they ask for, and warns of their number."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import has_answer
from ...ragged_lists import Lists
from .context_windows import Window

Flags = NDArray[np.bool_]


def lost_answers(
    window: Window,
    documents: Sequence[str],
    positives: Lists,
    answers: Sequence[Sequence[str]],
    *,
    titles: Sequence[str] | None = None,
) -> Flags:
    """Finds queries whose answer stands in a relevant document, and in none of its chunks.

    Args:
        window: cuts the documents.
        documents: texts.
        positives: relevant documents of each query.
        answers: accepted answers of each query, looked up as by `tilefold.evaluate.has_answer`. A
            query without answers, or whose relevant documents have none of them, loses nothing.
        titles: of the documents, where the window's template has {title}.

    Returns:
        bool ``[n]``.

    Raises:
        ValueError: not as many answers as lists of positives; as of `Window.chunks`.

    Example:
        >>> first = Window(2, truncate=True)
        >>> lost_answers(first, ["she wrote Emma"], Lists.pack([[0]]), [["emma"]])
        array([ True])
    """
    n = len(positives.offsets) - 1
    if len(answers) != n:
        raise ValueError(f"lost_answers: expected answers of {n} queries, got {len(answers)}")
    needed = np.unique(positives.indices)
    own_titles = None if titles is None else [titles[row] for row in needed]
    cut = window.chunks([documents[row] for row in needed], own_titles)
    by_document: dict[int, list[str]] = {int(row): [] for row in needed}
    for text, owner in zip(cut.texts, cut.owners, strict=True):
        by_document[int(needed[owner])].append(text)
    lost = np.zeros(n, np.bool_)
    for query, accepted in enumerate(answers):
        own = positives.of(query).tolist()
        whole = any(has_answer(documents[row], accepted) for row in own)
        lost[query] = whole and not any(
            has_answer(chunk, accepted) for row in own for chunk in by_document[row]
        )
    return lost


def lost_documents(before: Any, after: Any, positives: Lists) -> Flags:
    """Finds queries with a relevant document in one ranking, and none in another.

    Args:
        before, after: ``[n, k]`` and ``[n, k']`` document ids, -1 for none.
        positives: relevant documents of each query.

    Returns:
        bool ``[n]``.

    Raises:
        ValueError: other shapes, or not one list of positives for each query.

    Example:
        >>> lost_documents([[3, 5], [3, 5]], [[3], [3]], Lists.pack([[5], [3]]))
        array([ True, False])
    """
    tables = [np.asarray(table) for table in (before, after)]
    n = len(positives.offsets) - 1
    for name, table in zip(("before", "after"), tables, strict=True):
        if table.ndim != 2 or len(table) != n or table.dtype.kind not in "iu":
            raise ValueError(
                f"lost_documents: {name} must be integers [{n}, k], a row for each list of "
                f"positives, got {table.dtype} {table.shape}"
            )
    found = np.zeros((2, n), np.bool_)
    for side, table in enumerate(tables):
        for query in range(n):
            found[side, query] = np.isin(table[query], positives.of(query)).any()
    lost: Flags = found[0] & ~found[1]
    return lost


def warn_of_lost(op: str, what: str, lost: Flags, stacklevel: int = 2) -> None:
    """Warns of the number of queries for which something is lost, if there are any.

    Args:
        op: the public function, which starts the message.
        what: is lost, and by which intervention.
        lost: bool ``[n]``.
        stacklevel: of `warnings.warn`; 2 is the caller of this function.
    """
    if lost.any():
        warnings.warn(
            f"{op}: {np.count_nonzero(lost)} of {len(lost)} queries lose {what}",
            stacklevel=stacklevel + 1,
        )
