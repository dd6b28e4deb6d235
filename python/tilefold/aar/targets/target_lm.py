"""Defines the interface of target LMs, and the checks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...models.length_batches import check_texts


class TargetLM(Protocol):
    """Answers questions with or without retrieved passages; it is never trained.

    The questions are prompts: a task formats them before it calls the LM, and the LM puts passages
    and demonstrations in front.
    """

    @property
    def name(self) -> str:
        """A name for tables, such as "flan-t5-base"."""
        ...

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> list[str]:
        """Writes an answer to each question.

        Args:
            questions: n prompts.
            passages: of each question, best first; None, or an empty list for a question, answers
                closed book.
            demonstrations: solved examples for each question, "" for none.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            n answers.
        """
        ...

    def choose(
        self,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.int64]:
        """Chooses one of the options of each question.

        Args:
            questions, passages, demonstrations, progress: of `answer`.
            options: answers to choose from for each question, such as letters.

        Returns:
            int64 ``[n]``, the index of the chosen option; of equal ones the first.
        """
        ...

    def generator(self, max_new_tokens: int) -> TargetLM:
        """Returns the same LM with another length of answers, which have all their lines.

        `generated_passages` takes it to write documents.

        Args:
            max_new_tokens: maximum length of an answer.

        Raises:
            TypeError, ValueError: no integer, or below 1; more than the LM can write.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a digest of the LM and its options: equal where the answers are."""
        ...


class TargetInputs(NamedTuple):
    """Passages and demonstrations of each question, checked."""

    passages: list[list[str]]
    demonstrations: list[str]


def checked_inputs(
    op: str,
    questions: Sequence[str],
    passages: Sequence[Sequence[str]] | None,
    demonstrations: Sequence[str] | None,
    options: Sequence[Sequence[str]] | None = None,
) -> TargetInputs:
    """Checks the arguments of a target LM, and fills in those that were left out.

    Args:
        op: starts the messages.
        questions, passages, demonstrations, options: of `TargetLM.choose`.

    Raises:
        TypeError: texts that are no strings.
        ValueError: lengths differ, or a question has no options.
    """
    check_texts(questions, op, "questions")
    n = len(questions)
    found = [[] for _ in questions] if passages is None else _lists(op, "passages", passages, n)
    examples = [""] * n if demonstrations is None else list(demonstrations)
    check_texts(examples, op, "demonstrations")
    if len(examples) != n:
        raise ValueError(f"{op}: expected demonstrations of {n} questions, got {len(examples)}")
    for row, own in enumerate([] if options is None else _lists(op, "options", options, n)):
        if not own:
            raise ValueError(f"{op}: question {row} has no options")
    return TargetInputs(found, examples)


def checked_answers(op: str, target: TargetLM, answers: Sequence[str], n: int) -> list[str]:
    """Checks what a target LM returned for n questions; anybody may write one.

    Args:
        op: starts the messages.
        target: the LM, for messages.
        answers: of `TargetLM.answer`.
        n: questions.

    Raises:
        TypeError: answers that are no strings.
        ValueError: another number of them.
    """
    check_texts(answers, op, f"answers of {target.name}")
    if len(answers) != n:
        raise ValueError(f"{op}: expected {n} answers of {target.name}, got {len(answers)}")
    return list(answers)


def checked_choices(
    op: str, target: TargetLM, chosen: Any, options: Sequence[Sequence[str]]
) -> list[int]:
    """Checks the options that a target LM chose.

    Args:
        op: starts the messages.
        target: the LM, for messages.
        chosen: of `TargetLM.choose`.
        options: of each question.

    Raises:
        TypeError: other than integers.
        ValueError: another number of them, or one that is no place among the options.
    """
    places = np.asarray(chosen)
    if places.dtype.kind not in "iu":
        raise TypeError(f"{op}: choices of {target.name} must be integers, got {places.dtype}")
    if places.shape != (len(options),):
        raise ValueError(
            f"{op}: expected {len(options)} choices of {target.name}, got shape {places.shape}"
        )
    for row, (place, own) in enumerate(zip(places.tolist(), options, strict=True)):
        if not 0 <= place < len(own):
            raise ValueError(
                f"{op}: {target.name} chose {place} of the {len(own)} options of question {row}"
            )
    found: list[int] = places.tolist()
    return found


def _lists(op: str, name: str, lists: Sequence[Sequence[str]], n: int) -> list[list[str]]:
    if isinstance(lists, str):
        raise TypeError(f"{op}: {name} is one string; pass a list of strings for each question")
    if len(lists) != n:
        raise ValueError(f"{op}: expected {name} of {n} questions, got {len(lists)} lists")
    for row, own in enumerate(lists):
        check_texts(own, op, f"{name} of question {row}")
    return [list(own) for own in lists]
