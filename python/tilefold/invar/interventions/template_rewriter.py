"""Rewrites queries by templates: questions within a sentence, and others for what is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from ...data.prompts import format_columns
from .question_forms import asks_for_subject, embedded, is_question, styled, without_end
from .rewriter import RuleRewriter

_EMBEDDING = (
    "Tell me {clause}.",
    "Do you know {clause}?",
    "Could you tell me {clause}?",
    "I would like to know {clause}.",
)
_FOR_SUBJECTS = ("Which person {rest}?", "Name the person who {rest}.", "Who is it that {rest}?")
_FOR_WORDS = (
    (
        re.compile(r"when(?=\s+(?:did|was|were|is|are|does|do|will|has|had)\b)", re.IGNORECASE),
        ("At what time", "On what date"),
    ),
    (
        re.compile(r"where(?=\s+(?:did|was|were|is|are|does|do|will|has|had)\b)", re.IGNORECASE),
        ("In what place", "At which location"),
    ),
    (re.compile(r"why(?=\s)", re.IGNORECASE), ("For what reason",)),
    (re.compile(r"how many(?=\s)", re.IGNORECASE), ("What number of",)),
)
QUESTION_TEMPLATES = (
    "Question: {query}",
    "I have a question: {query}",
    "Here is what I would like to know: {query}",
    "Can you answer this? {query}",
    "The question is this: {query}",
)
TEXT_TEMPLATES = (
    "About this: {query}",
    "I am looking for the following: {query}",
    "Find information on this: {query}",
    "Search for: {query}",
    "What is known about this? {query}",
)


class TemplateRewriter(RuleRewriter):
    """Rewrites questions into sentences that ask them, such as "who is X" into "tell me who X is".

    Forms of questions that it knows come first: "who is X", "what is X", "who wrote X", and
    questions that begin with "when", "where", "why" or "how many". The templates that fit every
    question, or every text that is no question, come behind them. Rewrites begin with a capital and
    end with a mark only where the query does.

    Args:
        templates: with the field {query}, to use these alone and no form of question: to train with
            some and to evaluate with others.
        seed: of the random choices.

    Raises:
        TypeError: templates that are no list of strings; a seed that is no integer.
        ValueError: no template; one with other fields; a negative seed.

    Example:
        >>> rewriter = TemplateRewriter(seed=0)
        >>> [rewriter.rewrite(["who is the author of emma"], draw=draw)[0] for draw in range(2)]
        ['tell me who the author of emma is', 'do you know who the author of emma is']
        >>> TemplateRewriter(templates=["Q: {query}"]).rewrite(["why?"], draw=0)
        ['Q: why?']
    """

    family: ClassVar[str] = "template"

    def __init__(self, templates: Sequence[str] | None = None, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.templates = checked_templates(templates, "TemplateRewriter")

    def _rewrite(self, query: str, draw: int) -> str | None:
        if self.templates is not None:
            return self._chosen(query, [filled(self.templates, query)], draw)
        general = QUESTION_TEMPLATES if is_question(query) else TEXT_TEMPLATES
        last = [_general(template, query) for template in general]
        return self._chosen(query, [_known_forms(query), last], draw)


def checked_templates(
    templates: Sequence[str] | None, op: str, argument: str = "templates"
) -> tuple[str, ...] | None:
    """Returns templates with the field {query}; errors name `op` and the argument."""
    if templates is None:
        return None
    if isinstance(templates, str) or not all(isinstance(each, str) for each in templates):
        raise TypeError(f"{op}: {argument} must be a list of strings, got {templates!r}")
    if not templates:
        raise ValueError(f"{op}: expected one or more {argument}, got none")
    for template in templates:
        try:
            format_columns(template, query=[""])
        except (ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"{op}: {argument} have {template!r}: {error}") from error
    return tuple(templates)


def filled(templates: Sequence[str], query: str) -> list[str]:
    """Returns a query within each of some templates."""
    return [template.format(query=query) for template in templates]


def _known_forms(query: str) -> list[str]:
    """Returns rewrites of a question whose form is known."""
    found = []
    if (clause := embedded(query)) is not None:
        found += [template.format(clause=clause) for template in _EMBEDDING]
    if asks_for_subject(query):
        rest = without_end(query)[len("who") :].strip()
        found += [template.format(rest=rest) for template in _FOR_SUBJECTS]
    for pattern, replacements in _FOR_WORDS:
        if match := pattern.match(query.strip()):
            rest = query.strip()[match.end() :]
            found += [replacement + rest for replacement in replacements]
    return [styled(text, like=query) for text in found]


def _general(template: str, query: str) -> str:
    """Returns a query within a template that fits all; its end stays as it is."""
    text = template.format(query=query.strip())
    return text[:1].lower() + text[1:] if query.strip()[:1].islower() else text
