"""Makes every combination of wordings of queries, context windows and numbers of documents."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...integers import as_integer
from .context_windows import Window
from .rewriter import check_queries

_OP = "Interventions"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Intervention:
    """One combination of a wording, a context window and a number of documents.

    Args:
        name: how reports name it, such as "rewrite 1, first 8 words, k=10".
        wording: 0 for the queries as they are, i for their i-th rewrites.
        window: None for whole documents.
        k: documents that are ranked; None for the depth of the ranking.
    """

    name: str
    wording: int
    window: Window | None = None
    k: int | None = None


class Interventions:
    """The product of wordings, windows and numbers of documents, in a fixed order.

    Wordings change slowest and numbers of documents fastest. Wording 0 is that of the queries
    themselves, so the first intervention is none where the first window is None (whole documents)
    and the first k is None. A query with fewer rewrites than others fills the missing wordings with
    its own text, which then agrees with it by construction; a warning has the number of queries.

    Args:
        queries: n texts.
        rewrites: of each query, as `read_rewrites` or `compose_rewrites(...).texts` gives them; by
            default none.
        windows: None for whole documents, or windows.
        ks: numbers of documents; None for all.
        n_rewrites: rewrites of a query that are used; by default as many as any query has.

    Raises:
        TypeError: queries that are no list of strings; numbers that are no integers.
        ValueError: not one list of rewrites for each query; no window or no k, or one that repeats;
            a k below 1; fewer rewrites than n_rewrites for every query; n_rewrites below 0.

    Example:
        >>> product = Interventions(["who?"], [["who is it?"]], [None, Window(8)], ks=[20, 10])
        >>> [each.name for each in product][:3], len(product)
        (['query, whole documents, k=20', 'query, whole documents, k=10',
          'query, chunks of 8 words, k=20'], 8)
        >>> product.wordings
        [['who?'], ['who is it?']]
    """

    def __init__(
        self,
        queries: Sequence[str],
        rewrites: Sequence[Sequence[str]] | None = None,
        windows: Sequence[Window | None] = (None,),
        ks: Sequence[int | None] = (None,),
        *,
        n_rewrites: int | None = None,
    ) -> None:
        check_queries(queries, _OP)
        own: Sequence[Sequence[str]] = [()] * len(queries) if rewrites is None else rewrites
        if isinstance(own, str) or len(own) != len(queries):
            raise ValueError(f"{_OP}: expected rewrites of {len(queries)} queries, got {len(own)}")
        self.windows = _distinct("windows", windows)
        self.ks = _distinct("ks", [_checked_k(k) for k in ks])
        most = max(map(len, own), default=0)
        n = most if n_rewrites is None else as_integer(n_rewrites, _OP, "n_rewrites", at_least=0)
        if n > most:
            raise ValueError(f"{_OP}: n_rewrites is {n}, but no query has more than {most}")
        self.wordings = [list(queries)]
        for place in range(n):
            pairs = zip(queries, own, strict=True)
            self.wordings.append([texts[place] if place < len(texts) else q for q, texts in pairs])
        self.n_short = sum(len(texts) < n for texts in own)
        if self.n_short:
            warnings.warn(
                f"{_OP}: {self.n_short} of {len(queries)} queries have fewer than {n} rewrites; "
                "their own text takes the place of those missing",
                stacklevel=2,
            )
        self._each = list(self._product())

    def __len__(self) -> int:
        """Returns the number of interventions."""
        return len(self._each)

    def __iter__(self) -> Iterator[Intervention]:
        """Iterates over the interventions in their order."""
        return iter(self._each)

    def __getitem__(self, place: int) -> Intervention:
        """Returns an intervention."""
        return self._each[place]

    def queries(self, intervention: Intervention) -> list[str]:
        """Returns the wordings of the queries in an intervention."""
        return self.wordings[intervention.wording]

    def unchanged(self, place: int) -> int:
        """Returns the place of the intervention with the same wording, first window and first k."""
        return place - place % (len(self.windows) * len(self.ks))

    def _product(self) -> Iterator[Intervention]:
        parts = range(len(self.wordings)), self.windows, self.ks
        for wording, window, k in itertools.product(*parts):
            names = [
                f"rewrite {wording}" if wording else "query",
                "whole documents" if window is None else window.name,
                *([] if k is None else [f"k={k}"]),
            ]
            yield Intervention(", ".join(names), wording, window, k)


def _checked_k(k: int | None) -> int | None:
    return None if k is None else as_integer(k, _OP, "ks", at_least=1)


def _distinct(name: str, values: Sequence[_Value]) -> list[_Value]:
    found = list(values)
    if not found or any(found.index(value) < place for place, value in enumerate(found)):
        shown = [getattr(value, "name", value) for value in found]
        raise ValueError(f"{_OP}: expected one or more different {name}, got {shown}")
    return found
