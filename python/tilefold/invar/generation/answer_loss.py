"""Computes the loss of answers given their prompts, in batches as transformers trains on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...models import CausalLM

IGNORED = -100  # label of tokens that are not predicted, as in torch and transformers


class AnswerLoss(nn.Module):
    """Computes the negative log-likelihood of the tokens of answers, the last one of each included.

    As in L = - Σ_t log p(y_t | passages, question, y_<t): tokens of prompts have no loss.

    Args:
        model: the generator.
    """

    accepts_loss_kwargs = True  # of transformers: num_items_in_batch is given

    def __init__(self, model: CausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Computes the loss of a batch.

        Args:
            input_ids, attention_mask: ``[n, tokens]``, padded on the right.
            labels: ``[n, tokens]`` ids of tokens of answers, -100 elsewhere.
            num_items_in_batch: number that the sum over tokens is divided by: of answers' tokens in
                all batches that are accumulated; None for that of this batch.

        Returns:
            The loss under "loss".
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        starts = (labels != IGNORED).int().argmax(1)
        log_p, mask = self.model.continuation_log_probabilities(batch, starts)
        n = mask.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": -log_p.masked_fill(~mask, 0.0).sum() / n}

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Trades time for memory: see `CausalLM.checkpoint_activations`.

        Raises:
            ValueError: options of the checkpointing, which are those of `CausalLM` here.
        """
        chosen = {
            name: value
            for name, value in options.items()
            if value and (name, value) != ("every_n_layers", 1)
        }
        if chosen:
            raise ValueError(f"AnswerLoss: options of checkpointing are not supported: {chosen}")
        self.model.checkpoint_activations()

    gradient_checkpointing_enable = activation_checkpointing_enable  # before transformers 5


def collated(examples: Sequence[Mapping[str, Any]], *, padding: int) -> dict[str, Tensor]:
    """Pads tokens of examples on the right to a batch of `AnswerLoss`.

    Args:
        examples: each has "input_ids", of a prompt with its answer, and "start", the place of the
            answer's first token.
        padding: id of the padding token, which the attention mask hides.

    Example:
        >>> examples = [{"input_ids": [5, 6, 7], "start": 1}, {"input_ids": [5, 8], "start": 1}]
        >>> collated(examples, padding=0)["labels"].tolist()
        [[-100, 6, 7], [-100, 8, -100]]
    """
    longest = max(len(one["input_ids"]) for one in examples)
    ids = torch.full((len(examples), longest), padding)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, one in enumerate(examples):
        tokens, start = torch.as_tensor(one["input_ids"]), one["start"]
        ids[row, : len(tokens)] = tokens
        labels[row, start : len(tokens)] = tokens[start:]
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
