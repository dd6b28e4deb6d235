"""Result of the study of patching."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from .patching_settings import PatchingSettings

HOLDS, REVERSED, NO_EFFECT = "holds", "reversed", "does not hold"


@dataclass(frozen=True)
class ComponentShare:
    """What one head or feed-forward block recovers, and its 95% bootstrap interval over pairs.

    Args:
        component: such as "layer 2, head 0".
        share: gains of all pairs, divided by their differences of clean and corrupted scores.
    """

    component: str
    share: Interval


@dataclass(frozen=True)
class AxiomEffect:
    """What an axiom of retrieval does to scores of a model, and which parts of it do so.

    Args:
        axiom: TFC1, TDC or LNC1.
        model: base or retriever.
        pairs: number of pairs of passages.
        skipped: queries that were tried and that no pair can be made for.
        effect: clean minus corrupted score, mean and 95% bootstrap interval over pairs.
        agreeing: share of pairs whose clean passage scores higher.
        verdict: "holds" or "reversed" where the interval excludes 0; otherwise "does not hold", and
            the shares below are empty.
        heads: share that each head recovers, for each layer.
        feed_forward: share that the feed-forward block of each layer recovers.
        strongest: components of the largest absolute shares.
        tokens: for each class of tokens the share that the states of its tokens behind each layer
            recover, one at a time, in sum; NaN where no pair has such a token. Empty without
            by_token.
    """

    axiom: str
    model: str
    pairs: int
    skipped: int
    effect: Interval
    agreeing: float
    verdict: str
    heads: tuple[tuple[float, ...], ...]
    feed_forward: tuple[float, ...]
    strongest: tuple[ComponentShare, ...]
    tokens: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class ShownPair:
    """The first pair of an axiom: a query, and the ends of both passages."""

    axiom: str
    query: str
    clean: str
    corrupted: str


@dataclass(frozen=True)
class PatchingResult:
    """Result of `run_patching`.

    Args:
        settings: of the run.
        title: names models and data.
        effects: of each axiom, for the base and for the retriever.
        shown: a pair of each axiom.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: PatchingSettings
    title: str
    effects: tuple[AxiomEffect, ...]
    shown: tuple[ShownPair, ...]
    constants: dict[str, float]
    version: str = __version__
