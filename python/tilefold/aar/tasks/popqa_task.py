"""Open-domain questions such as PopQA as a task for target LMs: prompts and alias matches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...data import Question, TrainingSet
from ...evaluate import evaluate_predictions, mean
from ...integers import as_integer
from ..prompt_templates import POPQA_PROMPT, genread_prompts, popqa_prompts
from ..targets.target_lm import TargetLM, checked_answers
from .few_shot import POPQA_SEED, popqa_demonstrations
from .retrieved_passages import POPQA_PASSAGES, passages_to_read
from .task_result import TaskResult


@dataclass(frozen=True)
class PopqaTask:
    """Questions with accepted answers, answered in words; right if an accepted answer occurs.

    Works for any questions with answers, such as those of NQ-open; relations are needed for
    examples alone.

    Args:
        questions: such as the 14,267 of PopQA; `read_questions` reads them.
        n_examples: of each question, 15 in the paper's runs with GPT; 0 for zero-shot.
        pool: questions to draw examples from; () for the questions themselves, as the authors do.
        seed: of the draw.
        template: of a prompt, with the field {question}.

    Raises:
        TypeError: n_examples is no integer.
        ValueError: no questions, an id that occurs twice, a question without a text or answers;
            n_examples below 0, another template.

    Example:
        >>> task = PopqaTask((Question("0", "who wrote Emma?", ("Jane Austen",)),))
        >>> task.prompts()
        ['Q: who wrote Emma? A:']
    """

    questions: tuple[Question, ...]
    n_examples: int = 0
    pool: tuple[Question, ...] = ()
    seed: int = POPQA_SEED
    template: str = POPQA_PROMPT

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple(self.questions))
        object.__setattr__(self, "pool", tuple(self.pool))
        if not self.questions:
            raise ValueError("PopqaTask: expected one question or more, got none")
        if len({question.id for question in self.questions}) < len(self.questions):
            raise ValueError("PopqaTask: an id occurs twice")
        for question in self.questions:
            if not question.question or not any(map(str.strip, question.answers)):
                lacks = "answers" if question.question else "a text"
                raise ValueError(f"PopqaTask: question {question.id!r} lacks {lacks}")
        as_integer(self.n_examples, "PopqaTask", "n_examples", at_least=0)
        popqa_prompts([], self.template)  # raises for other fields

    @classmethod
    def of_training_set(cls, data: TrainingSet) -> Self:
        """Returns the questions of a training set, with its answers, as a task.

        Args:
            data: queries with answers.

        Raises:
            ValueError: as of the class, such as a query without answers.
        """
        rows = zip(data.query_ids, data.queries, data.answers, strict=True)
        return cls(tuple(Question(*row) for row in rows))

    @property
    def name(self) -> str:
        """The name of the task."""
        return "PopQA"

    def queries(self) -> list[str]:
        """Returns the texts that a retriever searches with."""
        return [question.question for question in self.questions]

    def accepted_answers(self) -> list[list[str]]:
        """Returns the accepted answers of each question; blank ones are left out."""
        return [list(filter(str.strip, question.answers)) for question in self.questions]

    def prompts(self) -> list[str]:
        """Returns the prompt of each question, without passages and examples."""
        return popqa_prompts(self.queries(), self.template)

    def document_prompts(self) -> list[str]:
        """Returns the prompt of each question that asks for a document about it (GenRead)."""
        return genread_prompts(self.queries())

    def default_passages(self, target: TargetLM) -> int:
        """Returns the number of passages that the paper gives every LM."""
        return POPQA_PASSAGES

    def run(
        self,
        target: TargetLM,
        retrieved: Sequence[Sequence[str]] | None = None,
        n_passages: int | None = None,
        *,
        progress: bool | str = False,
    ) -> TaskResult:
        """Lets a target LM answer every question.

        Args:
            target: the LM.
            retrieved: passages of each question, best first; None for closed book.
            n_passages: of each question that the LM reads; None for the paper's 3.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            The summary has "accuracy", PopQA's alias match, and "relaxed", the same in any case and
            by whole words.

        Raises:
            ValueError: passages of another number of questions; n_passages without passages.
        """
        if retrieved is not None and n_passages is None:
            n_passages = self.default_passages(target)
        passages = passages_to_read("PopqaTask.run", retrieved, len(self.questions), n_passages)
        examples = {"demonstrations": self._demonstrations()} if self.n_examples else {}
        answers = target.answer(self.prompts(), passages, **examples, progress=progress)
        checked = checked_answers("PopqaTask.run", target, answers, len(self.questions))
        return self._result(target.name, n_passages or 0, checked)

    def _demonstrations(self) -> list[str]:
        return popqa_demonstrations(
            self.questions,
            self.pool or self.questions,
            n_examples=self.n_examples,
            seed=self.seed,
        )

    def _result(self, target: str, n_passages: int, answers: Sequence[str]) -> TaskResult:
        found = evaluate_predictions(answers, self.accepted_answers(), ["PopQA", "PopQA-relaxed"])
        values = found["PopQA"]
        by_relation: dict[str, list[float]] = defaultdict(list)
        for question, value in zip(self.questions, values.tolist(), strict=True):
            if question.relation is not None:
                by_relation[question.relation].append(value)
        return TaskResult(
            task=self.name,
            target=target,
            n_passages=n_passages,
            ids=tuple(question.id for question in self.questions),
            answers=tuple(answers),
            values=values,
            summary={"accuracy": mean(values), "relaxed": mean(found["PopQA-relaxed"])},
            parts={name: float(np.mean(own)) for name, own in sorted(by_relation.items())},
        )
