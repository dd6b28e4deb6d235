"""Rewrites queries with a language model, by a prompt for each style."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from ...data.prompts import format_columns
from ...files.done_once import digest_of
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


_NEW_TOKENS = 64  # of a rewrite, by default


class WritesText(Protocol):
    """Continues prompts, as `tilefold.models.CausalLM` and `EncoderDecoderLM` do."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """Returns the continuation of each prompt."""
        ...


class AnswersPrompts(Protocol):
    """Answers prompts with its own number of tokens, as the target LMs of AAR do."""

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Returns the answer to each prompt."""
        ...


class LMRewriter:
    """Asks a language model for rewrites of a style; each draw has a prompt of its own.

    A rewrite is the first line with text that the model writes, without quotes around it; a model
    that writes nothing gives a blank rewrite. It is as reproducible as the model is.

    Args:
        model: has `generate`, or else `answer`, as a language model behind an API has.
        family: of the rewrites: a style of `REWRITE_PROMPTS`, or any name with prompts of its own.
        prompts: with the field {query}; as many as there are draws. None for those of the style.
        max_new_tokens: of a rewrite; 64 by default. A model that has only `answer` decides itself.

    Raises:
        TypeError: a model with neither method; prompts that are no list of strings; max_new_tokens
            that is no integer.
        ValueError: an unknown style without prompts; a blank name; no prompt, or one with other
            fields; max_new_tokens below 1, or given for a model that has only `answer`.

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
        model: WritesText | AnswersPrompts,
        family: str = "paraphrase",
        prompts: Sequence[str] | None = None,
        *,
        max_new_tokens: int | None = None,
    ) -> None:
        self._write = _writer(model, max_new_tokens)
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
        self.max_new_tokens = max_new_tokens

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
        texts = self._write(prompts)
        if len(texts) != len(queries):
            raise ValueError(
                f"{op}: expected the model to return {len(queries)} texts, got {len(texts)}"
            )
        return [_first_line(text) for text in texts]

    def fingerprint(self) -> str:
        """Returns a digest of the model, the prompts and the options.

        Raises:
            TypeError: the model has no fingerprint.
        """
        of_model = getattr(self.model, "fingerprint", None)
        if not callable(of_model):
            raise TypeError(
                f"LMRewriter.fingerprint: expected a model with a method fingerprint, got "
                f"{type(self.model).__name__}"
            )
        return digest_of([of_model(), self.family, list(self.prompts), self.max_new_tokens])


def _writer(model: Any, max_new_tokens: int | None) -> Callable[[list[str]], list[str]]:
    """Returns the function that continues prompts."""
    if callable(getattr(model, "generate", None)):
        given = _NEW_TOKENS if max_new_tokens is None else max_new_tokens
        number = as_integer(given, "LMRewriter", "max_new_tokens")
        if number < 1:
            raise ValueError(f"LMRewriter: max_new_tokens must be 1 or more, got {number}")
        return partial(model.generate, max_new_tokens=number)
    answer: Callable[[list[str]], list[str]] | None = getattr(model, "answer", None)
    if not callable(answer):
        raise TypeError(
            f"LMRewriter: model must have a method generate or answer, got {type(model).__name__}"
        )
    if max_new_tokens is not None:
        raise ValueError(
            f"LMRewriter: {type(model).__name__} has only answer, which takes no max_new_tokens; "
            f"give the number to the model"
        )
    return answer


def _first_line(text: str) -> str:
    """Returns the first line that is not blank, without quotes around it."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    quoted = len(line) > 1 and line[0] + line[-1] in _QUOTES
    return line[1:-1].strip() if quoted else line
