"""Answers with passages and prompt joined into one text, as decoder-only LMs read them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...evaluate.predictions import first_line
from ...files.done_once import digest_of
from ...integers import as_integer
from ...models import CausalLM, EncoderDecoderLM, FusionInDecoder
from ...models.length_batches import check_batches
from ...models.passage_packing import Overflow, check_overflow, pack_passages
from ..prompt_templates import MMLU_GPT_SUFFIX, PASSAGE_SEPARATOR, clipped
from .target_lm import checked_inputs

_VERSION = 1  # of answers; raised when equal inputs give other ones


class ConcatenatedTarget:
    """An LM that reads one text: demonstrations, passages and prompt, joined by blank lines.

    The defaults are those of AAR for decoder-only LMs (Yu et al., ACL 2023, and their code): greedy
    answers of 15 new tokens of which the first line counts, and choices after "Answer:", of options
    that begin with a blank. An encoder-decoder compares options without either.

    Args:
        model: a decoder-only LM or an encoder-decoder.
        name: for tables.
        max_new_tokens: maximum length of an answer.
        first_line_only: whether the first line of the generated text alone is the answer.
        overflow: "drop" leaves out the last passages of a question, one after the other, until the
            text fits into the model's max_length together with an answer, and warns of it; "error"
            refuses. A question that is too long without any passage is an error in any case.
        passage_characters: of a passage that are read; None for all.
        choice_suffix: text after the prompt of a choice; None for that of the kind of model.
        option_prefix: text before an option; None for that of the kind of model.
        append_eos: whether the end-of-sequence token counts as the last one of an option, as AAR
            has it for Flan-T5.
        batch_size, batch_tokens: limits of a batch, in questions and in tokens.

    Raises:
        TypeError: a model of another kind.
        ValueError: an unknown overflow, a number below 1; append_eos, but no such token.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import minilm
        >>> sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1}
        >>> config = GPT2Config(vocab_size=30522, **sizes)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> target = ConcatenatedTarget(model)
        >>> target.choose(["cats or hens?"], [["A", "B"]], [["Cats sleep."]]).shape
        (1,)
    """

    def __init__(
        self,
        model: CausalLM | EncoderDecoderLM,
        *,
        name: str = "concatenation",
        max_new_tokens: int = 15,
        first_line_only: bool = True,
        overflow: Overflow = "drop",
        passage_characters: int | None = None,
        choice_suffix: str | None = None,
        option_prefix: str | None = None,
        append_eos: bool = False,
        batch_size: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        if isinstance(model, FusionInDecoder) or not isinstance(model, CausalLM | EncoderDecoderLM):
            raise TypeError(
                f"ConcatenatedTarget: model must be a CausalLM or an EncoderDecoderLM, got "
                f"{type(model).__name__}"
            )
        check_overflow("ConcatenatedTarget", overflow)
        if append_eos and model.tokenizer.eos_token_id is None:
            raise ValueError("ConcatenatedTarget: append_eos, but the tokenizer has no such token")
        as_integer(max_new_tokens, "ConcatenatedTarget", "max_new_tokens", at_least=1)
        check_batches("ConcatenatedTarget", batch_size, batch_tokens)
        clipped([], passage_characters, "ConcatenatedTarget")
        causal = isinstance(model, CausalLM)
        self.model = model
        self.name = name
        self._max_new_tokens = max_new_tokens
        self._first_line_only = first_line_only
        self._overflow = overflow
        self._passage_characters = passage_characters
        self._choice_suffix = (MMLU_GPT_SUFFIX * causal) if choice_suffix is None else choice_suffix
        self._option_prefix = (" " * causal) if option_prefix is None else option_prefix
        self._append_eos = append_eos
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
            ValueError: lengths differ; a text is longer than the model reads.

        Warns:
            UserWarning: passages were left out.
        """
        op = "ConcatenatedTarget.answer"
        inputs = checked_inputs(op, questions, passages, demonstrations)
        # A decoder-only LM writes into the same window that it reads.
        new = self._max_new_tokens if isinstance(self.model, CausalLM) else 0
        prompts = self._fitting(op, questions, *inputs, [[""]] * len(questions), new)
        found = self.model.generate(
            prompts,
            max_new_tokens=self._max_new_tokens,
            progress="answer" if progress is True else progress,
            **self._batches,  # type: ignore[arg-type]
        )
        return [first_line(text) for text in found] if self._first_line_only else found

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
            ValueError: lengths differ; a question or an option without tokens; a text is longer
                than the model reads.

        Warns:
            UserWarning: passages were left out.
        """
        op = "ConcatenatedTarget.choose"
        inputs = checked_inputs(op, questions, passages, demonstrations, options)
        complete = [question + self._choice_suffix for question in questions]
        written = [[self._option_prefix + option for option in own] for own in options]
        # An encoder-decoder reads the options in its decoder.
        causal = isinstance(self.model, CausalLM)
        read = written if causal else [[""]] * len(complete)
        new = int(causal and self._append_eos)
        found = self.model.option_log_likelihoods(
            self._fitting(op, complete, *inputs, read, new),
            written,
            append_eos=self._append_eos,
            progress="choose" if progress is True else progress,
            **self._batches,  # type: ignore[arg-type]
        )
        return np.array([own.mean.argmax() for own in found], np.int64)

    def generator(self, max_new_tokens: int) -> ConcatenatedTarget:
        """Returns the same LM with longer answers of several lines; see `TargetLM.generator`.

        Raises:
            TypeError, ValueError: no integer, or below 1; a decoder-only LM whose max_length has no
                room for a prompt before so many tokens.
        """
        op = "ConcatenatedTarget.generator"
        new = as_integer(max_new_tokens, op, "max_new_tokens", at_least=1)
        if isinstance(self.model, CausalLM) and new >= self.model.max_length:
            raise ValueError(
                f"{op}: {self.name} reads and writes {self.model.max_length} tokens together, "
                f"which leaves no room for a prompt before max_new_tokens {new}"
            )
        found = copy.copy(self)
        found._max_new_tokens = new
        found._first_line_only = False
        return found

    def fingerprint(self) -> str:
        """Returns a digest of the LM and all options but the limits of a batch."""
        options = [
            self._max_new_tokens,
            self._first_line_only,
            self._overflow,
            self._passage_characters,
            self._choice_suffix,
            self._option_prefix,
            self._append_eos,
        ]
        return digest_of(["ConcatenatedTarget", _VERSION, self.model.fingerprint(), options])

    def _fitting(
        self,
        op: str,
        questions: Sequence[str],
        passages: list[list[str]],
        demonstrations: list[str],
        endings: Sequence[Sequence[str]],
        new: int,
    ) -> list[str]:
        """Joins passages and prompts, leaving out passages that do not fit.

        Args:
            op: starts the messages.
            questions, passages, demonstrations: n of each.
            endings: texts of which each must fit behind the prompt of a question.
            new: tokens that are generated behind it.
        """
        found = pack_passages(
            self.model,
            questions,
            [clipped(own, self._passage_characters) for own in passages],
            lambda row, kept: joined_prompt(questions[row], kept, demonstrations[row]),
            op=op,
            endings=endings,
            new_tokens=new,
            overflow=self._overflow,
        )
        return found.prompts


def joined_prompt(question: str, passages: Sequence[str], demonstrations: str = "") -> str:
    r"""Joins demonstrations, passages and a prompt, with blank lines around passages.

    >>> joined_prompt("Q: who? A:", ["Cats sleep.", "Hens run."])
    'Cats sleep.\n\nHens run.\n\nQ: who? A:'
    """
    return demonstrations + PASSAGE_SEPARATOR.join([*passages, question])
