"""Rewrites queries with a language model, by a prompt for each style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ...data.prompts import format_columns
from ...integers import as_integer
from .rewriter import check_queries, checked_draw
from .template_rewriter import checked_templates

_FORM = "{instruction}\n\nQuery: {{query}}\nRewritten query:"
_INSTRUCTIONS = {
    "paraphrase": (
        "Rewrite the query in other words. Keep its meaning.",
        "Ask for the same thing in a different way.",
        "Rewrite the query with another order of words and with synonyms. Keep its meaning.",
    ),
    "typo": (
        "Rewrite the query as somebody types it who makes one or two typing errors.",
        "Copy the query with a spelling mistake in one of its longer words.",
    ),
    "redundancy": (
        "Rewrite the query with more words than it needs. Add no information.",
        "Rewrite the query with a polite introduction that adds no information.",
    ),
    "formality": (
        "Rewrite the query in a very formal style. Keep its meaning.",
        "Rewrite the query in a casual style, as in a chat. Keep its meaning.",
    ),
    "ambiguity": (
        "Rewrite the query so that it is shorter and less specific.",
        "Rewrite the query as a few keywords.",
    ),
    "template": (
        "Rewrite the query as a request that begins with a verb, such as Tell or Name.",
        "Rewrite the query as an indirect question, such as Do you know who he is?",
    ),
}
REWRITE_PROMPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        family: tuple(_FORM.format(instruction=each) for each in instructions)
        for family, instructions in _INSTRUCTIONS.items()
    }
)
_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019", "``")


class WritesText(Protocol):
    """Continues prompts, as `tilefold.models.CausalLM` and `EncoderDecoderLM` do."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """Returns the continuation of each prompt."""
        ...


class LMRewriter:
    """Asks a language model for rewrites of a style; each draw has a prompt of its own.

    A rewrite is the first line with text that the model writes, without quotes around it; a model
    that writes nothing gives a blank rewrite. It is as reproducible as the model is.

    Args:
        model: has `generate`.
        family: of the rewrites: a style of `REWRITE_PROMPTS`, or any name with prompts of its own.
        prompts: with the field {query}; as many as there are draws. None for those of the style.
        max_new_tokens: of a rewrite.

    Raises:
        TypeError: a model without `generate`; prompts that are no list of strings; max_new_tokens
            that is no integer.
        ValueError: an unknown style without prompts; a blank name; no prompt, or one with other
            fields; max_new_tokens below 1.

    Example:
        >>> class Parrot:
        ...     def generate(self, prompts, *, max_new_tokens):
        ...         return [f' "{prompt.upper()}"' for prompt in prompts]
        >>> rewriter = LMRewriter(Parrot(), "shouted", ["{query}!"])
        >>> rewriter.rewrite(["who?"], draw=0), rewriter.rewrite(["who?"], draw=1)
        (['WHO?!'], [None])
    """

    def __init__(
        self,
        model: WritesText,
        family: str = "paraphrase",
        prompts: Sequence[str] | None = None,
        *,
        max_new_tokens: int = 64,
    ) -> None:
        if not callable(getattr(model, "generate", None)):
            raise TypeError(
                f"LMRewriter: model must have a method generate, got {type(model).__name__}"
            )
        if not family.strip():
            raise ValueError(f"LMRewriter: family must be a name, got {family!r}")
        given = checked_templates(prompts, "LMRewriter", "prompts")
        if given is None and family not in REWRITE_PROMPTS:
            raise ValueError(
                f"LMRewriter: family must be one of {', '.join(REWRITE_PROMPTS)}, or come with "
                f"prompts, got {family!r}"
            )
        self.model = model
        self.family = family
        self.prompts = REWRITE_PROMPTS[family] if given is None else given
        self.max_new_tokens = as_integer(max_new_tokens, "LMRewriter", "max_new_tokens")
        if self.max_new_tokens < 1:
            raise ValueError(
                f"LMRewriter: max_new_tokens must be 1 or more, got {self.max_new_tokens}"
            )

    def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
        """Writes a rewrite of each query; see `Rewriter.rewrite`.

        Raises:
            TypeError: queries that are no list of strings; a draw that is no integer.
            ValueError: a negative draw; a model that returns another number of texts.
        """
        op = "LMRewriter.rewrite"
        check_queries(queries, op)
        draw = checked_draw(draw, op)
        if draw >= len(self.prompts) or not queries:
            return [None] * len(queries)
        prompts = format_columns(self.prompts[draw], query=queries)
        texts = self.model.generate(prompts, max_new_tokens=self.max_new_tokens)
        if len(texts) != len(queries):
            raise ValueError(
                f"{op}: expected the model to return {len(queries)} texts, got {len(texts)}"
            )
        return [_first_line(text) for text in texts]


def _first_line(text: str) -> str:
    """Returns the first line that is not blank, without quotes around it."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    quoted = len(line) > 1 and line[0] + line[-1] in _QUOTES
    return line[1:-1].strip() if quoted else line
