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
from .log_likelihood import LogLikelihoods, add_batch, check_pairs, empty_log_likelihoods

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
        check_pairs(op, prompts, continuations)
        eos = self.tokenizer.eos_token_id
        if append_eos and eos is None:
            raise ValueError(f"{op}: append_eos, but there is no such token")
        end = [eos] if append_eos else []
        found = empty_log_likelihoods(len(prompts))
        batches = self._scores(prompts, continuations, end, batch_size, batch_tokens, progress)
        with contextlib.closing(batches):
            for rows, log_p, mask in batches:
                add_batch(found, rows, log_p, mask)
        return found

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
        check_texts(prompts, op, "prompts")
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

    @abstractmethod
    def _prompts(self, prompts: Sequence[str], new: int) -> list[Tokens]:
        """Returns tokens of prompts to be continued by a number of new ones."""

    @abstractmethod
    def _n_given(self, batch: Mapping[str, Tensor]) -> int:
        """Returns the number of tokens in front of those that were generated."""
