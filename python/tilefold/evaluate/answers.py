"""Searches for answers in retrieved passages: DPR's top-k accuracy, by the rule of each data set.

Each passage is brought into the form in which answers are looked up once, for all questions that
retrieved it.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .predictions import normalise_answer
from .tokens import spaced_tokens

Match = Literal["string", "regex", "kilt"]
Finder = Callable[[str], bool]
Hits = NDArray[np.bool_]


def has_answer(text: str, answers: Sequence[str], *, match: Match = "string") -> bool:
    """Returns whether a passage contains one of the answers.

    Args:
        text: the passage, without its title; DPR's own option for searching titles as well puts
            title, " . " and text together.
        answers: accepted answers. One that is empty, or has no token, matches nothing.
        match: "string" looks for the answer's tokens in a row, in any case (Natural Questions,
            TriviaQA, WebQuestions, SQuAD); "regex" takes answers as regular expressions (Curated
            TREC), of which an invalid one matches nothing; "kilt" looks for the answer as part of
            the text, both in lower case and without punctuation, articles and extra blanks.

    Raises:
        TypeError: answers is a single string.
        ValueError: an unknown match.

    Source: Karpukhin et al., EMNLP 2020; Petroni et al., NAACL 2021, for KILT.

    >>> has_answer("She was born in São Paulo, in 1904.", ["sao paulo", "1904"])
    True
    >>> has_answer("the artist", ["art"]), has_answer("the artist", ["art"], match="kilt")
    (False, True)
    """
    rule = _rule(match, "has_answer")
    form = rule.form(text)
    return any(found(form) for found in _finders(rule, answers, "has_answer"))


def answer_hits(
    ids: Any,
    passages: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    match: Match = "string",
) -> Hits:
    """Evaluates `has_answer` for every question and its retrieved passages.

    Args:
        ids: [n, k] integers, best first: positions in `passages`, -1 where there is no result.
        passages: texts, without titles.
        answers: accepted answers of each of the n questions.
        match: as in `has_answer`.

    Returns:
        bool [n, k], for `top_k_accuracy`.

    Raises:
        TypeError: the answers of a question are a single string.
        ValueError: ids of another shape or dtype, an id that is no position, an unknown match.

    >>> answer_hits([[1, 0, -1]], ["a red fox", "a hen"], [["Red  fox"]])
    array([[False,  True, False]])
    """
    rule = _rule(match, "answer_hits")
    ranking = _ranking(ids, len(answers), len(passages))
    finders = [_finders(rule, row, "answer_hits") for row in answers]
    hits = np.zeros(ranking.shape, np.bool_)
    for passage, places in _places(ranking):
        form = rule.form(passages[passage])
        for row, column in places:
            hits[row, column] = any(found(form) for found in finders[row])
    return hits


def top_k_accuracy(hits: Any, ks: Sequence[int] = (1, 5, 20, 100)) -> dict[str, NDArray[Any]]:
    """Computes, for each question, 1 if one of the first k passages has an answer, otherwise 0.

    Args:
        hits: bool [n, m], as `answer_hits` gives them.
        ks: ranks that count.

    Returns:
        "Accuracy@k" -> float64 [n]; `mean` of it is the figure that papers report.

    Raises:
        ValueError: hits of another shape or dtype, or k below 1 or beyond m.

    >>> top_k_accuracy([[False, True], [False, False]], ks=[1, 2])
    {'Accuracy@1': array([0., 0.]), 'Accuracy@2': array([1., 0.])}
    """
    found = np.asarray(hits)
    if found.ndim != 2 or found.dtype != np.bool_:
        raise ValueError(
            f"top_k_accuracy: hits must be bool [n, k], got {found.dtype} of shape {found.shape}"
        )
    for k in ks:
        if not 1 <= k <= found.shape[1]:
            raise ValueError(
                f"top_k_accuracy: ks must lie between 1 and the {found.shape[1]} passages of a "
                f"question, got {k}"
            )
    return {f"Accuracy@{k}": np.where(found[:, :k].any(1), 1.0, 0.0) for k in ks}


# ---- rules ---------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    form: Callable[[str], str]  # of a passage, in which finders look
    finder: Callable[[str], Finder | None]  # of an answer; None where it matches nothing


def _contains(needle: str) -> Finder | None:
    return (lambda form: needle in form) if needle.strip() else None


def _matches(pattern: str) -> Finder | None:
    try:
        search = re.compile(_decomposed(pattern), re.IGNORECASE | re.MULTILINE).search
    except (re.error, OverflowError, RecursionError):
        return None
    return (lambda form: search(form) is not None) if pattern else None


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


_RULES = {
    "string": _Rule(spaced_tokens, lambda answer: _contains(spaced_tokens(answer))),
    "regex": _Rule(_decomposed, _matches),
    "kilt": _Rule(normalise_answer, lambda answer: _contains(normalise_answer(answer))),
}


def _rule(match: str, op: str) -> _Rule:
    if match not in _RULES:
        raise ValueError(f"{op}: match must be one of {list(_RULES)}, got {match!r}")
    return _RULES[match]


def _finders(rule: _Rule, answers: Sequence[str], op: str) -> list[Finder]:
    if isinstance(answers, str):
        raise TypeError(f"{op}: the answers of a question must be a list, got {answers!r}")
    return [found for found in map(rule.finder, answers) if found is not None]


# ---- rankings ------------------------------------------------------------------------------------


def _ranking(ids: Any, n: int, n_passages: int) -> NDArray[np.int64]:
    ranking = np.asarray(ids)
    if ranking.ndim != 2 or ranking.dtype.kind not in "iu" or len(ranking) != n:
        raise ValueError(
            f"answer_hits: ids must be [{n}, k] integers, a row for the answers of each question, "
            f"got {ranking.dtype} of shape {ranking.shape}"
        )
    if ranking.size and ranking.max() >= n_passages:
        raise ValueError(
            f"answer_hits: ids must be below {n_passages}, the number of passages, "
            f"got {ranking.max()}"
        )
    return ranking.astype(np.int64, copy=False)


def _places(ranking: NDArray[np.int64]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yields each passage with the rows and columns at which it was retrieved."""
    order = np.argsort(ranking, axis=None, kind="stable")
    passages = ranking.ravel()[order]
    order, passages = order[passages >= 0], passages[passages >= 0]
    starts = np.flatnonzero(np.diff(passages, prepend=-1)).tolist()
    for start, stop in itertools.pairwise([*starts, len(order)]):
        rows, columns = np.divmod(order[start:stop], ranking.shape[1])
        yield int(passages[start]), list(zip(rows.tolist(), columns.tolist(), strict=True))
