"""Summarises sweeps of patches: the effect of an axiom, and the shares that components recover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import Interval, bootstrap
from ..mean_ratio import ratio_of_means
from .patching_result import HOLDS, NO_EFFECT, REVERSED, AxiomEffect, ComponentShare

if TYPE_CHECKING:
    from ...mechanisms import AxiomaticPairs

STRONGEST = 5  # components with an interval
Floats = NDArray[np.float64]


def axiom_effect(
    pairs: AxiomaticPairs, model: str, found: Mapping[str, NDArray[Any]]
) -> AxiomEffect:
    """Summarises a sweep; shares are ratios of sums over pairs.

    A single pair's scores may hardly differ, so that its own share would be arbitrary.

    Args:
        pairs: of the sweep.
        model: base or retriever.
        found: scores "clean" and "corrupted" ``[pairs]``, and scores with patches: "heads"
            ``[pairs, layers, heads]`` and "feed_forward" ``[pairs, layers]``; perhaps gains
            "tokens" ``[pairs, layers, classes]``, NaN where a pair has no token of a class.
    """
    clean, corrupted, heads, blocks = (
        np.asarray(found[name], np.float64)
        for name in ("clean", "corrupted", "heads", "feed_forward")
    )
    gaps = clean - corrupted
    effect = bootstrap(gaps)
    verdict = _verdict(effect)
    measured = len(pairs), pairs.skipped, effect, float((gaps > 0).mean()), verdict
    if verdict == NO_EFFECT:
        return AxiomEffect(pairs.name, model, *measured, (), (), (), {})
    gains = heads - corrupted[:, None, None]
    block_gains = blocks - corrupted[:, None]
    components = {
        **{
            f"layer {layer}, head {head}": gains[:, layer, head]
            for layer, head in np.ndindex(gains.shape[1:])
        },
        **{
            f"layer {layer}, feed-forward": block_gains[:, layer]
            for layer in range(block_gains.shape[1])
        },
    }
    return AxiomEffect(
        pairs.name,
        model,
        *measured,
        tuple(tuple(row) for row in (gains.sum(0) / gaps.sum()).tolist()),
        tuple((block_gains.sum(0) / gaps.sum()).tolist()),
        _strongest(components, gaps),
        _by_class(np.asarray(found["tokens"], np.float64), gaps) if "tokens" in found else {},
    )


def _verdict(effect: Interval) -> str:
    if effect.low > 0:
        return HOLDS
    return REVERSED if effect.high < 0 else NO_EFFECT


def _strongest(components: Mapping[str, Floats], gaps: Floats) -> tuple[ComponentShare, ...]:
    order = sorted(components, key=lambda name: -abs(float(components[name].sum())))
    return tuple(
        ComponentShare(name, ratio_of_means(components[name], gaps)) for name in order[:STRONGEST]
    )


def _by_class(gains: Floats, gaps: Floats) -> dict[str, tuple[float, ...]]:
    """Shares of each class and layer, over the pairs that have a token of the class."""
    from ...mechanisms.patching.token_classes import TOKEN_CLASSES

    found = {}
    for place, name in enumerate(TOKEN_CLASSES):
        own = gains[:, :, place]
        there = ~np.isnan(own).any(1)
        total = gaps[there].sum()
        shares = own[there].sum(0) / total if total else np.full(own.shape[1], np.nan)
        found[name] = tuple(shares.tolist())
    return found
