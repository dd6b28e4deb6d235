"""Draws questions whose rankings the report shows under every wording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .invar_result import RankingStrip
from .invar_subject import InvarSubject
from .retriever_settings import FULL
from .view_rankings import ViewRankings

_SHOWN = (FULL, "no invariance")


def ranking_strips(
    subject: InvarSubject, rankings: Mapping[str, ViewRankings], n: int, cutoff: int
) -> tuple[RankingStrip, ...]:
    """Shows questions under their rewrites, before and after: with and without invariance.

    Args:
        subject: questions and passages.
        rankings: by system, of the first seed.
        n: questions, drawn with a fixed seed.
        cutoff: passages of a ranking.
    """
    data = subject.test
    shown = [name for name in _SHOWN if name in rankings]
    rows = np.sort(np.random.default_rng(0).permutation(len(data))[:n])
    strips = []
    for row in rows.tolist():
        base = rankings[FULL].wordings[0, row, :cutoff]
        base = base[base >= 0]
        ranks = {
            name: tuple(
                tuple(_rank(own[row, :cutoff].tolist(), int(passage)) for passage in base)
                for own in rankings[name].wordings
            )
            for name in shown
        }
        relevant = set(data.positives.of(row).tolist())
        strips.append(
            RankingStrip(
                data.queries[row],
                (data.queries[row], *subject.unseen[row]),
                tuple(data.documents[int(passage)] for passage in base),
                tuple(int(passage) in relevant for passage in base),
                ranks,
            )
        )
    return tuple(strips)


def _rank(ranking: list[int], passage: int) -> int:
    return ranking.index(passage) + 1 if passage in ranking else 0
