"""Composes several rewrites of each query from rewriters of chosen families."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...data.rewrites import wording
from ...integers import as_integer
from .ambiguity_rewriter import AmbiguityRewriter
from .formality_rewriter import FormalityRewriter
from .redundancy_rewriter import RedundancyRewriter
from .rewriter import Rewriter, RuleRewriter, check_queries
from .template_rewriter import TemplateRewriter
from .typo_rewriter import TypoRewriter
from .word_order_rewriter import WordOrderRewriter

_RULES: Mapping[str, type[RuleRewriter]] = {
    each.family: each
    for each in (
        TypoRewriter,
        RedundancyRewriter,
        FormalityRewriter,
        AmbiguityRewriter,
        TemplateRewriter,
        WordOrderRewriter,
    )
}
RULE_FAMILIES = tuple(_RULES)
# Draws for each wanted rewrite: a family may repeat itself, and be the only one that has rewrites.
# Of 30 typing errors in a query of eight words, half repeat another one.
_DRAWS_PER_REWRITE = 8


@dataclass(frozen=True)
class ComposedRewrites:
    """Rewrites of queries, their families, and how many were dropped.

    Args:
        texts: rewrites of each query.
        families: of each rewrite.
        n_rewrites: wanted of each query.
        equal_to_query: rewrites that were dropped as they are their query, by family.
        repeated: rewrites that were dropped as they are an earlier one of their query, by family.
        blank: rewrites that were dropped as they have no text, by family.
    """

    texts: list[list[str]]
    families: list[list[str]]
    n_rewrites: int
    equal_to_query: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)

    @property
    def n_short(self) -> int:
        """Number of queries with fewer rewrites than were wanted."""
        return sum(len(texts) < self.n_rewrites for texts in self.texts)


def compose_rewrites(
    queries: Sequence[str], rewriters: Sequence[Rewriter], *, n_rewrites: int
) -> ComposedRewrites:
    """Composes distinct rewrites of each query, from one rewriter after the other.

    The rewriters take turns in the order given, a draw each, until a query has enough rewrites or
    they have no more. A rewrite that is blank, or equal to the query or an earlier rewrite up to
    case and white space, is dropped and counted; the next rewriter has its turn. So where all have
    a rewrite, the first ``n_rewrites`` of them give one each. A rewriter draws at most
    ``8 * n_rewrites`` times. Rewrites of a query do not depend on the other queries.

    Args:
        queries: n texts, none of them blank.
        rewriters: by rules (`rule_rewriters`), of a language model (`LMRewriter`), or others.
        n_rewrites: of each query.

    Returns:
        Texts and families of the rewrites of each query, at most ``n_rewrites``, and counts. A
        warning says how many queries have fewer.

    Raises:
        TypeError: queries that are no list of strings; n_rewrites that is no integer.
        ValueError: a blank query; no rewriter; n_rewrites below 1; a rewriter that returns another
            number of rewrites.

    Example:
        >>> found = compose_rewrites(
        ...     ["who wrote emma"], rule_rewriters(["template", "typo"]), n_rewrites=3
        ... )
        >>> found.texts, found.families
        ([['name the person who wrote emma', 'who wrote ema', 'which person wrote emma']],
         [['template', 'typo', 'template']])
    """
    n_rewrites = checked_composition("compose_rewrites", queries, rewriters, n_rewrites)
    composed = composed_from(queries, rewriters, n_rewrites)
    warn_if_short("compose_rewrites", composed)
    return composed


def composed_from(
    queries: Sequence[str], rewriters: Sequence[Rewriter], n_rewrites: int
) -> ComposedRewrites:
    """Equals `compose_rewrites` of checked arguments, without its warning."""
    composed = ComposedRewrites([[] for _ in queries], [[] for _ in queries], n_rewrites)
    seen = [{wording(query)} for query in queries]
    open_rows = [set(range(len(queries))) for _ in rewriters]  # which may have further rewrites
    for draw in range(_DRAWS_PER_REWRITE * n_rewrites):
        for rewriter, rows in zip(rewriters, open_rows, strict=True):
            wanting = [row for row in sorted(rows) if len(composed.texts[row]) < n_rewrites]
            for row, text in zip(wanting, _drawn(rewriter, queries, wanting, draw), strict=True):
                if text is None:
                    rows.discard(row)
                else:
                    _add(composed, row, text, rewriter.family, seen[row])
    return composed


def rule_rewriters(families: Sequence[str] = RULE_FAMILIES, *, seed: int = 0) -> list[RuleRewriter]:
    """Makes rewriters by rules of some families, with their default options.

    Args:
        families: of `RULE_FAMILIES`: "typo", "redundancy", "formality", "ambiguity", "template",
            "order".
        seed: of their random choices.

    Raises:
        TypeError: families that are no list; a seed that is no integer.
        ValueError: no family, an unknown one, one that repeats; a negative seed.

    Example:
        >>> [rewriter.family for rewriter in rule_rewriters(["typo", "template"])]
        ['typo', 'template']
    """
    if isinstance(families, str):
        raise TypeError(f"rule_rewriters: families must be a list, got {families!r}")
    if not families or len(set(families)) < len(families) or not set(families) <= set(_RULES):
        raise ValueError(
            f"rule_rewriters: families must be different ones of {', '.join(_RULES)}, "
            f"got {list(families)}"
        )
    return [_RULES[family](seed=seed) for family in families]


def checked_composition(
    op: str, queries: Sequence[str], rewriters: Sequence[Rewriter], n_rewrites: int
) -> int:
    """Returns the number of rewrites as an integer; checks the other arguments."""
    check_queries(queries, op)
    for row, query in enumerate(queries):
        if not query.strip():
            raise ValueError(f"{op}: queries[{row}] is blank")
    if not rewriters:
        raise ValueError(f"{op}: expected one rewriter or more, got none")
    number = as_integer(n_rewrites, op, "n_rewrites")
    if number < 1:
        raise ValueError(f"{op}: n_rewrites must be 1 or more, got {number}")
    return number


def _drawn(
    rewriter: Rewriter, queries: Sequence[str], rows: Sequence[int], draw: int
) -> list[str | None]:
    """Returns a rewrite of each of some queries."""
    if not rows:
        return []
    texts = rewriter.rewrite([queries[row] for row in rows], draw=draw)
    if len(texts) != len(rows):
        raise ValueError(
            f"compose_rewrites: expected {len(rows)} rewrites of the family {rewriter.family!r}, "
            f"got {len(texts)}"
        )
    return texts


def _add(composed: ComposedRewrites, row: int, text: str, family: str, seen: set[str]) -> None:
    """Adds a rewrite to those of a query, or counts why it is dropped."""
    key = wording(text)
    if not key:
        composed.blank[family] += 1
    elif key in seen:
        repeated = any(key == wording(other) for other in composed.texts[row])
        (composed.repeated if repeated else composed.equal_to_query)[family] += 1
    else:
        seen.add(key)
        composed.texts[row].append(text)
        composed.families[row].append(family)


def warn_if_short(op: str, composed: ComposedRewrites) -> None:
    """Warns the caller of the public function `op` if queries lack rewrites, with all counts."""
    if not composed.n_short:
        return
    equal, repeated, blank = (
        counts.total() for counts in (composed.equal_to_query, composed.repeated, composed.blank)
    )
    warnings.warn(
        f"{op}: {composed.n_short} of {len(composed.texts)} queries have fewer than "
        f"{composed.n_rewrites} rewrites; dropped: {equal} equal to their query, {repeated} to "
        f"another rewrite, {blank} blank",
        stacklevel=3,
    )
