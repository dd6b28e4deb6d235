"""Defines targets of attribution: the probability of a masked word, of the relevant passage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models import Encoder
from ...models.masked_lm import mask_logits
from .recorded_pass import Target, Tokens


def masked_word(model: nn.Module, answers: Tensor, mask_token: int) -> Target:
    """Returns the probability of the right word at a [MASK] as a target of attribution.

    Args:
        model: a masked language model of transformers, such as `MaskedLM.model`.
        answers: ``[texts]`` ids of the words.
        mask_token: id of [MASK]; each text has one.

    Returns:
        A function of a batch of tokens and the numbers of its texts: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        probabilities = mask_logits(model, tokens, mask_token).softmax(1)
        return probabilities.gather(1, answers[rows][:, None]).squeeze(1)

    return target


def retrieval(encoder: Encoder, passages: Tensor, relevant: Tensor) -> Target:
    """Returns the log-probability of the relevant passage as a target of attribution.

    Args:
        encoder: of queries.
        passages: embeddings ``[passages, dim]``, or ``[texts, passages, dim]`` for each text.
        relevant: ``[texts]`` number of the relevant passage.

    Returns:
        A function of a batch of tokens and the numbers of its texts: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        queries = encoder(tokens)
        own = passages[rows] if passages.ndim == 3 else passages.expand(len(rows), -1, -1)
        scores = torch.einsum("nd,npd->np", queries, own.to(queries.dtype))
        return -F.cross_entropy(scores, relevant[rows], reduction="none")

    return target
