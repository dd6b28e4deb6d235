"""Builds the inputs of a source LM: each passage with its question, by a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from ...data.prompts import format_columns
from ...integers import as_integer
from ...models import CausalLM, EncoderDecoderLM

Overlong = Literal["error", "cut passage"]


class PassagePrompts:
    """Fills a template with a question and one of its passages.

    AAR's source LM reads the first 500 characters of a passage and then the question, as in
    ``"{passage}Answer the following question.\\n{question}"``.

    Args:
        op: the signal, for messages.
        template: has the fields {passage} and {question}.
        max_characters: characters that a passage is cut to; None for all of them.
        overlong: "error" leaves an input with more tokens than the LM's max_length to the LM, which
            raises; "cut passage" cuts the end of its passage until the input fits.

    Raises:
        TypeError: max_characters is no integer.
        ValueError: another template, max_characters below 1, an unknown value of overlong.
    """

    def __init__(
        self, op: str, template: str, max_characters: int | None, overlong: Overlong = "error"
    ) -> None:
        format_columns(template, passage=[], question=[])
        if overlong not in get_args(Overlong):
            raise ValueError(f"{op}: overlong must be 'error' or 'cut passage', got {overlong!r}")
        if max_characters is not None:
            max_characters = as_integer(max_characters, op, "max_characters", at_least=1)
        self._op = op
        self.template = template
        self.max_characters = max_characters
        self.overlong = overlong

    def options(self) -> dict[str, Any]:
        """Returns the arguments that inputs depend on."""
        return {
            "template": self.template,
            "max_characters": self.max_characters,
            "overlong": self.overlong,
        }

    def texts(
        self,
        model: CausalLM | EncoderDecoderLM,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        *,
        reserved: Sequence[int] | None = None,
    ) -> list[list[str]]:
        """Returns the input of each passage of each question.

        Args:
            model: the LM that reads them.
            questions, passages: of `PreferenceSignal.scores`.
            reserved: tokens that must be left free for the answers of each question, where the LM
                reads them after the prompt.

        Raises:
            ValueError: overlong is "cut passage" and a question does not fit even without its
                passage.
        """
        room = reserved or [0] * len(questions)
        return [
            self._of_question(model, question, own, model.max_length - free)
            for question, own, free in zip(questions, passages, room, strict=True)
        ]

    def _of_question(
        self,
        model: CausalLM | EncoderDecoderLM,
        question: str,
        passages: Sequence[str],
        longest: int,
    ) -> list[str]:
        cut = [passage[: self.max_characters] for passage in passages]
        texts = format_columns(self.template, passage=cut, question=[question] * len(cut))
        if self.overlong == "error" or not texts:
            return texts
        lengths = [len(ids) for ids in model.tokenizer(texts, verbose=False)["input_ids"]]
        return [
            text if length <= longest else self._fitted(model, question, passage, longest)
            for text, passage, length in zip(texts, cut, lengths, strict=True)
        ]

    def _fitted(
        self, model: CausalLM | EncoderDecoderLM, question: str, passage: str, longest: int
    ) -> str:
        """Cuts tokens off the end of a passage until its input has at most `longest` of them."""
        tokenizer = model.tokenizer
        if not tokenizer.is_fast:
            raise ValueError(
                f"{self._op}: overlong='cut passage' needs a fast tokenizer, which knows offsets, "
                f"got {type(tokenizer).__name__}"
            )
        while True:
            [text] = format_columns(self.template, passage=[passage], question=[question])
            excess = len(tokenizer(text, verbose=False)["input_ids"]) - longest
            if excess <= 0:
                return text
            tokens = tokenizer(
                passage, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            starts = [start for start, _ in tokens["offset_mapping"]]
            if excess >= len(starts):
                raise ValueError(
                    f"{self._op}: a question leaves no room for a passage within {longest} tokens: "
                    f"{question!r:.60}"
                )
            # Tokens at the border with the template may differ once more is cut, so look again.
            passage = passage[: min(starts[len(starts) - excess], len(passage) - 1)]
