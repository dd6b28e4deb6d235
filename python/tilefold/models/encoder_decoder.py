"""Runs encoder-decoder language models: log-likelihoods, generation, first decoder states."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import adapters
from .generative_lm import GenerativeLM, Scored
from .length_batches import Tokens, check_texts
from .log_likelihood import token_log_probabilities


class EncoderDecoderLM(GenerativeLM):
    """An encoder-decoder language model of transformers, such as Flan-T5, with its tokenizer.

    The encoder reads prompts, the decoder writes continuations; both are padded on the right.

    Args:
        model: with the head of a language model, and a decoder_start_token_id.
        tokenizer: the tokenizer of the model.
        max_length: maximum number of tokens of a prompt, special tokens included; None for as many
            as model and tokenizer say.
        adapter: name of the LoRA adapter in use; None runs the model as it is.

    Raises:
        ValueError: an argument that the model or the tokenizer does not support.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from tilefold.models import minilm
        >>> sizes = {"d_model": 8, "num_layers": 1, "decoder_start_token_id": 0}
        >>> config = T5Config(vocab_size=30522, **sizes)
        >>> whole = T5ForConditionalGeneration(config)  # random weights
        >>> model = EncoderDecoderLM(whole, minilm().tokenizer)
        >>> model.log_likelihood(["Translate to German: a cat"], ["eine katze"]).sum.shape
        (1,)
    """

    _auto_class = "AutoModelForSeq2SeqLM"
    _prompt_side = "right"

    def __init__(self, model: nn.Module, tokenizer: Any, **options: Any) -> None:
        config: Any = model.config
        start = getattr(config, "decoder_start_token_id", None)
        if not getattr(config, "is_encoder_decoder", False) or start is None:
            raise ValueError(
                f"EncoderDecoderLM: expected an encoder-decoder model with a "
                f"decoder_start_token_id, got {type(model).__name__}"
            )
        super().__init__(model, tokenizer, **options)
        self._start = int(start)
        self.train(model.training)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each prompt as the encoder reads them; not padded.

        Raises:
            ValueError: a text without any token, or with more than max_length.
        """
        batch = self._tokenized(texts)
        found = []
        for row, text in enumerate(texts):
            ids = batch["input_ids"][row]
            if not ids:
                raise ValueError("EncoderDecoderLM.tokenize: a text has no token")
            self._check_length("tokenize", text, len(ids))
            found.append({"input_ids": ids, "attention_mask": [1] * len(ids)})
        return found

    def last_hidden_states(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.float32]:
        """Computes the decoder's state at its start token, which predicts the first new token.

        Args:
            texts: strings.
            batch_size: maximum number of texts per forward pass.
            batch_tokens: maximum number of tokens per forward pass, padding included.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            float32 ``[texts, hidden size]``, after the decoder's last normalization.

        Raises:
            TypeError: texts that are not strings.
            ValueError: a text without any token, or with more than max_length.
        """
        check_texts(texts, "EncoderDecoderLM.last_hidden_states")
        config = self._without_adapters().config
        found = np.zeros((len(texts), config.hidden_size), np.float32)
        run = self._inference(
            "last_hidden_states", texts, self.tokenize, batch_size, batch_tokens, progress=progress
        )
        with run as batches:
            for rows, tokens in batches:
                batch = self.pad(tokens)
                output = self(
                    batch,
                    decoder_input_ids=self._starts(len(tokens)),
                    output_hidden_states=True,
                    use_cache=False,
                )
                found[rows] = output.decoder_hidden_states[-1][:, 0].float().cpu().numpy()
        return found

    def _scores(
        self,
        prompts: Sequence[str],
        continuations: Sequence[str],
        end: list[int],
        batch_size: int,
        batch_tokens: int | None,
        progress: bool | str,
    ) -> Generator[Scored]:
        targets = self._targets(continuations, end)
        run = self._inference(
            "log_likelihood",
            prompts,
            self.tokenize,
            batch_size,
            batch_tokens,
            progress=progress,
            new_tokens=max(map(len, targets), default=0),
        )
        with run as batches:
            for rows, tokens in batches:
                own = [targets[row] for row in rows]
                yield rows, *self._log_probabilities(self.pad(tokens), own)

    def _option_scores(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        end: list[int],
        batch_size: int,
        batch_tokens: int | None,
        progress: bool | str,
    ) -> Generator[Scored]:
        """Encodes each prompt once, and repeats its states for every option."""
        targets = [self._targets(own, end) for own in options]
        first = np.cumsum([0, *map(len, targets)])
        run = self._inference(
            "option_log_likelihoods",
            prompts,
            self.tokenize,
            batch_size,
            batch_tokens,
            progress=progress,
            new_tokens=max((sum(map(len, own)) for own in targets), default=0),
        )
        with run as batches:
            for rows, tokens in batches:
                counts = torch.tensor([len(targets[row]) for row in rows], device=self.device)
                encoded = self._encoded(self.pad(tokens), counts)
                numbers = [np.arange(first[row], first[row + 1]) for row in rows]
                own = [target for row in rows for target in targets[row]]
                yield np.concatenate(numbers), *self._log_probabilities(encoded, own)

    def _pair_log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[str], end: list[int]
    ) -> tuple[Tensor, Tensor]:
        targets = self._targets(continuations, end)
        return self._log_probabilities(self.pad(self.tokenize(prompts)), targets)

    def _encoded(self, batch: Mapping[str, Any], counts: Tensor) -> dict[str, Any]:
        """Runs the encoder, and repeats the states of each prompt as often as `counts` says."""
        if "encoder_outputs" in batch:
            states = batch["encoder_outputs"].last_hidden_state
        else:
            with adapters.active(self.model, self.adapter):
                states = self._without_adapters().get_encoder()(**batch).last_hidden_state
        mask: Tensor = batch["attention_mask"]
        return encoded_batch(states.repeat_interleave(counts, 0), mask.repeat_interleave(counts, 0))

    def _starts(self, n: int) -> Tensor:
        """Returns the start token of the decoder, ``[n, 1]``."""
        return torch.full((n, 1), self._start, device=self.device)

    def _log_probabilities(
        self, batch: Mapping[str, Any], targets: Sequence[list[int]]
    ) -> tuple[Tensor, Tensor]:
        """Returns log-probabilities of the tokens of continuations, and the mask.

        Args:
            batch: padded prompts, or the encoder's states of them.
            targets: tokens of a continuation of each.
        """
        written = nn.utils.rnn.pad_sequence(
            [torch.tensor(ids) for ids in targets], batch_first=True, padding_value=-1
        ).to(self.device)
        mask = written >= 0
        written = written.clamp_min(0)  # any token: causal attention never sees what follows
        inputs = torch.cat([self._starts(len(written)), written[:, :-1]], dim=1)
        logits = self(batch, decoder_input_ids=inputs, use_cache=False).logits
        return token_log_probabilities(logits, written), mask

    def _prompts(self, prompts: Sequence[str], new: int) -> list[Tokens]:
        return self.tokenize(prompts)

    def _n_given(self, batch: Mapping[str, Tensor]) -> int:
        return 1  # the start token of the decoder

    def _targets(self, continuations: Sequence[str], end: list[int]) -> list[list[int]]:
        if not continuations:
            return []
        ids = self.tokenizer(
            text_target=list(continuations), add_special_tokens=False, verbose=False
        )["input_ids"]
        for text, one in zip(continuations, ids, strict=True):
            if not one:
                raise ValueError(
                    f"EncoderDecoderLM.log_likelihood: a continuation has no token: {text!r:.60}"
                )
        return [[*one, *end] for one in ids]


def encoded_batch(states: Tensor, mask: Tensor) -> dict[str, Any]:
    """Returns states of an encoder as arguments of a model, in place of tokens.

    Args:
        states: ``[n, tokens, hidden size]``.
        mask: ``[n, tokens]``, 0 at padding.
    """
    from transformers.modeling_outputs import BaseModelOutput

    outputs = BaseModelOutput(last_hidden_state=states)
    return {"encoder_outputs": outputs, "attention_mask": mask}
