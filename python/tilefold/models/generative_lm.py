"""Defines the parts of language models that write text: log-likelihoods and generation."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray
from torch import Tensor

from . import adapters
from .generation import Decoding, generate_tokens
from .language_model import LanguageModel
from .length_batches import Tokens, check_texts
from .log_likelihood import (
    LogLikelihoods,
    add_batch,
    check_pairs,
    checked_options,
    empty_log_likelihoods,
    split_log_likelihoods,
)

Scored = tuple[NDArray[Any], Tensor, Tensor]  # rows, log-probabilities of tokens, and their mask


class GenerativeLM(LanguageModel):
    """Computes log-likelihoods of continuations, and writes them; see the subclasses.

    Args:
        model, tokenizer, max_length, adapter: of `TextModel`.
    """

    _prompt_side: ClassVar[Literal["left", "right"]]  # of padding, in generation

    def log_likelihood(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        *,
        append_eos: bool = False,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> LogLikelihoods:
        """Computes the log-likelihood of each continuation given its prompt.

        A causal model reads prompt and continuation as one text; a token that has characters of the
        continuation belongs to it. So a space between the two is written where the tokenizer
        expects it, usually at the start of the continuation. An encoder-decoder reads prompts in
        the encoder; continuations are tokenized without special tokens.

        Args:
            prompts: strings.
            continuations: one for each prompt. Repeat the prompt for several options.
            append_eos: whether the end-of-sequence token counts as the continuation's last one.
            batch_size: maximum number of pairs per forward pass.
            batch_tokens: maximum number of tokens per forward pass, padding included. Of an
                encoder-decoder, prompts count as long as the longest of the batch, continuations as
                the longest of all.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            Sum and mean over tokens, float32 ``[n]`` each.

        Raises:
            TypeError: texts that are not strings.
            ValueError: not one continuation for each prompt; a prompt or a continuation without any
                token; a pair, or an encoder's prompt, with more than max_length tokens.
        """
        op = f"{type(self).__name__}.log_likelihood"
        self._check_prompts(prompts, op)
        check_pairs(op, prompts, continuations)
        end = self._end(op, append_eos)
        found = empty_log_likelihoods(len(prompts))
        batches = self._scores(prompts, continuations, end, batch_size, batch_tokens, progress)
        with contextlib.closing(batches):
            for rows, log_p, mask in batches:
                add_batch(found, rows, log_p, mask)
        return found

    def option_log_likelihoods(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        append_eos: bool = False,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> list[LogLikelihoods]:
        """Computes the log-likelihood of every option of each prompt: rank classification.

        The option with the largest mean is the answer of length-normalized rank classification, as
        in T0 and AAR. An encoder-decoder encodes each prompt once for all of its options.

        Args:
            prompts: strings.
            options: of each prompt, at least one.
            append_eos, batch_size, batch_tokens, progress: of `log_likelihood`; a batch has all
                options of a prompt.

        Returns:
            For each prompt the log-likelihoods of its options.

        Raises:
            TypeError: texts that are not strings.
            ValueError: as of `log_likelihood`, or a prompt without options.
        """
        op = f"{type(self).__name__}.option_log_likelihoods"
        self._check_prompts(prompts, op)
        counts = checked_options(op, prompts, options)
        end = self._end(op, append_eos)
        found = empty_log_likelihoods(sum(counts))
        batches = self._option_scores(prompts, options, end, batch_size, batch_tokens, progress)
        with contextlib.closing(batches):
            for rows, log_p, mask in batches:
                add_batch(found, rows, log_p, mask)
        return split_log_likelihoods(found, counts)

    def loss(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        *,
        append_eos: bool = True,
    ) -> Tensor:
        """Computes the mean negative log-likelihood of the tokens of continuations, to train on.

        Differentiable; one forward pass in the mode that the model is in.

        Args:
            prompts, continuations: of `log_likelihood`, at least one.
            append_eos: whether the end-of-sequence token counts as the continuation's last one.

        Raises:
            TypeError, ValueError: as of `log_likelihood`.
        """
        op = f"{type(self).__name__}.loss"
        self._check_prompts(prompts, op)
        check_pairs(op, prompts, continuations)
        if not prompts:
            raise ValueError(f"{op}: expected one prompt or more, got none")
        log_p, mask = self._pair_log_probabilities(
            prompts, continuations, self._end(op, append_eos)
        )
        return -log_p.masked_fill(~mask, 0.0).sum() / mask.sum()

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        greedy: bool = True,
        temperature: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> list[str]:
        """Continues each prompt until the end-of-sequence token or max_new_tokens.

        Neither batches nor the other prompts change a continuation, also if it is sampled.

        Args:
            prompts: strings.
            max_new_tokens: maximum number of tokens of a continuation.
            greedy: whether the most probable token is taken each time; otherwise it is sampled.
            temperature: of sampling.
            seed: of sampling; greedy decoding draws nothing.
            batch_size: maximum number of prompts at a time.
            batch_tokens: maximum number of tokens at a time, padding and new tokens included.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            The continuations, without the prompts and without special tokens.

        Raises:
            TypeError: prompts that are not strings.
            ValueError: a prompt without any token, or with more than max_length, in a causal model
                together with the new ones; options that exclude each other.
        """
        op = f"{type(self).__name__}.generate"
        self._check_prompts(prompts, op)
        decoding = Decoding(max_new_tokens, greedy, temperature, seed)
        decoding.check(op)
        found = [""] * len(prompts)
        run = self._inference(
            "generate",
            prompts,
            lambda some: self._prompts(some, max_new_tokens),
            batch_size,
            batch_tokens,
            progress=progress,
            new_tokens=max_new_tokens,
        )
        with run as batches, adapters.active(self.model, self.adapter):
            for rows, tokens in batches:
                batch = self.pad(tokens, side=self._prompt_side)
                numbers = rows.tolist()
                ids = generate_tokens(self.model, batch, numbers, decoding, self.tokenizer)
                new = ids[:, self._n_given(batch) :]
                texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
                for row, text in zip(numbers, texts, strict=True):
                    found[row] = text
        return found

    def _check_prompts(self, prompts: Sequence[Any], op: str) -> None:
        """Raises TypeError, naming `op`, unless these are texts that the model reads."""
        check_texts(prompts, op, "prompts")

    def _end(self, op: str, append_eos: bool) -> list[int]:
        """Returns the tokens after a continuation."""
        eos = self.tokenizer.eos_token_id
        if append_eos and eos is None:
            raise ValueError(f"{op}: append_eos, but there is no such token")
        return [eos] if append_eos else []

    @abstractmethod
    def _pair_log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[str], end: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Returns log-probabilities of the tokens of continuations, and the mask."""

    @abstractmethod
    def _scores(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        end: list[int],
        batch_size: int,
        batch_tokens: int | None,
        progress: bool | str,
    ) -> Generator[Scored]:
        """Yields batches: rows ``[n]``, log-probabilities ``[n, tokens]``, continuations' mask."""

    def _option_scores(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        end: list[int],
        batch_size: int,
        batch_tokens: int | None,
        progress: bool | str,
    ) -> Generator[Scored]:
        """Yields batches as `_scores`, of the options of all prompts, numbered in order."""
        pairs = [
            (prompt, text) for prompt, own in zip(prompts, options, strict=True) for text in own
        ]
        yield from self._scores(
            [prompt for prompt, _ in pairs],
            [text for _, text in pairs],
            end,
            batch_size,
            batch_tokens,
            progress,
        )

    @abstractmethod
    def _prompts(self, prompts: Sequence[str], new: int) -> list[Tokens]:
        """Returns tokens of prompts to be continued by a number of new ones."""

    @abstractmethod
    def _n_given(self, batch: Mapping[str, Tensor]) -> int:
        """Returns the number of tokens in front of those that were generated."""
