"""Which documents of a batch count for which query: lists of positives, and of what is left out.

Lists of different lengths are CSR: offsets ``[n + 1]`` and indices, those of query i being
``indices[offsets[i]:offsets[i + 1]]``. Everything is vectorised, so it costs sorting the lists.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Lists(NamedTuple):
    """Documents listed for each query."""

    offsets: Tensor  # [n + 1] int64
    indices: Tensor  # int64, rising within each query

    def owners(self) -> Tensor:
        """The query of each index."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(len(counts)), counts)


def as_lists(value: object, op: str, name: str, n: int) -> Lists:
    """Lists for n queries from one index each, or from ``(offsets, indices)``; see `checked`."""
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], Tensor):
        offsets, indices = (_integers(part, op, name) for part in value)
        if len(offsets) != n + 1:
            raise ValueError(
                f"{op}: offsets of {name} must have {n + 1} elements, one more than queries, "
                f"got {len(offsets)}"
            )
        return Lists(offsets, indices)
    indices = _integers(value, op, name)
    if len(indices) != n:
        raise ValueError(
            f"{op}: {name} must have {n} elements, one per query, got {len(indices)}; pass "
            "(offsets, indices) for lists"
        )
    return Lists(torch.arange(n + 1), indices)


def checked(lists: Lists, op: str, name: str, m: int) -> Lists:
    """The lists with indices in order; what can be said only of their values is checked here."""
    offsets, indices = lists
    if offsets[0] != 0 or offsets[-1] != len(indices) or (offsets.diff() < 0).any():
        raise ValueError(
            f"{op}: offsets of {name} must rise from 0 to the number of indices, {len(indices)}, "
            f"got {_shown(offsets)}"
        )
    wrong = (indices < 0) | (indices >= m)
    if wrong.any():
        place = int(wrong.int().argmax())
        query = int(torch.searchsorted(offsets, place, right=True)) - 1
        raise ValueError(
            f"{op}: {name} must be indices of documents, 0 to {m - 1}, got {int(indices[place])} "
            f"for query {query}"
        )
    keys = lists.owners() * m + indices
    if len(keys) > 1 and (keys.diff() <= 0).any():
        keys = keys.sort().values
        twice = keys[:-1][keys.diff() == 0]
        if len(twice):
            key = int(twice[0])
            raise ValueError(f"{op}: {name} of query {key // m} name document {key % m} twice")
    return Lists(offsets, keys % m)


def as_row_ids(value: object, op: str, name: str, rows: int) -> Tensor:
    """Checked ids, one per row."""
    ids = _integers(value, op, name)
    if len(ids) != rows:
        raise ValueError(f"{op}: {name} must have {rows} elements, got {len(ids)}")
    return ids


def left_out(
    positives: Lists,
    m: int,
    exclude: Lists | None,
    query_ids: Tensor | None,
    document_ids: Tensor | None,
) -> Lists | None:
    """Candidates that are no negatives, though no positive of that row either; None for none.

    Those in `exclude`; the positives of other queries with the same id; and every document with the
    id of any of these or of a positive.
    """
    n = len(positives.offsets) - 1
    rows, documents = positives.owners(), positives.indices
    own = rows * m + documents
    keys = [exclude.owners() * m + exclude.indices] if exclude is not None else []
    if query_ids is not None:
        rows, documents = _of_same_queries(positives, query_ids)
        keys.append(rows * m + documents)
    if document_ids is not None:
        keys.append(_of_same_documents(rows, documents, document_ids))
    if not keys:
        return None
    out = torch.unique(torch.cat(keys))
    out = out[~torch.isin(out, own, assume_unique=True)]
    counts = torch.bincount(out // m, minlength=n)
    return Lists(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), out % m)


def _of_same_queries(positives: Lists, query_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (row, document): positives of all rows with the id of that row, its own among them."""
    owners = positives.owners()
    ids, order = query_ids[owners].sort()
    counts, places = _matches(ids, query_ids)
    rows = torch.repeat_interleave(torch.arange(len(query_ids)), counts)
    return rows, positives.indices[order[places]]


def _of_same_documents(rows: Tensor, documents: Tensor, document_ids: Tensor) -> Tensor:
    """Keys row * m + document of all documents with the ids of the listed ones."""
    m = len(document_ids)
    ids, order = document_ids.sort()
    counts, places = _matches(ids, document_ids[documents])
    keys: Tensor = torch.unique(torch.repeat_interleave(rows, counts) * m + order[places])
    return keys


def _matches(rising: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How often each wanted value occurs in `rising`, and all the places, one after the other."""
    begin = torch.searchsorted(rising, wanted)
    counts = torch.searchsorted(rising, wanted, right=True) - begin
    starts = torch.repeat_interleave(begin - (counts.cumsum(0) - counts), counts)
    return counts, starts + torch.arange(len(starts))


def _integers(value: object, op: str, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{op}: {name} must be integers, got {type(value).__name__}") from error
    if tensor.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{op}: {name} must be int64, got {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"{op}: {name} must have 1 dimension, got {tensor.ndim}")
    return tensor.detach().to("cpu", torch.int64).contiguous()


def _shown(offsets: Tensor) -> str:
    values = offsets.tolist()
    return str(values) if len(values) <= 6 else f"[{values[0]}, ..., {values[-1]}]"
