"""Packed documents: int8 codes and error bounds, from which a search filters documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Vectors, widened

BLOCK_ROWS: int = _native.BLOCK_ROWS
_SAMPLE_ROWS = 1024
# Rotating costs a fifth of packing, so it must reduce the sum of radii by at least as much.
_ROTATION_GAIN = 0.8
# No direction where the square of the mean is a smaller share of the mean square.
_MIN_SHARE_OF_MEAN = 0.02
_MEAN_ROWS = 64  # widened to float64 at a time
_MIN_ROTATION = 32


@dataclass(frozen=True)
class Packed:
    """int8 codes of documents, in blocks of 32.

    A document is its part along a unit vector that all of them share, near their mean, and the
    rest, which lies within a known radius of its codes. So integer products give strict bounds of
    scores; csrc/contract/search.h documents the layout.
    """

    codes: NDArray[np.uint8]  # [blocks, dim / 4, 32, 4], dim padded to 8
    bounds: NDArray[np.float32]  # [blocks, 4, 32]
    rotated: bool
    direction: NDArray[np.float32] | None = None  # [dim]; None: codes are of whole documents

    def blocks(self, begin: int, end: int) -> Packed:
        """Returns the packed blocks [begin, end)."""
        return replace(self, codes=self.codes[begin:end], bounds=self.bounds[begin:end])


def kernel_arguments(packed: Packed | None) -> dict[str, Any]:
    """Returns packed documents as keyword arguments of `_native.search`."""
    if packed is None:
        return {}
    return {
        "codes": packed.codes,
        "bounds": packed.bounds,
        "direction": packed.direction,
        "rotated": packed.rotated,
    }


def can_pack(dim: int) -> bool:
    """Returns whether vectors of this dim can be packed; longer ones are scored directly."""
    return dim <= _native.MAX_PACKED_DIM


def pack(documents: Vectors, *, num_threads: int = 0) -> tuple[Packed, NDArray[np.uint32]]:
    """Packs documents ``[rows, dim]`` in the form that gives small radii on a sample of them.

    Parts of one corpus may differ in the form.

    Args:
        documents: vectors as `as_vectors` returns them.
        num_threads: 0 for the default.

    Returns:
        The packed documents, and a bitmap ``[blocks]`` of the rows that are finite.
    """
    packed, finite, _ = pack_as(documents, *chosen_form(documents), num_threads)
    return packed, finite


def sampled_rows(rows: int) -> slice:
    """Returns which of a number of documents the form of all is chosen by."""
    step = max(1, rows // _SAMPLE_ROWS)
    return slice(0, step * _SAMPLE_ROWS, step)


def chosen_form(documents: Vectors) -> tuple[bool, NDArray[np.float32] | None]:
    """Chooses the form of documents ``[rows, dim]``: whether to rotate, and the direction."""
    sample = np.ascontiguousarray(documents[sampled_rows(len(documents))])
    direction = mean_direction(sample)
    return _rotation_helps(sample, direction), direction


def mean_direction(documents: Vectors) -> NDArray[np.float32] | None:
    """Returns the direction of the mean of documents ``[rows, dim]``.

    None where the mean is short beside the documents, and for int8, whose codes are exact.
    """
    if documents.dtype == np.int8:
        return None
    count, total, squares = 0, np.zeros(documents.shape[1]), 0.0
    for begin in range(0, len(documents), _MEAN_ROWS):
        rows = widened(documents[begin : begin + _MEAN_ROWS]).astype(np.float64)
        rows = rows[np.isfinite(rows).all(1)]
        count += len(rows)
        total += rows.sum(0)
        squares += float((rows**2).sum())
    norm = float(np.sqrt(total @ total))
    if not norm**2 > _MIN_SHARE_OF_MEAN * squares * count:
        return None
    direction: NDArray[np.float32] = (total / norm).astype(np.float32)
    return direction


def pack_as(
    documents: Vectors,
    rotated: bool = False,
    direction: NDArray[np.float32] | None = None,
    num_threads: int = 0,
) -> tuple[Packed, NDArray[np.uint32], float]:
    """Packs documents ``[rows, dim]`` in a given form.

    Args:
        documents: vectors as `as_vectors` returns them.
        rotated: whether to rotate before quantizing.
        direction: ``[dim]`` a unit vector; codes are of what is left without the part along it.
        num_threads: 0 for the default.

    Returns:
        The packed documents, a bitmap ``[blocks]`` of the rows that are finite, and the sum of the
        radii, each as a share of the norm of what is quantized.
    """
    rows, dim = documents.shape
    of_codes, of_bounds = packed_shapes(rows, dim)
    codes, bounds = np.empty(of_codes, np.uint8), np.empty(of_bounds, np.float32)
    finite, radii = np.empty(len(codes), np.uint32), np.empty(len(codes), np.float64)
    _native.pack(
        documents,
        codes,
        bounds,
        finite,
        radius_sum=radii,
        direction=direction,
        rotate=rotated,
        num_threads=num_threads,
    )
    return Packed(codes, bounds, rotated, direction), finite, float(radii.sum())


def packed_shapes(rows: int, dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of codes and bounds."""
    blocks = -(-rows // BLOCK_ROWS)
    return (blocks, -(-dim // 8) * 2, BLOCK_ROWS, 4), (blocks, 4, BLOCK_ROWS)


def _rotation_helps(sample: Vectors, direction: NDArray[np.float32] | None) -> bool:
    """Returns whether rotating reduces the radii, as with outlier dimensions; never for int8."""
    padded = -(-sample.shape[1] // 8) * 8
    if sample.dtype == np.int8 or padded & -padded < _MIN_ROTATION:
        return False
    plain, rotated = (pack_as(sample, rotate, direction, 1)[2] for rotate in (False, True))
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
