"""Computes how likely the gold answers of a question are after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import format_columns
from ...models import CausalLM, EncoderDecoderLM, LogLikelihoods
from ...models.length_batches import check_batches

Gold = Literal["max", "logsumexp"]


class GoldLikelihood:
    """Computes the log-likelihood of the gold answers of a question, combined to one number.

    With answers a_1 ... a_m after a prompt x, that is

    - "max": ``max_j log p(a_j | x)``, how well the LM can give the answer that suits it best. Gold
      answers are mostly aliases of one entity, and an LM has to give one of them;
    - "logsumexp": ``log sum_j p(a_j | x)``. With `append_eos` it is the probability that the LM
      writes any of them, where they are different strings.

    Args:
        op: the signal, for messages.
        model: the LM.
        answer_template: of an answer as the LM continues with it, with the field {answer}; a
            decoder-only LM usually needs ``" {answer}"`` after a prompt that ends without a space.
        gold: "max" or "logsumexp".
        length_normalized: use the mean over the tokens of an answer in place of the sum; it is the
            negative logarithm of the perplexity.
        append_eos: whether the end-of-sequence token counts as the last one of an answer.
        batch_size: maximum number of prompts at a time; of a CausalLM, of pairs of a prompt and an
            answer.
        batch_tokens: maximum number of tokens at a time.

    Raises:
        ValueError: another template, an unknown value of gold; "logsumexp" of normalized
            log-likelihoods, whose exponentials are no probabilities.
    """

    def __init__(
        self,
        op: str,
        model: CausalLM | EncoderDecoderLM,
        *,
        answer_template: str,
        gold: Gold,
        length_normalized: bool,
        append_eos: bool,
        batch_size: int,
        batch_tokens: int | None,
    ) -> None:
        format_columns(answer_template, answer=[])
        if gold not in get_args(Gold):
            raise ValueError(f"{op}: gold must be 'max' or 'logsumexp', got {gold!r}")
        if gold == "logsumexp" and length_normalized:
            raise ValueError(
                f"{op}: gold='logsumexp' adds probabilities, which length-normalized "
                "log-likelihoods are not the logarithms of; use gold='max'"
            )
        check_batches(op, batch_size, batch_tokens)
        self.model = model
        self.answer_template = answer_template
        self.gold = gold
        self.length_normalized = length_normalized
        self.append_eos = append_eos
        self.batches = {"batch_size": batch_size, "batch_tokens": batch_tokens}

    def options(self) -> dict[str, Any]:
        """Returns the arguments that results depend on."""
        return {
            "answer_template": self.answer_template,
            "gold": self.gold,
            "length_normalized": self.length_normalized,
            "append_eos": self.append_eos,
        }

    def written(self, answers: Sequence[Sequence[str]]) -> list[list[str]]:
        """Returns answers as the LM continues with them.

        Args:
            answers: gold answers of each question.
        """
        return [format_columns(self.answer_template, answer=list(own)) for own in answers]

    def reserved(self, answers: Sequence[Sequence[str]]) -> list[int] | None:
        """Returns the tokens that the answers of each question need after a prompt.

        None for an encoder-decoder, whose encoder does not read them.

        Args:
            answers: of `written`.
        """
        if not isinstance(self.model, CausalLM):
            return None
        tokenizer = self.model.tokenizer
        options = {"add_special_tokens": False, "verbose": False}
        return [
            max(len(ids) for ids in tokenizer(own, **options)["input_ids"]) + int(self.append_eos)
            for own in answers
        ]

    def after(
        self,
        prompts: Sequence[Any],
        answers: Sequence[Sequence[str]],
        *,
        progress: bool | str = False,
    ) -> NDArray[np.float64]:
        """Computes the log-likelihood of the gold answers after each prompt.

        Args:
            prompts: that the LM reads.
            answers: of `written`, a list for each prompt.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float64 ``[prompts]``.

        Raises:
            ValueError: an answer or a prompt without any token; one with more than max_length.
        """
        found = self.model.option_log_likelihoods(
            prompts,
            answers,
            append_eos=self.append_eos,
            progress=progress,
            **self.batches,  # type: ignore[arg-type]
        )
        return np.array([self.combined(one) for one in found], np.float64).reshape(len(prompts))

    def combined(self, found: LogLikelihoods) -> Any:
        """Combines the log-likelihoods of several answers, which are on the last axis.

        Args:
            found: of the answers of one question.
        """
        values = (found.mean if self.length_normalized else found.sum).astype(np.float64)
        return values.max(-1) if self.gold == "max" else np.logaddexp.reduce(values, axis=-1)
