"""Runs causal language models: log-likelihoods, generation, and states of the last token."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..activations.pooling import last_pool
from . import adapters
from .attention_check import check_attention
from .generative_lm import GenerativeLM, Scored
from .length_batches import Tokens, check_texts
from .log_likelihood import check_pairs, token_log_probabilities

Pair = tuple[str, str]  # a prompt and its continuation


class CausalLM(GenerativeLM):
    """A causal language model of transformers, such as Llama, with its tokenizer.

    Batches are padded on the right for scores and states, where causal attention never sees the
    padding, and on the left for generation.

    Args:
        model: with the head of a causal language model.
        tokenizer: a fast one, as where a continuation begins is found by its offsets.
        max_length: maximum number of tokens of a text, special and new tokens included; None for as
            many as the model can read.
        adapter: name of the LoRA adapter in use, or names of several: see `TextModel`.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import minilm
        >>> sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1}
        >>> config = GPT2Config(vocab_size=30522, **sizes)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> model.log_likelihood(["Paris is in"] * 2, [" France", " north Italy"]).tokens.tolist()
        [1, 2]
        >>> len(model.generate(["Paris is in"], max_new_tokens=5))
        1
    """

    _auto_class = "AutoModelForCausalLM"
    _prompt_side = "left"

    def __init__(self, model: nn.Module, tokenizer: Any, **options: Any) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"CausalLM: needs a fast tokenizer, which knows offsets, got "
                f"{type(tokenizer).__name__}"
            )
        check_attention("CausalLM", model, causal=True)
        super().__init__(model, tokenizer, **options)
        special = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        # Special tokens before every text: those that the tokenizer adds before an ordinary token.
        self._n_leading = [*special, 0].index(0)
        self.train(model.training)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each text, without those that the tokenizer puts at its end.

        A text is to be continued, so an end-of-sequence token that the tokenizer adds is dropped;
        special tokens that the text itself has stay.

        Raises:
            ValueError: a text with more than max_length tokens.
        """
        tokens = self._tokens(texts)
        for text, one in zip(texts, tokens, strict=True):
            self._check_length("tokenize", text, len(one["input_ids"]))
        return tokens

    def last_hidden_states(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes the last layer's state of each text's last token, which predicts the next one.

        Args:
            texts: strings. One without any token has zeros.
            batch_size: maximum number of texts per forward pass.
            batch_tokens: maximum number of tokens per forward pass, padding included.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float32 ``[texts, hidden size]``, after the model's last normalization.

        Raises:
            TypeError: texts that are not strings.
            ValueError: a text with more than max_length tokens.
        """
        check_texts(texts, "CausalLM.last_hidden_states")
        whole = self._without_adapters()
        below = whole.base_model  # without the head, whose logits are not needed
        found = np.zeros((len(texts), whole.config.hidden_size), np.float32)
        run = self._inference(
            "last_hidden_states", texts, self.tokenize, batch_size, batch_tokens, progress=progress
        )
        with run as batches, adapters.active(self.model, self.adapter):
            for rows, tokens in batches:
                batch = self.pad(tokens)
                states = below(**batch, use_cache=False).last_hidden_state
                found[rows] = last_pool(states, batch["attention_mask"]).float().cpu().numpy()
        return found

    def continuation_tokens(
        self, prompts: Sequence[str], continuations: Sequence[str], *, append_eos: bool = True
    ) -> list[Tokens]:
        """Returns the tokens of prompts with their continuations, to train on batches of them.

        Args:
            prompts, continuations: of `log_likelihood`.
            append_eos: whether the end-of-sequence token counts as the continuation's last one.

        Returns:
            For each pair "input_ids", "attention_mask", and "start", which is a list of one number:
            the place of the continuation's first token.

        Raises:
            TypeError, ValueError: as of `log_likelihood`.
        """
        op = "CausalLM.continuation_tokens"
        self._check_prompts(prompts, op)
        check_pairs(op, prompts, continuations)
        pairs = list(zip(prompts, continuations, strict=True))
        return self._joined(pairs, self._end(op, append_eos))

    def continuation_log_probabilities(
        self, batch: Mapping[str, Tensor], starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes log-probabilities of the tokens of continuations in a padded batch.

        Differentiable; one forward pass in the mode that the model is in.

        Args:
            batch: of `continuation_tokens`, padded on the right, with its attention mask.
            starts: ``[n]`` place of each continuation's first token.

        Returns:
            Log-probabilities ``[n, tokens]`` of the places that are in the continuation of any row,
            in order, and a mask, True for tokens of the row's own.
        """
        ids = batch["input_ids"]
        lengths = batch["attention_mask"].sum(1)
        places = torch.arange(1, ids.shape[1], device=ids.device)
        inside = (places >= starts[:, None]) & (places < lengths[:, None])
        # Logits at other places are not needed: with long prompts, most of them.
        needed = inside.any(0)
        kept, targets = (places - 1)[needed], ids[:, 1:][:, needed]
        if self._takes("logits_to_keep"):
            logits = self(batch, use_cache=False, logits_to_keep=kept).logits
        else:
            logits = self(batch, use_cache=False).logits[:, kept]
        return token_log_probabilities(logits, targets), inside[:, needed]

    def _scores(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        end: list[int],
        batch_size: int,
        batch_tokens: int | None,
        progress: bool | str,
    ) -> Generator[Scored]:
        run = self._inference(
            "log_likelihood",
            list(zip(prompts, continuations, strict=True)),
            lambda some: self._joined(some, end),
            batch_size,
            batch_tokens,
            progress=progress,
            characters=lambda pair: len(pair[0]) + len(pair[1]),
        )
        with run as batches:
            for rows, tokens in batches:
                yield rows, *self._log_probabilities(tokens)

    def _pair_log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[str], end: list[int]
    ) -> tuple[Tensor, Tensor]:
        pairs = list(zip(prompts, continuations, strict=True))
        return self._log_probabilities(self._joined(pairs, end))

    def _log_probabilities(self, tokens: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        batch = self.pad(tokens)
        starts = torch.tensor([row["start"][0] for row in tokens], device=self.device)
        return self.continuation_log_probabilities(batch, starts)

    def _n_given(self, batch: Mapping[str, Tensor]) -> int:
        return batch["input_ids"].shape[1]

    def _joined(self, pairs: Sequence[Pair], added: list[int]) -> list[Tokens]:
        """Returns tokens of prompts with continuations, with the place where the latter start."""
        tokens = self._tokens([prompt + continuation for prompt, continuation in pairs])
        found = []
        for (prompt, continuation), one in zip(pairs, tokens, strict=True):
            offsets: Any = one["offset_mapping"]
            own = [place for place, (_, end) in enumerate(offsets) if end > len(prompt)]
            if not own:
                raise ValueError(
                    f"CausalLM.log_likelihood: a continuation has no token: {continuation!r:.60}"
                )
            if own[0] == 0:
                raise ValueError(
                    f"CausalLM.log_likelihood: a prompt has no token, and nothing else precedes "
                    f"its continuation {continuation!r:.60}; begin it with a token such as "
                    f"{self.tokenizer.bos_token or self.tokenizer.eos_token}"
                )
            ids = one["input_ids"] + added
            self._check_length("log_likelihood", prompt + continuation, len(ids))
            mask = [1] * len(ids)
            found.append({"input_ids": ids, "attention_mask": mask, "start": own[:1]})
        return found

    def _prompts(self, prompts: Sequence[str], new: int) -> list[Tokens]:
        tokens = self._tokens(prompts)
        for prompt, one in zip(prompts, tokens, strict=True):
            if not one["input_ids"]:
                raise ValueError("CausalLM.generate: a prompt has no token")
            length = len(one["input_ids"])
            if length + new > self.max_length:
                raise ValueError(
                    f"CausalLM.generate: a prompt of length {length} and max_new_tokens {new} "
                    f"exceed max_length {self.max_length}: {prompt!r:.60}"
                )
        return tokens

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        batch = self._tokenized(texts, return_special_tokens_mask=True, return_offsets_mapping=True)
        found = []
        for row in range(len(texts)):
            length = len(batch["input_ids"][row])
            while length and batch["special_tokens_mask"][row][length - 1]:
                length -= 1
            # Without any text, all of the special tokens are at the end as well as at the start.
            length = length or self._n_leading
            names = ("input_ids", "attention_mask", "offset_mapping")
            found.append({name: batch[name][row][:length] for name in names})
        return found
