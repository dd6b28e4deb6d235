"""Poolings: hidden states of a text's tokens become one vector, on whichever side padding is."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of `hidden` [n, tokens, dim] over the tokens where `mask` [n, tokens] is 1.

    Added up in float32 where `hidden` is less precise, and left in it.

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    weights = mask.unsqueeze(1).to(wide)
    with torch.autocast(hidden.device.type, enabled=False):  # it would multiply in half precision
        # 3 ms for [64, 122, 1536]; by `hidden * weights`, which is as large, 9 to 40
        total = (weights @ hidden.to(wide)).squeeze(1)
    return total / weights.sum(2).clamp(min=1)


def cls_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first token of `hidden` [n, tokens, dim] where `mask` [n, tokens] is 1.

    >>> cls_pool(torch.tensor([[[9.0], [1.0], [3.0]]]), torch.tensor([[0, 1, 1]]))
    tensor([[1.]])
    """
    return _at(hidden, mask.int().argmax(1))  # of equal values the first


def last_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last token of `hidden` [n, tokens, dim] where `mask` [n, tokens] is 1.

    >>> last_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[3.]])
    """
    places = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
    return _at(hidden, (mask.int() * places).argmax(1))


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The largest of `hidden` [n, tokens, dim] over the tokens where `mask` [n, tokens] is 1.

    Zeros for a text without any. For rows of activations; an Encoder has no such pooling.

    >>> max_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[3.]])
    """
    n, _, dim = hidden.shape
    texts = torch.arange(n, device=hidden.device).unsqueeze(1)
    rows = texts.where(mask.bool(), n).flatten()  # what does not count goes to a row of its own
    # 4 ms for [64, 122, 1536]; by `amax` of a masked copy 50
    most = hidden.new_zeros(n + 1, dim).scatter_reduce(
        0, rows.unsqueeze(1).expand(-1, dim), hidden.flatten(0, 1), "amax", include_self=False
    )
    return most[:n]


def decoder_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first state of a decoder, `hidden` [n, 1, dim]; `mask` is of the encoder's tokens.

    >>> decoder_pool(torch.tensor([[[5.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[5.]])
    """
    return hidden[:, 0]


POOLINGS = {"mean": mean_pool, "cls": cls_pool, "last": last_pool, "decoder": decoder_pool}


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), places]
