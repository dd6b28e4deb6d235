"""Templates of prompts: retrieved passages and a question, or the question alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...data.prompts import check_template, format_columns


@dataclass(frozen=True)
class ReadingTemplate:
    r"""Joins passages and a question into the prompt of a causal LM.

    Args:
        text: has the fields {passages} and {question}.
        passage: of each passage: has the field {passage}, and perhaps {number}, which counts from
            1. An empty one is a template of {passage} alone.
        separator: between passages.
        closed_book: has the field {question} alone, for questions without passages; None for `text`
            without passages and the white space at its beginning.
        answer_prefix: between a prompt and its answer; most tokenizers expect a blank at the start
            of a word.

    Raises:
        ValueError: a template cannot be parsed, or has other fields; one ends with a blank, which
            most tokenizers join with the first word of the answer.

    Example:
        >>> template = ReadingTemplate("{passages}\n\nQ: {question} A:")
        >>> template.prompt("who?", ["Cats sleep.", "Hens run."])
        'Cats sleep.\n\nHens run.\n\nQ: who? A:'
        >>> template.prompt("who?", [])
        'Q: who? A:'
    """

    text: str
    passage: str = "{passage}"
    separator: str = "\n\n"
    closed_book: str | None = None
    answer_prefix: str = " "

    def __post_init__(self) -> None:
        format_columns(self.text, passages=[], question=[])
        check_template(self.passage, "number", "passage", "ReadingTemplate: passage")
        if self.closed_book is not None:
            format_columns(self.closed_book, question=[])
        for name in ("text", "closed_book"):
            if (getattr(self, name) or "").endswith(" "):
                raise ValueError(
                    f"ReadingTemplate: {name} ends with a blank, which most tokenizers join with "
                    f"the first word of the answer; leave it to answer_prefix: "
                    f"{getattr(self, name)!r}"
                )

    def prompt(self, question: str, passages: Sequence[str]) -> str:
        """Returns the prompt of a question.

        Args:
            question: is put in as it is.
            passages: best first; none for closed book.
        """
        if not passages:
            if self.closed_book is not None:
                return self.closed_book.format(question=question)
            return self.text.format(passages="", question=question).lstrip()
        listed = self.separator.join(
            self.passage.format(number=number, passage=passage)
            for number, passage in enumerate(passages, 1)
        )
        return self.text.format(passages=listed, question=question)

    def answer(self, text: str) -> str:
        """Returns an answer as it follows a prompt."""
        return self.answer_prefix + text


class _Named(NamedTuple):
    """Templates by name."""

    author: ReadingTemplate
    popqa: ReadingTemplate


# "author": of the generator in the public repository of Invar-RAG's author; its closed book is the
# prompt of inference there. "popqa": of Mallen et al., ACL 2023, as AAR puts passages in front.
TEMPLATES = _Named(
    author=ReadingTemplate(
        "You are a helpful assistant. Answer the question based on the given context.\n\n"
        "Context:\n{passages}\n\nQuestion: {question}\n\nAnswer:",
        passage="Document {number}: {passage}",
        separator="\n",
        closed_book="Question: {question}\nAnswer:",
    ),
    popqa=ReadingTemplate("{passages}\n\nQ: {question} A:"),
)


def reading_template(template: ReadingTemplate | str) -> ReadingTemplate:
    r"""Returns a template by its name, "author" or "popqa", or one with the text that is given.

    Args:
        template: a template, a name, or a text with the fields {passages} and {question}.

    Raises:
        ValueError: an unknown name, or other fields.

    Example:
        >>> reading_template("popqa").prompt("who?", ["Hens run."])
        'Hens run.\n\nQ: who? A:'
    """
    if isinstance(template, ReadingTemplate):
        return template
    if template in TEMPLATES._fields:
        found: ReadingTemplate = getattr(TEMPLATES, template)
        return found
    if "{" not in template:
        raise ValueError(
            f"reading_template: expected {' or '.join(TEMPLATES._fields)}, or a text with the "
            f"fields {{passages}} and {{question}}, got {template!r}"
        )
    return ReadingTemplate(template)
