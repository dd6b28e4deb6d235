"""Defines the interface of rewriters of queries, and what those by rules share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.random import Generator

from ...files.done_once import digest_of
from ...integers import as_integer


class Rewriter(Protocol):
    """Writes other wordings of queries.

    A rewrite is a function of the rewriter, the query's text and the number of the draw alone: not
    of the other queries, of the process, or of draws before.
    """

    @property
    def family(self) -> str:
        """The kind of its rewrites, such as "typo"."""
        ...

    def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
        """Writes a rewrite of each query.

        Args:
            queries: n texts.
            draw: which rewrite, from 0; another number usually gives another rewrite.

        Returns:
            n rewrites; None where a query has no rewrite of this number, nor any of a larger one.
        """
        ...


class FingerprintedRewriter(Rewriter, Protocol):
    """A rewriter whose rewrites can be kept, as a digest tells it from others."""

    def fingerprint(self) -> str:
        """Returns a digest of the rewriter and its options: equal where the rewrites are."""
        ...


class RuleRewriter(ABC):
    """Rewrites queries by rules, with random choices that the query's text and a seed determine.

    Args:
        seed: of the random choices.

    Raises:
        TypeError: the seed is no integer.
        ValueError: a negative seed.
    """

    family: ClassVar[str]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = as_integer(seed, type(self).__name__, "seed")
        if self.seed < 0:
            raise ValueError(f"{type(self).__name__}: seed must be 0 or more, got {seed}")

    def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
        """Writes a rewrite of each query; see `Rewriter.rewrite`.

        Raises:
            TypeError: queries that are no list of strings; a draw that is no integer.
            ValueError: a negative draw.
        """
        op = f"{type(self).__name__}.rewrite"
        check_queries(queries, op)
        draw = checked_draw(draw, op)
        return [self._rewrite(query, draw) for query in queries]

    def fingerprint(self) -> str:
        """Returns a digest of the family and all options: equal where the rewrites are."""
        return digest_of([self.family, vars(self)])

    @abstractmethod
    def _rewrite(self, query: str, draw: int) -> str | None:
        """Returns a rewrite of a query."""

    def _generator(self, query: str, *numbers: int) -> Generator:
        """Returns the random numbers of a query, the same in every process."""
        return np.random.default_rng(int(digest_of([self.family, self.seed, query, *numbers]), 16))

    def _chosen(self, query: str, tiers: Sequence[Sequence[str]], draw: int) -> str | None:
        """Returns one of some rewrites, those of earlier tiers first, each tier in random order."""
        rng = self._generator(query)
        ordered = [tier[place] for tier in tiers for place in rng.permutation(len(tier))]
        return ordered[draw] if draw < len(ordered) else None


def check_queries(queries: Sequence[str], op: str) -> None:
    """Raises TypeError, naming `op`, unless these are several strings."""
    if isinstance(queries, str):
        raise TypeError(f"{op}: queries must be a list of strings, got the string {queries[:60]!r}")
    for row, query in enumerate(queries):
        if not isinstance(query, str):
            raise TypeError(f"{op}: queries[{row}] must be a string, got {type(query).__name__}")


def checked_draw(draw: int, op: str) -> int:
    """Returns the number of a draw as an integer of 0 or more."""
    number = as_integer(draw, op, "draw")
    if number < 0:
        raise ValueError(f"{op}: draw must be 0 or more, got {draw}")
    return number
