"""Counts the negatives of each query, after masks and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..losses import loss_inputs
from ..ragged_lists import Integers, Lists, checked, united
from ..torch_ops.dispatch import host_array
from ..torch_ops.identity import excluded, identity

_OP = "count_negatives"


def count_negatives(
    documents: int,
    positives: Tensor | tuple[Tensor, Tensor] | Sequence[Sequence[int]],
    *,
    exclude: tuple[Tensor, Tensor] | Sequence[Sequence[int]] | None = None,
    exclude_ids: tuple[Tensor, Tensor] | Sequence[Sequence[int]] | None = None,
    query_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """Counts the negatives that `contrastive_loss` compares each query's positives with.

    A number to log in training: gradient accumulation and the mini-batches of a cached loss do not
    increase it, and masks decrease it. A query without negatives has loss 0.

    Args:
        documents: number of documents in the batch.
        positives, exclude, exclude_ids, query_ids, document_ids: as in `contrastive_loss`.

    Returns:
        ``[n]`` int64, the number of negatives of each query.

    Raises:
        ValueError: an index out of range, ids of another length.

    Example:
        >>> count_negatives(5, torch.tensor([0, 1]), document_ids=torch.tensor([7, 8, 7, 7, 9]))
        tensor([2, 4])
    """
    n = loss_inputs.n_lists(positives)

    def lists(value: Any, name: str) -> Lists:
        return Lists(*(host_array(part) for part in loss_inputs.lists(_OP, value, name, n)))

    def ids(value: Any, name: str, rows: int) -> Integers | None:
        return None if value is None else host_array(loss_inputs.row_ids(_OP, value, name, rows))

    own = checked(lists(positives, "positives"), _OP, "positives", documents)
    columns = ids(document_ids, "document_ids", documents)
    others = excluded(
        _OP,
        documents,
        None if exclude is None else lists(exclude, "exclude"),
        None if exclude_ids is None else lists(exclude_ids, "exclude_ids"),
        columns,
    )
    listed = own if others is None else united(own, others, documents)
    mask = identity(own, documents, ids(query_ids, "query_ids", n), columns)
    owners, masked = listed.owners(), np.zeros(n, np.int64)
    if mask is not None:
        owners, masked = owners[~mask.has(listed)], mask.counts()
    return torch.from_numpy(documents - masked - np.bincount(owners, minlength=n))
