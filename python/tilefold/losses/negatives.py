"""How many negatives a query really has, once masks and lists are taken into account."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..identity import identity
from ..lists import Lists, checked, united
from . import inputs

_OP = "count_negatives"


def count_negatives(
    documents: int,
    positives: Tensor | tuple[Tensor, Tensor],
    *,
    exclude: tuple[Tensor, Tensor] | None = None,
    query_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """The number of negatives that `contrastive_loss` compares each query's positives with.

    What to log in training: neither accumulation nor mini-batches of a cached loss add to it, while
    masks take from it. A query with 0 has loss 0.

    Args:
        documents: how many documents the batch has.
        positives, exclude, query_ids, document_ids: as in `contrastive_loss`.

    Returns:
        ``[n]`` int64.

    Raises:
        ValueError: an index out of range, ids of another length.

    Example:
        >>> count_negatives(5, torch.tensor([0, 1]), document_ids=torch.tensor([7, 8, 7, 7, 9]))
        tensor([2, 4])
    """
    n = len(positives[0]) - 1 if isinstance(positives, tuple | list) else len(positives)

    def lists(value: Tensor | tuple[Tensor, Tensor], name: str) -> Lists:
        offsets, indices = inputs.lists(_OP, value, name, n)
        return checked(Lists(offsets.numpy(), indices.numpy()), _OP, name, documents)

    own = lists(positives, "positives")
    listed = own if exclude is None else united(own, lists(exclude, "exclude"), documents)
    mask = identity(
        own,
        documents,
        None if query_ids is None else inputs.row_ids(_OP, query_ids, "query_ids", n).numpy(),
        None
        if document_ids is None
        else inputs.row_ids(_OP, document_ids, "document_ids", documents).numpy(),
    )
    owners, masked = listed.owners(), np.zeros(n, np.int64)
    if mask is not None:
        owners, masked = owners[~mask.has(listed)], mask.counts()
    return torch.from_numpy(documents - masked - np.bincount(owners, minlength=n))
