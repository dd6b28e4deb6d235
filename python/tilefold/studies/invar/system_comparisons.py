"""Means over seeds, and comparisons of systems that are paired over questions or groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..paired_comparison import compare_pairs
from .invar_result import GOLD, STAGE_2, Compared, Measured
from .retriever_settings import FULL
from .view_rankings import RECIPROCAL, VARIANCE

_TESTED = ("deviation", "lowest", "Jaccard", "RBO", "flips")  # beginnings of names of measures
_GOLD = GOLD.removeprefix(STAGE_2)  # end of the names of systems with gold passages
Values = dict[tuple[str, str], NDArray[np.float64]]  # condition or system, measure -> [n]


def system_means(
    found: Mapping[str, Sequence[Values]], *, one_condition: bool = False
) -> tuple[Measured, ...]:
    """Returns means over seeds with intervals over samples: questions, or groups of them.

    Args:
        found: for each system the values of each seed.
        one_condition: keys name the system, not a condition.
    """
    from ...evaluate import bootstrap

    rows = []
    for system, seeds in found.items():
        for key in seeds[0]:
            values = np.stack([own[key] for own in seeds])
            rows.append(
                Measured(
                    system,
                    "" if one_condition else key[0],
                    key[1],
                    bootstrap(values.mean(0)),
                    tuple(values.mean(1).tolist()),
                    values.shape[1],
                )
            )
    return tuple(rows)


def retriever_differences(
    found: Mapping[str, Sequence[Values]], variants: Sequence[str]
) -> tuple[Compared, ...]:
    """Compares the full retriever with each variant, all p values corrected together.

    Args:
        found: for each system the values of each seed.
        variants: to compare with.
    """
    keys = [
        (other, key)
        for other in variants
        if other != FULL
        for key in found[FULL][0]
        if key[1] in (RECIPROCAL, VARIANCE) or key[1].startswith(_TESTED)
    ]
    pairs = {
        "\t".join((other, *key)): (_mean(found[FULL], key), _mean(found[other], key))
        for other, key in keys
    }
    return tuple(
        Compared(FULL, other, *key, one)
        for (other, key), one in zip(keys, compare_pairs(pairs), strict=True)
    )


def answer_differences(found: Mapping[str, Sequence[Values]]) -> tuple[Compared, ...]:
    """Compares answers after stage 2 with the other systems that have no gold passages.

    Args:
        found: for each system the values of each seed.
    """
    if not found:
        return ()
    others = [name for name in found if name != STAGE_2 and not name.endswith(_GOLD)]
    keys = [(other, measure) for other in others for _, measure in found[other][0]]
    pairs = {
        "\t".join((other, measure)): (
            _mean(found[STAGE_2], (STAGE_2, measure)),
            _mean(found[other], (other, measure)),
        )
        for other, measure in keys
    }
    return tuple(
        Compared(STAGE_2, other, "answers", measure, one)
        for (other, measure), one in zip(keys, compare_pairs(pairs), strict=True)
    )


def _mean(seeds: Sequence[Values], key: tuple[str, str]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([own[key] for own in seeds], 0)
    return mean
