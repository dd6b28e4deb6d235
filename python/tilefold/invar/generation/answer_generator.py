"""Answers questions by a causal LM that reads the first retrieved passages in one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate.predictions import first_line
from ...files.done_once import digest_of
from ...integers import as_integer
from ...models import CausalLM
from ...models.length_batches import check_texts
from ...models.passage_packing import Overflow, PackedPrompts, check_overflow, pack_passages
from .reading_template import ReadingTemplate, reading_template

_VERSION = 1  # of answers; raised when equal inputs give other ones


class AnswerGenerator:
    """Writes answers to questions from their passages, by greedy decoding.

    Args:
        model: such as the generator of a `UnifiedLM`, or its `plain` model.
        template: of prompts, as in training: see `GeneratorTrainer`.
        n_passages: passages of a question that are read, the first ones.
        max_new_tokens: maximum length of an answer.
        first_line_only: whether the first line of the generated text alone is the answer, without
            white space around it.
        overflow: "drop" leaves out the last passages of a question until its prompt fits into the
            model's max_length together with an answer, and warns with their number; "error".
        append_eos: whether the end-of-sequence token counts as the last one of an option.
        batch_size, batch_tokens: limits of a batch, in prompts and in tokens.

    Raises:
        ValueError: a template with other fields, an unknown overflow, a number below 1;
            append_eos, but the tokenizer has no such token.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> generator = AnswerGenerator(model, template="popqa", append_eos=False)
        >>> len(generator.answer(["who sleeps?"], [["Cats sleep."]]))
        1
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        template: ReadingTemplate | str = "author",
        n_passages: int = 5,
        max_new_tokens: int = 32,
        first_line_only: bool = True,
        overflow: Overflow = "drop",
        append_eos: bool = True,
        batch_size: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        check_overflow("AnswerGenerator", overflow)
        if append_eos and model.tokenizer.eos_token_id is None:
            raise ValueError("AnswerGenerator: append_eos, but the tokenizer has no such token")
        self.model = model
        self.template = reading_template(template)
        self.n_passages = as_integer(n_passages, "AnswerGenerator", "n_passages", at_least=1)
        self.max_new_tokens = as_integer(
            max_new_tokens, "AnswerGenerator", "max_new_tokens", at_least=1
        )
        self.first_line_only = first_line_only
        self.overflow = overflow
        self.append_eos = append_eos
        self.batches: dict[str, Any] = {"batch_size": batch_size, "batch_tokens": batch_tokens}

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> list[str]:
        """Writes an answer to each question.

        Args:
            questions: n texts.
            passages: of each question, best first; None, or an empty list for a question, answers
                closed book.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            n answers.

        Raises:
            TypeError: texts that are not strings.
            ValueError: not one list of passages for each question; a question that is too long even
                without passages.

        Warns:
            UserWarning: passages were left out.
        """
        lists = checked_passages("AnswerGenerator.answer", questions, passages)
        found = self.packed("AnswerGenerator.answer", questions, lists, None)
        return self.written(found.prompts, progress="answer" if progress is True else progress)

    def choose(
        self,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        progress: bool | str = False,
    ) -> NDArray[np.int64]:
        """Chooses the option with the largest mean log-likelihood: rank classification.

        Args:
            questions, passages, progress: of `answer`.
            options: answers to choose from, of each question.

        Returns:
            int64 ``[n]``, the index of the chosen option; of equal ones the first.

        Raises:
            TypeError, ValueError: as of `answer`, or a question without options.

        Warns:
            UserWarning: passages were left out.
        """
        op = "AnswerGenerator.choose"
        lists = checked_passages(op, questions, passages)
        answers = checked_answers(op, "options", questions, options)
        written = [[self.template.answer(option) for option in own] for own in answers]
        found = self.model.option_log_likelihoods(
            self.packed(op, questions, lists, written).prompts,
            written,
            append_eos=self.append_eos,
            progress="choose" if progress is True else progress,
            **self.batches,
        )
        return np.array([own.mean.argmax() for own in found], np.int64)

    def fingerprint(self) -> str:
        """Returns a digest of the model and all options but the limits of a batch."""
        options = [
            vars(self.template),
            self.n_passages,
            self.max_new_tokens,
            self.first_line_only,
            self.overflow,
            self.append_eos,
        ]
        return digest_of(["AnswerGenerator", _VERSION, self.model.fingerprint(), options])

    def packed(
        self,
        op: str,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]] | None,
    ) -> PackedPrompts:
        """Returns prompts with the first passages of each question that fit.

        Args:
            op: starts the messages.
            questions: n texts.
            passages: of each question.
            answers: texts of each question that must fit behind its prompt; None for room for
                an answer that is to be written.

        Raises:
            ValueError: overflow is "error", and a prompt does not fit.

        Warns:
            UserWarning: passages were left out.
        """
        return pack_passages(
            self.model,
            questions,
            [own[: self.n_passages] for own in passages],
            lambda row, kept: self.template.prompt(questions[row], kept),
            op=op,
            endings=answers,
            new_tokens=self.max_new_tokens if answers is None else int(self.append_eos),
            overflow=self.overflow,
        )

    def written(self, prompts: Sequence[str], *, progress: bool | str = False) -> list[str]:
        """Continues prompts, and returns the answers in what was written.

        Args:
            prompts: of `packed`.
            progress: of `answer`.
        """
        found = self.model.generate(
            prompts, max_new_tokens=self.max_new_tokens, progress=progress, **self.batches
        )
        return [first_line(text).strip() for text in found] if self.first_line_only else found


def checked_passages(
    op: str, questions: Sequence[str], passages: Sequence[Sequence[str]] | None
) -> list[list[str]]:
    """Returns the passages of each question, none in a closed book.

    Args:
        op: starts the messages.
        questions, passages: of `AnswerGenerator.answer`.

    Raises:
        TypeError: texts that are not strings.
        ValueError: not one list for each question.
    """
    check_texts(questions, op, "questions")
    if passages is None:
        return [[] for _ in questions]
    return _checked_lists(op, "passages", questions, passages)


def checked_answers(
    op: str, name: str, questions: Sequence[str], answers: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Returns the answers of each question, of which there must be some.

    Args:
        op, name: of the function and the argument, for messages.
        questions: n texts.
        answers: of each question.

    Raises:
        TypeError: texts that are not strings.
        ValueError: not one list for each question, or an empty one.
    """
    found = _checked_lists(op, name, questions, answers)
    empty = [row for row, own in enumerate(found) if not own]
    if empty:
        raise ValueError(f"{op}: expected {name} of each question, got none of {empty[0]}")
    return found


def _checked_lists(
    op: str, name: str, questions: Sequence[str], lists: Sequence[Sequence[str]]
) -> list[list[str]]:
    if isinstance(lists, str):
        raise TypeError(f"{op}: {name} is one string; pass a list of strings for each question")
    if len(lists) != len(questions):
        raise ValueError(
            f"{op}: expected {name} of {len(questions)} questions, got {len(lists)} lists"
        )
    for row, own in enumerate(lists):
        check_texts(own, op, f"{name} of question {row}")
    return [list(own) for own in lists]
