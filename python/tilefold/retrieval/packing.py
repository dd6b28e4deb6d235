"""Packed documents: int8 codes and error bounds, from which a search filters documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Vectors

BLOCK_ROWS: int = _native.BLOCK_ROWS
# Packing a document costs about as much as scoring it canonically for a dozen queries.
QUERIES_WORTH_PACKING = 16
_SAMPLE_ROWS = 1024
# Rotating costs a fifth of packing, so it must reduce the sum of radii by at least as much.
_ROTATION_GAIN = 0.8
_MIN_ROTATION = 32


@dataclass(frozen=True)
class Packed:
    """int8 codes of documents, in blocks of 32.

    A document lies within a known radius of its codes, so integer products give strict bounds of
    scores; csrc/contract/search.h documents the layout.
    """

    codes: NDArray[np.uint8]  # [blocks, dim / 4, 32, 4], dim padded to 8
    bounds: NDArray[np.float32]  # [blocks, 4, 32]
    rotated: bool

    def blocks(self, begin: int, end: int) -> Packed:
        """Returns the packed blocks [begin, end)."""
        return Packed(self.codes[begin:end], self.bounds[begin:end], self.rotated)


def can_pack(dim: int) -> bool:
    """Returns whether vectors of this dim can be packed; longer ones are scored directly."""
    return dim <= _native.MAX_PACKED_DIM


def pack(
    documents: Vectors, *, rotated: bool | None = None, num_threads: int = 0
) -> tuple[Packed, NDArray[np.uint32]]:
    """Packs documents ``[rows, dim]``.

    Args:
        documents: vectors as `as_vectors` returns them.
        rotated: whether to rotate before quantizing; by default, whichever gives smaller radii on
            a sample. Parts of one corpus may differ in it.
        num_threads: 0 for the default.

    Returns:
        The packed documents, and a bitmap ``[blocks]`` of the rows that are finite.
    """
    if rotated is None:
        rotated = _rotation_helps(documents)
    packed, finite, _ = _pack(documents, rotated, num_threads)
    return packed, finite


def _pack(
    documents: Vectors, rotated: bool, num_threads: int
) -> tuple[Packed, NDArray[np.uint32], float]:
    rows, dim = documents.shape
    blocks = -(-rows // BLOCK_ROWS)
    codes = np.empty((blocks, -(-dim // 8) * 2, BLOCK_ROWS, 4), np.uint8)
    bounds = np.empty((blocks, 4, BLOCK_ROWS), np.float32)
    finite = np.empty(blocks, np.uint32)
    radii = np.empty(blocks, np.float64)
    _native.pack(
        documents,
        codes,
        bounds,
        finite,
        radius_sum=radii,
        rotate=rotated,
        num_threads=num_threads,
    )
    return Packed(codes, bounds, rotated), finite, float(radii.sum())


def _rotation_helps(documents: Vectors) -> bool:
    """Returns whether rotating reduces the radii, as with outlier dimensions; never for int8."""
    rows, dim = documents.shape
    padded = -(-dim // 8) * 8
    if documents.dtype == np.int8 or padded & -padded < _MIN_ROTATION:
        return False
    sample = np.ascontiguousarray(documents[:: max(1, rows // _SAMPLE_ROWS)][:_SAMPLE_ROWS])
    plain, rotated = (_pack(sample, rotate, 1)[2] for rotate in (False, True))
    return rotated < _ROTATION_GAIN * plain


def bitmap(rows: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Packs a mask ``[rows]`` into 32-bit words ``[blocks]``, lowest bit first."""
    words = np.zeros(-(-len(rows) // BLOCK_ROWS) * 4, np.uint8)
    packed = np.packbits(rows, bitorder="little")
    words[: len(packed)] = packed
    return words.view("<u4").astype(np.uint32, copy=False)


def flags(words: NDArray[np.uint32], rows: int) -> NDArray[np.bool_]:
    """Unpacks words ``[blocks]`` into a mask ``[rows]``: the inverse of `bitmap`."""
    bits = np.unpackbits(words.astype("<u4", copy=False).view(np.uint8), bitorder="little")
    return bits[:rows].astype(np.bool_)
