"""Shuffles all documents for each query; any part of the order can be computed alone.

Drawing without replacement is taking the first documents in this order that may be drawn. It is a
permutation that can be computed in both directions, so nobody has to lay out all documents, and a
draw depends on the seed, the query and the documents, not on batches or threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Integers

_Words = NDArray[np.uint64]
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = np.array([i * _GOLDEN % 2**64 for i in range(8)], np.uint64)


class Shuffle:
    """A pseudorandom order of m documents for each query.

    A Feistel network over numbers of two equal halves, repeated for a number that is no document
    until it is one.

    Args:
        seed: another seed gives other orders; 0 to 2^64 - 1.
        m: documents.

    Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002; Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, for the mixing.

    >>> shuffle = Shuffle(0, 5)
    >>> order = shuffle.documents(np.array([0]), np.arange(5)[None])
    >>> sorted(order[0].tolist())
    [0, 1, 2, 3, 4]
    >>> shuffle.places(np.array([0]), order)
    array([[0, 1, 2, 3, 4]])
    """

    def __init__(self, seed: int, m: int) -> None:
        self._m = np.uint64(m)
        # At least 256 numbers: in smaller networks few permutations are possible.
        half = max(4, -(-(m - 1).bit_length() // 2))
        self._half, self._mask = np.uint64(half), np.uint64(2**half - 1)
        self._seed = _mixed(np.array([seed], np.uint64) + np.uint64(_GOLDEN))

    def documents(self, queries: Integers, places: Integers) -> Integers:
        """Returns the documents at places ``[n, r]`` of the orders of queries ``[n]``."""
        return self._walked(queries, places, undo=False)

    def places(self, queries: Integers, documents: Integers) -> Integers:
        """Returns the places of documents ``[n, r]`` in the orders of queries ``[n]``."""
        return self._walked(queries, documents, undo=True)

    def _walked(self, queries: Integers, values: Integers, *, undo: bool) -> Integers:
        keys = _mixed(self._seed + queries.astype(np.uint64) + np.uint64(_GOLDEN))
        repeated = np.repeat(keys, values.shape[1])
        found = values.astype(np.uint64).ravel()
        outside = np.arange(len(found))
        while len(outside):
            found[outside] = self._turned(found[outside], repeated[outside], undo=undo)
            outside = outside[found[outside] >= self._m]
        return found.astype(np.int64).reshape(values.shape)

    def _turned(self, values: _Words, keys: _Words, *, undo: bool) -> _Words:
        """Applies the network once; its inverse is itself, with halves and rounds reversed."""
        halves = (values >> self._half, values & self._mask)
        left, right = halves[::-1] if undo else halves
        for constant in _ROUNDS[::-1] if undo else _ROUNDS:
            left, right = right, left ^ (_mixed(keys + constant + right) & self._mask)
        left, right = (right, left) if undo else (left, right)
        return (left << self._half) | right


def _mixed(words: _Words) -> _Words:
    """Applies the finaliser of SplitMix64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
