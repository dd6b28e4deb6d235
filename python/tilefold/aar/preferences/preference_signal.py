"""Defines the protocol of preference signals, and the checks that all of them share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...models import CausalLM, EncoderDecoderLM
from ...models.length_batches import check_texts


class PreferenceSignal(Protocol):
    """Scores how much a source LM prefers each passage of a question.

    AAR takes the passages with the highest scores as positives of its retriever (Yu et al., ACL
    2023, eq. 5); their order alone matters there. `PreferenceObjective` trains on the scores.
    """

    @property
    def name(self) -> str:
        """A short name, such as "attention"."""
        ...

    @property
    def is_extension(self) -> bool:
        """False for the signal of the paper, FiDAtt, alone."""
        ...

    @property
    def needs_answers(self) -> bool:
        """Whether `scores` reads gold answers."""
        ...

    def scores(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Scores the passages of each question.

        Args:
            questions: n strings.
            passages: texts of each question's passages, at least one.
            answers: gold answers of each question, at least one; signals with `needs_answers` False
                do not read them.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float32 ``[n, N]``, larger for a passage that is preferred; N is the largest number of
            passages, and -inf stands where a question has fewer.

        Raises:
            TypeError: texts that are no strings.
            ValueError: other numbers of questions, lists of passages or lists of answers; an empty
                list; no answers where they are needed.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a digest of the LM and all options: a key for scores that are kept."""
        ...


def check_questions(
    op: str, questions: Sequence[str], passages: Sequence[Sequence[str]], *, at_least: int = 1
) -> None:
    """Checks questions and their passages.

    Args:
        op: the method, for messages.
        questions, passages: of `PreferenceSignal.scores`.
        at_least: smallest number of passages of a question.

    Raises:
        TypeError: questions or passages that are no strings.
        ValueError: not one list of passages for each question, or too few passages.
    """
    check_texts(questions, op, "questions")
    _check_lists(op, passages, "passages", len(questions), at_least)


def check_answers(
    op: str, answers: Sequence[Sequence[str]] | None, n: int
) -> Sequence[Sequence[str]]:
    """Returns the gold answers of n questions.

    Args:
        op: the method, for messages.
        answers: of `PreferenceSignal.scores`.
        n: number of questions.

    Raises:
        TypeError: answers that are no strings.
        ValueError: there are none at all or of a question; not one list for each question.
    """
    if answers is None:
        raise ValueError(f"{op}: answers must be given, one list for each question; got None")
    _check_lists(op, answers, "answers", n, 1)
    return answers


def check_model(op: str, model: Any, *expected: type) -> None:
    """Raises TypeError, naming `op`, for a model of none of the expected kinds."""
    if not isinstance(model, expected):
        kinds = " or ".join(kind.__name__ for kind in expected)
        raise TypeError(f"{op}: model must be a {kinds}, got {type(model).__name__}")


def padded_rows(values: NDArray[Any], counts: Sequence[int]) -> NDArray[np.float32]:
    """Arranges values of all passages in rows, one for each question.

    Args:
        values: one for each passage, those of the first question first.
        counts: number of passages of each question.

    Returns:
        float32 ``[n, N]``, padded with -inf.

    >>> padded_rows(np.array([1.0, 2.0, 3.0]), [1, 2])
    array([[  1., -inf],
           [  2.,   3.]], dtype=float32)
    """
    width = max(counts, default=0)
    filled = np.arange(width) < np.asarray(counts, np.int64).reshape(-1, 1)
    found = np.full(filled.shape, -np.inf, np.float32)
    found[filled] = values
    return found


def signal_fingerprint(
    signal: PreferenceSignal, model: CausalLM | EncoderDecoderLM, options: Mapping[str, Any]
) -> str:
    """Returns a digest of a signal: its class, the weights of its LM, and its options.

    Args:
        signal: the signal; its options are passed apart.
        model: its source LM.
        options: all that scores depend on, of types of JSON.

    Returns:
        32 hexadecimal digits.
    """
    parts = [type(signal).__name__, model.fingerprint(), dict(options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _check_lists(op: str, lists: Sequence[Sequence[str]], name: str, n: int, at_least: int) -> None:
    if isinstance(lists, str) or not isinstance(lists, Sequence):
        raise TypeError(
            f"{op}: {name} must be a list of lists of strings, got {type(lists).__name__}"
        )
    if len(lists) != n:
        raise ValueError(
            f"{op}: expected {name} of each question, got {len(lists)} lists and {n} questions"
        )
    for row, own in enumerate(lists):
        check_texts(own, op, f"{name} of question {row}")
        if len(own) < at_least:
            raise ValueError(
                f"{op}: expected at least {at_least} of the {name} of question {row}, "
                f"got {len(own)}"
            )
