"""Answers with fusion in decoder: each passage is read with the prompt, the decoder reads all."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of
from ...integers import as_integer
from ...models import FusionInDecoder
from ...models.length_batches import check_batches
from ..prompt_templates import FUSED_PROMPT, PASSAGE_CHARACTERS, fused_prompts
from .target_lm import checked_inputs

_VERSION = 1  # of answers; raised when equal inputs give other ones


class FusedTarget:
    """A T5-family LM that reads every passage of a question with its prompt (fusion in decoder).

    The defaults are those of AAR for Flan-T5 (Yu et al., ACL 2023, and their code): the first 500
    characters of a passage directly before demonstrations and prompt, greedy answers of 64 tokens
    at most, and options compared by the mean log-likelihood of their tokens and of the end.

    Args:
        model: reads lists of texts.
        name: for tables.
        passage_characters: of a passage that are read; None for all. A text with more tokens than
            the model's max_length is an error in any case.
        template: of passage and prompt, with the fields {passage} and {prompt}.
        max_new_tokens: maximum length of an answer.
        append_eos: whether the end-of-sequence token counts as the last one of an option.
        choice_suffix: text after the prompt of a choice.
        batch_size, batch_tokens: limits of a batch, in questions and in tokens over all passages.

    Raises:
        TypeError, ValueError: a model of another kind; a number that is no integer, or below 1; a
            template with other fields; append_eos, but no such token.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from tilefold.models import minilm
        >>> sizes = {"d_model": 8, "num_layers": 1, "decoder_start_token_id": 0}
        >>> config = T5Config(vocab_size=30522, **sizes)
        >>> whole = T5ForConditionalGeneration(config)  # random weights
        >>> model = FusionInDecoder(whole, minilm().tokenizer)  # BERT's has no end of a text
        >>> target = FusedTarget(model, max_new_tokens=3, append_eos=False)
        >>> len(target.answer(["Q: who? A:"], [["Cats sleep.", "Hens run."]]))
        1
        >>> target.choose(["cats or hens?"], [["A", "B"]]).shape
        (1,)
    """

    def __init__(
        self,
        model: FusionInDecoder,
        *,
        name: str = "fusion in decoder",
        passage_characters: int | None = PASSAGE_CHARACTERS,
        template: str = FUSED_PROMPT,
        max_new_tokens: int = 64,
        append_eos: bool = True,
        choice_suffix: str = "",
        batch_size: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        if not isinstance(model, FusionInDecoder):
            raise TypeError(
                f"FusedTarget: model must be a FusionInDecoder, got {type(model).__name__}; "
                f"ConcatenatedTarget takes other LMs"
            )
        as_integer(max_new_tokens, "FusedTarget", "max_new_tokens", at_least=1)
        check_batches("FusedTarget", batch_size, batch_tokens)
        if append_eos and model.tokenizer.eos_token_id is None:
            raise ValueError(
                "FusedTarget: the tokenizer has no end-of-sequence token; pass append_eos=False"
            )
        fused_prompts([""], [[""]], passage_characters, template)  # raises for bad options
        self.model = model
        self.name = name
        self._passage_characters = passage_characters
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._append_eos = append_eos
        self._choice_suffix = choice_suffix
        self._batches = {"batch_size": batch_size, "batch_tokens": batch_tokens}

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> list[str]:
        """Writes an answer to each question by greedy decoding; see `TargetLM.answer`.

        Raises:
            TypeError: texts that are no strings.
            ValueError: lengths differ; a text with more than max_length tokens.
        """
        inputs = checked_inputs("FusedTarget.answer", questions, passages, demonstrations)
        prompts = self._prompts(questions, *inputs)
        return self.model.generate(
            prompts,  # type: ignore[arg-type]
            max_new_tokens=self._max_new_tokens,
            progress="answer" if progress is True else progress,
            **self._batches,  # type: ignore[arg-type]
        )

    def choose(
        self,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.int64]:
        """Chooses the option with the largest mean log-likelihood; see `TargetLM.choose`.

        Raises:
            TypeError: texts that are no strings.
            ValueError: lengths differ; a question or an option without tokens; a text with more
                than max_length tokens.
        """
        op = "FusedTarget.choose"
        inputs = checked_inputs(op, questions, passages, demonstrations, options)
        complete = [question + self._choice_suffix for question in questions]
        found = self.model.option_log_likelihoods(
            self._prompts(complete, *inputs),  # type: ignore[arg-type]
            options,
            append_eos=self._append_eos,
            progress="choose" if progress is True else progress,
            **self._batches,  # type: ignore[arg-type]
        )
        return np.array([own.mean.argmax() for own in found], np.int64)

    def generator(self, max_new_tokens: int) -> FusedTarget:
        """Returns the same LM with another length of answers; see `TargetLM.generator`."""
        found = copy.copy(self)
        found._max_new_tokens = as_integer(
            max_new_tokens, "FusedTarget.generator", "max_new_tokens", at_least=1
        )
        return found

    def fingerprint(self) -> str:
        """Returns a digest of the LM and all options but the limits of a batch."""
        options = [
            self._passage_characters,
            self._template,
            self._max_new_tokens,
            self._append_eos,
            self._choice_suffix,
        ]
        return digest_of(["FusedTarget", _VERSION, self.model.fingerprint(), options])

    def _prompts(
        self, questions: Sequence[str], passages: list[list[str]], demonstrations: list[str]
    ) -> list[list[str]]:
        prompts = [
            examples + question
            for examples, question in zip(demonstrations, questions, strict=True)
        ]
        return fused_prompts(prompts, passages, self._passage_characters, self._template)
