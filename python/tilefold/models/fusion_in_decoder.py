"""Fusion in decoder: an encoder-decoder reads the texts of a question apart, and answers once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import adapters
from .cross_attention import AttentionKind, FusedInputs, cross_attention_scores
from .encoder_decoder import EncoderDecoderLM, encoded_batch
from .length_batches import Tokens, check_texts, split_rows
from .log_likelihood import LogLikelihoods, add_batch, checked_options, empty_log_likelihoods

# Tokens that the encoder reads at a time, padding included: inputs of many questions are sorted by
# length, so that few of them are padding. On a CPU the activations of one layer should stay in the
# caches: with Flan-T5-Small's shape a core needs 1.5 s for 40 passages with 512 or 1024 tokens,
# 1.8 s with 2048, 2.5 s with 4096 (L2 of 1 MiB, L3 of 32 MiB).
_TOKENS_PER_THREAD, _DEVICE_TOKENS = 512, 4096


class FusionInDecoder(EncoderDecoderLM):
    """An encoder-decoder language model whose prompts are lists of texts.

    Each text of a prompt, such as a passage with the question, is encoded by itself; the decoder
    attends to the states of all of them (Izacard and Grave, EACL 2021). The arithmetic grows
    linearly with the number of texts. A prompt that is a string is a list of one, so all methods of
    `EncoderDecoderLM` take both.

    Args:
        model, tokenizer, max_length, adapter: of `EncoderDecoderLM`; max_length is that of each
            text.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from tilefold.models import minilm
        >>> sizes = {"d_model": 8, "num_layers": 1, "decoder_start_token_id": 0}
        >>> config = T5Config(vocab_size=30522, **sizes)
        >>> whole = T5ForConditionalGeneration(config)  # random weights
        >>> model = FusionInDecoder(whole, minilm().tokenizer)
        >>> passages = ["Cats sleep.", "Hens run."]
        >>> prompt = [f"{passage} what do cats do?" for passage in passages]
        >>> model.log_likelihood([prompt], ["sleep"]).sum.shape
        (1,)
        >>> model.attention_scores([prompt]).shape
        (1, 2)
    """

    def tokenize(self, texts: Sequence[str | Sequence[str]]) -> list[Tokens]:
        """Returns the tokens of each prompt: those of its texts one after the other, and lengths.

        Raises:
            TypeError: a prompt that is neither a string nor a list of strings.
            ValueError: a prompt without texts, a text without any token or with more than
                max_length.
        """
        self._check_prompts(texts, "FusionInDecoder.tokenize")
        prompts = [[prompt] if isinstance(prompt, str) else list(prompt) for prompt in texts]
        single = super().tokenize([text for prompt in prompts for text in prompt])
        found, begin = [], 0
        for prompt in prompts:
            own = [one["input_ids"] for one in single[begin : begin + len(prompt)]]
            begin += len(prompt)
            found.append(
                {
                    "input_ids": list(itertools.chain.from_iterable(own)),
                    "lengths": list(map(len, own)),
                }
            )
        return found

    def pad(self, tokens: Sequence[Tokens], **options: Any) -> Mapping[str, Any]:
        """Encodes the texts of prompts, and returns the states that the decoder attends to.

        Differentiable.

        Args:
            tokens: of `tokenize`.
            **options: of `TextModel.pad`; states are padded on the right.
        """
        fused = self.encode(tokens)
        return encoded_batch(fused.states, fused.mask)

    def encode(self, tokens: Sequence[Tokens]) -> FusedInputs:
        """Encodes every text of some prompts by itself, and joins the states of each prompt.

        Differentiable.

        Args:
            tokens: of `tokenize`.
        """
        lengths = np.array([length for one in tokens for length in one["lengths"]])
        states = self._states(_texts(tokens), lengths)
        counts = [len(one["lengths"]) for one in tokens]
        joined, owners, begin = [], [], 0
        for n in counts:
            own = slice(begin, begin + n)
            joined.append(torch.cat(states[own]))
            owners.append(torch.repeat_interleave(torch.from_numpy(lengths[own])))
            begin += n
        padded = nn.utils.rnn.pad_sequence(joined, batch_first=True)
        inputs = nn.utils.rnn.pad_sequence(owners, batch_first=True, padding_value=-1)
        return FusedInputs(padded, inputs.to(padded.device), max(counts))

    def attention_scores(
        self,
        prompts: Sequence[str | Sequence[str]],
        *,
        kind: AttentionKind = "logits",
        batch_size: int = 8,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes how much the decoder attends to each text of a prompt, at its first token.

        "logits" is FiDAtt of AAR (Yu et al., ACL 2023, eq. 4, as their code computes it): the mean
        of the cross-attention's logits, before the softmax, over layers, heads and the tokens of a
        text. Equals the mean of stored scores without storing them: the mean of products with keys
        is the product with the mean key. It may be negative; only its order within a prompt means
        something.

        Args:
            prompts: lists of texts, such as a passage with the question.
            kind: "logits"; "mass", the share of the attention that a text gets, mean over layers
                and heads; or "value norm", the same with each token weighted by the norm of its
                value. The last two are extensions of AAR.
            batch_size: maximum number of prompts at a time.
            batch_tokens: maximum number of tokens at a time, over all texts of the prompts.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float32 ``[prompts, texts]``, -inf where a prompt has fewer texts than another.

        Raises:
            TypeError: prompts that are no lists of strings.
            ValueError: as of `tokenize`; an unknown kind; a model whose cross-attention is not
                known.
        """
        op = "FusionInDecoder.attention_scores"
        self._check_prompts(prompts, op)
        width = max((1 if isinstance(p, str) else len(p) for p in prompts), default=0)
        found = np.full((len(prompts), width), -np.inf, np.float32)
        run = self._inference(
            "attention_scores", prompts, self.tokenize, batch_size, batch_tokens, progress=progress
        )
        with run as batches:
            for rows, tokens in batches:
                fused = self.encode(tokens)
                with adapters.active(self.model, self.adapter):
                    decoder = self._without_adapters().get_decoder()
                    scores = cross_attention_scores(decoder, fused, self._starts(len(rows)), kind)
                found[rows, : scores.shape[1]] = scores.float().cpu().numpy()
        return found

    def leave_one_out_log_likelihoods(
        self,
        prompts: Sequence[Sequence[str]],
        options: Sequence[Sequence[str]],
        *,
        append_eos: bool = False,
        batch_size: int = 8,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> list[LogLikelihoods]:
        """Computes log-likelihoods with all texts of a prompt, and without each one of them.

        Equals `log_likelihood` of N + 1 prompts, but encodes each of the N texts once: a text is
        left out by masking its states.

        Args:
            prompts: lists of two texts or more.
            options: continuations of each prompt, at least one.
            append_eos, progress: of `log_likelihood`.
            batch_size: maximum number of prompts that are encoded at a time; the decoder reads the
                variants of one prompt at a time.
            batch_tokens: maximum number of tokens that are encoded at a time.

        Returns:
            For each prompt `LogLikelihoods` of shape ``[1 + texts, options]``: row 0 with all
            texts, row k + 1 without text k.

        Raises:
            TypeError, ValueError: as of `option_log_likelihoods`; a prompt with fewer than two
                texts.
        """
        op = "FusionInDecoder.leave_one_out_log_likelihoods"
        self._check_prompts(prompts, op)
        checked_options(op, prompts, options)
        for row, prompt in enumerate(prompts):
            if isinstance(prompt, str) or len(prompt) < 2:
                raise ValueError(f"{op}: expected two texts or more of prompt {row}, got one")
        end = self._end(op, append_eos)
        targets = [self._targets(own, end) for own in options]
        found: list[Any] = [None] * len(prompts)
        run = self._inference(
            "leave_one_out_log_likelihoods",
            prompts,
            self.tokenize,
            batch_size,
            batch_tokens,
            progress=progress,
            characters=lambda prompt: sum(map(len, prompt)),
        )
        with run as batches:
            for rows, tokens in batches:
                fused = self.encode(tokens)
                for place, (row, one) in enumerate(zip(rows, tokens, strict=True)):
                    variants = fused.without_each(place, len(one["lengths"]))
                    found[row] = self._variant_log_likelihoods(*variants, targets[row])
        return found

    def _variant_log_likelihoods(
        self, states: Tensor, masks: Tensor, targets: Sequence[list[int]]
    ) -> LogLikelihoods:
        """Scores every target after each variant of a prompt, ``[variants, targets]``."""
        n, m = len(masks), len(targets)
        repeated = states.expand(n * m, -1, -1)
        batch = encoded_batch(repeated, masks.repeat_interleave(m, 0))
        log_p, written = self._log_probabilities(batch, [*targets] * n)
        found = empty_log_likelihoods(n * m)
        add_batch(found, np.arange(n * m), log_p, written)
        return LogLikelihoods(
            found.sum.reshape(n, m), found.mean.reshape(n, m), found.tokens.reshape(n, m)
        )

    def _check_prompts(self, prompts: Sequence[Any], op: str) -> None:
        if isinstance(prompts, str):
            raise TypeError(f"{op}: prompts is one string; pass a list")
        for row, prompt in enumerate(prompts):
            if not isinstance(prompt, str):
                if not isinstance(prompt, Sequence):
                    kind = type(prompt).__name__
                    raise TypeError(f"{op}: prompt {row} must be a list of strings, got {kind}")
                check_texts(prompt, op, f"texts of prompt {row}")
                if not len(prompt):
                    raise ValueError(f"{op}: prompt {row} has no texts")

    def _states(self, texts: Sequence[Tokens], lengths: NDArray[np.int64]) -> list[Tensor]:
        """Returns the encoder's states of each text, ``[tokens, hidden size]``, without padding."""
        encoder = self._without_adapters().get_encoder()
        states: list[Any] = [None] * len(texts)
        order = np.argsort(-lengths, kind="stable")
        on_cpu = self.device.type == "cpu"
        tokens = _TOKENS_PER_THREAD * torch.get_num_threads() if on_cpu else _DEVICE_TOKENS
        with adapters.active(self.model, self.adapter):
            for rows in split_rows(order, lengths, len(order), tokens):
                batch = super().pad([texts[row] for row in rows])
                found = encoder(**batch).last_hidden_state
                for row, one in zip(rows, found, strict=True):
                    states[row] = one[: lengths[row]]
        return states


def _texts(tokens: Sequence[Tokens]) -> list[Tokens]:
    """Splits the tokens of prompts into those of their texts."""
    found = []
    for prompt in tokens:
        begin = 0
        for length in prompt["lengths"]:
            ids = prompt["input_ids"][begin : begin + length]
            found.append({"input_ids": ids, "attention_mask": [1] * length})
            begin += length
    return found
