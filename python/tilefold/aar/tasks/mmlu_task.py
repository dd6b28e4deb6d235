"""MMLU as a task for target LMs: prompts, choices, and averages over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data import MultipleChoice
from ...evaluate import MMLU_GROUPS, choice_accuracy
from ...integers import as_integer
from ..prompt_templates import (
    MMLU_GENREAD_PROMPT,
    genread_prompts,
    mmlu_prompts,
    option_letters,
)
from ..targets.target_lm import TargetLM, checked_choices
from .few_shot import MMLU_EXAMPLES, mmlu_demonstrations
from .retrieved_passages import mmlu_passages, passages_to_read
from .task_result import TaskResult


@dataclass(frozen=True)
class MmluTask:
    """Questions of MMLU, answered by choosing the letter of an option.

    The paper's "All" is the mean over the 57 subjects (macro), and a category the mean over its
    own; the mean over questions (micro) stands beside each.

    Args:
        questions: of known subjects, such as the 1,531 of the validation split; `read_choices`
            reads them.
        examples: of the development split, for few-shot prompts; none for zero-shot.
        n_examples: of each question, where there are examples.

    Raises:
        TypeError: n_examples is no integer.
        ValueError: no questions, an id that occurs twice, a subject that MMLU does not have, an
            answer that is none of the options; n_examples below 1.

    Example:
        >>> question = MultipleChoice("0", "1 + 1?", ("1", "2", "3", "4"), 1, "abstract_algebra")
        >>> task = MmluTask((question,))
        >>> task.queries()
        ['1 + 1?']
        >>> task.accepted_answers()
        [['2']]
    """

    questions: tuple[MultipleChoice, ...]
    examples: tuple[MultipleChoice, ...] = ()
    n_examples: int = MMLU_EXAMPLES

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple(self.questions))
        object.__setattr__(self, "examples", tuple(self.examples))
        if not self.questions:
            raise ValueError("MmluTask: expected one question or more, got none")
        if len({question.id for question in self.questions}) < len(self.questions):
            raise ValueError("MmluTask: an id occurs twice")
        known = {subject for own in MMLU_GROUPS.values() for subject in own}
        for question in self.questions:
            if question.subject not in known:
                raise ValueError(
                    f"MmluTask: question {question.id!r} has the subject {question.subject!r}, "
                    f"which is none of the {len(known)} of MMLU"
                )
            if not 0 <= question.answer < len(question.options):
                raise ValueError(
                    f"MmluTask: question {question.id!r} has {len(question.options)} options, and "
                    f"the answer {question.answer}"
                )
        as_integer(self.n_examples, "MmluTask", "n_examples", at_least=1)

    @property
    def name(self) -> str:
        """The name of the task."""
        return "MMLU"

    def queries(self) -> list[str]:
        """Returns the texts that a retriever searches with: the questions without options."""
        return [question.question for question in self.questions]

    def accepted_answers(self) -> list[list[str]]:
        """Returns the text of the right option of each question."""
        return [[question.options[question.answer]] for question in self.questions]

    def prompts(self) -> list[str]:
        """Returns the prompt of each question, without passages and examples."""
        options = [question.options for question in self.questions]
        return mmlu_prompts(self.queries(), options)

    def document_prompts(self) -> list[str]:
        """Returns the prompt of each question that asks for a document about it (GenRead)."""
        return genread_prompts(self.prompts(), MMLU_GENREAD_PROMPT)

    def default_passages(self, target: TargetLM) -> int:
        """Returns the number of passages that the paper gives an LM, with ANCE.

        Raises:
            ValueError: the paper does not have the LM.
        """
        n = mmlu_passages(target.name)
        if n is None:
            raise ValueError(
                f"MmluTask: the paper has no number of passages for the LM {target.name!r}; give "
                f"n_passages"
            )
        return n

    def run(
        self,
        target: TargetLM,
        retrieved: Sequence[Sequence[str]] | None = None,
        n_passages: int | None = None,
        *,
        progress: bool | str = False,
    ) -> TaskResult:
        """Lets a target LM choose an option of every question.

        Args:
            target: the LM.
            retrieved: passages of each question, best first; None for closed book.
            n_passages: of each question that the LM reads; None for the paper's number for it with
                ANCE.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            Answers are letters. The summary has "All" and the four categories as means over
            subjects, and each with "(micro)" as the mean over questions.

        Raises:
            ValueError: passages of another number of questions; n_passages without passages, or
                None for an LM that the paper does not have.
        """
        if retrieved is not None and n_passages is None:
            n_passages = self.default_passages(target)
        passages = passages_to_read("MmluTask.run", retrieved, len(self.questions), n_passages)
        letters = [option_letters(len(question.options)) for question in self.questions]
        examples = {"demonstrations": self._demonstrations()} if self.examples else {}
        chosen = target.choose(self.prompts(), letters, passages, **examples, progress=progress)
        places = checked_choices("MmluTask.run", target, chosen, letters)
        return self._result(target.name, n_passages or 0, letters, places)

    def _demonstrations(self) -> list[str]:
        return mmlu_demonstrations(self.questions, self.examples, n_examples=self.n_examples)

    def _result(
        self, target: str, n_passages: int, letters: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> TaskResult:
        found = choice_accuracy(
            [np.eye(len(own))[place] for own, place in zip(letters, chosen, strict=True)],
            [question.answer for question in self.questions],
            [question.subject for question in self.questions],
            groups=MMLU_GROUPS,
        )
        figures = {"All": found.overall, **found.by_group}
        summary = {name: figure.macro for name, figure in figures.items()}
        summary |= {f"{name} (micro)": figure.micro for name, figure in figures.items()}
        return TaskResult(
            task=self.name,
            target=target,
            n_passages=n_passages,
            ids=tuple(question.id for question in self.questions),
            answers=tuple(own[place] for own, place in zip(letters, chosen, strict=True)),
            values=found.correct,
            summary=summary,
            parts=found.by_subject,
        )
