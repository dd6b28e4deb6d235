"""Rewrites queries with words around them that add nothing, such as courtesies and repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .question_forms import ended, styled
from .rewriter import RuleRewriter
from .template_rewriter import checked_templates, filled

REDUNDANT_TEMPLATES = (
    "I have been thinking about this for quite a while now: {query}",
    "Please help me with something that I need today: {query}",
    "{query} I asked some friends, but none of them knew.",
    "{query} Any help with this would be very much appreciated.",
    "I hope that you are well. {query} Thank you very much in advance.",
    "{query} To put it once more in the same words: {query}",
    "This may be a simple one, but I could not find it anywhere. {query}",
    "{query} I need this for something that I am working on at the moment.",
)


class RedundancyRewriter(RuleRewriter):
    """Puts words around queries that say nothing about what is wanted.

    Rewrites begin with a capital and end with a mark only where the query does.

    Args:
        templates: with the field {query}, to use these alone, as they are.
        seed: of the random choices.

    Raises:
        TypeError: templates that are no list of strings; a seed that is no integer.
        ValueError: no template; one with other fields; a negative seed.

    Example:
        >>> RedundancyRewriter(["{query} Thanks."]).rewrite(["Who wrote Emma?"], draw=0)
        ['Who wrote Emma? Thanks.']
    """

    family: ClassVar[str] = "redundancy"

    def __init__(self, templates: Sequence[str] | None = None, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.templates = checked_templates(templates, "RedundancyRewriter")

    def _rewrite(self, query: str, draw: int) -> str | None:
        if self.templates is not None:
            return self._chosen(query, [filled(self.templates, query)], draw)
        found = filled(REDUNDANT_TEMPLATES, ended(query))
        return self._chosen(query, [[styled(text, like=query) for text in found]], draw)
