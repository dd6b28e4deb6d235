"""Deletes answers from passages, to measure how much of their use is the answer itself.

Yu et al., ACL 2023, section 5.4: documents that LMs prefer help even where they do not state the
answer, so deleting it costs them less than documents that people prefer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...evaluate import Interval, PairedTest, bootstrap, paired_test
from ...models.length_batches import check_texts
from ..tasks.task_result import TaskResult

FloatArray = NDArray[np.float64]


class _Task(Protocol):
    """A task of `aar.tasks`."""

    def accepted_answers(self) -> list[list[str]]: ...


class DeletedAnswers(NamedTuple):
    """A passage without the answers, and how many were deleted."""

    text: str
    n_deleted: int


class DeletedPassages(NamedTuple):
    """Passages of questions without the answers to these, and counts."""

    passages: list[list[str]]
    n_passages: int
    n_with_answer: int  # passages that had an answer
    n_deleted: int  # places in them


@dataclass(frozen=True, eq=False)
class DeletionEffect:
    """Accuracy with passages as they are and without the answers in them."""

    whole: TaskResult
    deleted: TaskResult
    passages: DeletedPassages
    loss: FloatArray  # [n] value of whole passages minus that of passages without answers
    interval: Interval  # of the mean loss

    @property
    def share_with_answer(self) -> float:
        """Share of the passages that had an answer; NaN without passages."""
        n = self.passages.n_passages
        return self.passages.n_with_answer / n if n else float("nan")


def delete_answers(passage: str, answers: Sequence[str]) -> DeletedAnswers:
    """Deletes every answer from a passage.

    An answer is found in any case, between the ends of words, and with any white space between its
    own words; where several begin at one place, the longest is taken. The rest is searched
    again until there is none. White space around a deleted answer becomes one blank.

    Args:
        passage: a text.
        answers: at least one.

    Raises:
        TypeError: answers is one string.
        ValueError: no answers, or one without any letter, digit or sign.

    >>> delete_answers("New York is larger than new  york county.", ["York", "New York"])
    DeletedAnswers(text='is larger than county.', n_deleted=2)
    >>> delete_answers("The artist.", ["art"])
    DeletedAnswers(text='The artist.', n_deleted=0)
    """
    return _delete(passage, _pattern(answers))


def delete_from_passages(
    passages: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]
) -> DeletedPassages:
    """Deletes the answers to each question from its passages.

    Args:
        passages: of each question.
        answers: of each question, at least one.

    Raises:
        TypeError, ValueError: as of `delete_answers`; lengths differ.
    """
    if len(passages) != len(answers):
        raise ValueError(
            f"delete_from_passages: expected answers to each question, got {len(answers)} lists "
            f"and passages of {len(passages)} questions"
        )
    found = [
        [_delete(passage, pattern) for passage in own]
        for own, pattern in zip(passages, map(_pattern, answers), strict=True)
    ]
    counts = [one.n_deleted for own in found for one in own]
    return DeletedPassages(
        passages=[[one.text for one in own] for own in found],
        n_passages=len(counts),
        n_with_answer=sum(map(bool, counts)),
        n_deleted=sum(counts),
    )


def answer_deletion(
    task: _Task,
    run: Callable[[Sequence[Sequence[str]]], TaskResult],
    sources: Mapping[str, Sequence[Sequence[str]]],
) -> dict[str, DeletionEffect]:
    """Measures what deleting answers costs with the passages of several sources.

    Args:
        task: names the accepted answers; of MMLU they are the texts of the right options.
        run: answers all questions of the task with passages, such as
            ``lambda passages: task.run(target, passages, 2)``.
        sources: name -> passages of each question, such as those that people and the LM prefer.

    Returns:
        Name of the source -> `DeletionEffect`. Compare two of them with `compare_losses`.

    Raises:
        TypeError, ValueError: as of `delete_from_passages` and of the task.
    """
    answers = task.accepted_answers()
    effects = {}
    for name, passages in sources.items():
        without = delete_from_passages(passages, answers)
        whole, deleted = run(passages), run(without.passages)
        loss = whole.values - deleted.values
        effects[name] = DeletionEffect(whole, deleted, without, loss, bootstrap(loss))
    return effects


def compare_losses(one: DeletionEffect, other: DeletionEffect) -> PairedTest:
    """Tests whether deleting answers costs one source more than the other, question by question."""
    return paired_test(one.loss, other.loss)


def _pattern(answers: Sequence[str]) -> re.Pattern[str]:
    check_texts(answers, "delete_answers", "answers")
    if not len(answers):
        raise ValueError("delete_answers: expected one answer or more, got none")
    for answer in answers:
        if not answer.strip():
            raise ValueError(f"delete_answers: an answer has no token: {answer!r}")
    longest_first = sorted(answers, key=len, reverse=True)
    spellings = "|".join(r"\s+".join(map(re.escape, answer.split())) for answer in longest_first)
    return re.compile(rf"\s*(?<!\w)(?:{spellings})(?!\w)\s*", re.IGNORECASE)


def _delete(passage: str, pattern: re.Pattern[str]) -> DeletedAnswers:
    text, total = passage, 0
    while True:
        # A blank stays between the words on both sides, so that no new word arises.
        text, n = pattern.subn(" ", text)
        if not n:
            return DeletedAnswers(text.strip() if total else text, total)
        total += n
