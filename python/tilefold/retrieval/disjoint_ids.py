"""Checks that no id occurs twice in the shards of a corpus, within a limit of memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .shard_parts import Part

# Memory to compare an id: its chunk, the concatenated chunks, and the arrays of np.unique.
_BYTES_PER_ID = 120


def check_disjoint(parts: Sequence[Part], memory: int, op: str) -> None:
    """Raises ValueError if an id occurs twice in the parts, within about `memory` bytes.

    Ids are compared only where increasing order does not prove them unique; then one residue class
    after the other, so that each fits into memory.
    """
    ordered = sorted((part for part in parts if part.rows), key=Part.id_range)
    ranges = [part.id_range() for part in ordered]
    apart = all(left[1] <= right[0] for left, right in itertools.pairwise(ranges))
    if apart and all(part.has_unique_ids(memory) for part in ordered):
        return
    classes = 1 + sum(part.rows for part in ordered) * _BYTES_PER_ID // max(memory, 1)
    for residue in range(classes):
        chunks = [ids[ids % classes == residue] for part in ordered for ids in part.id_chunks()]
        ids, counts = np.unique(np.concatenate(chunks), return_counts=True)
        if (counts > 1).any():
            repeated = ids[np.argmax(counts > 1)]
            raise ValueError(f"{op}: id {repeated} is in the shards more than once")
