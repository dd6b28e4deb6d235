"""What was measured, as JSON, with what was asked for."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluate import bootstrap
from ..files.atomic import replacing_text
from ..version import __version__
from .request import settings_of


class Gain(NamedTuple):
    """The mean difference of queries' values, its 95% bootstrap interval, and Holm's p."""

    mean: float
    low: float
    high: float
    p: float


def write_results(
    path: str,
    args: argparse.Namespace,
    values: Mapping[str, Mapping[str, NDArray[np.float64]]],
    gains: Mapping[str, Gain],
) -> None:
    """Writes means and intervals of each ranking, whole or not at all.

    Args:
        path: where to.
        args: what was asked for.
        values: of each ranking, those of queries under each measure.
        gains: over a baseline, under each measure; none where there was no baseline.
    """
    found = {
        "tilefold": __version__,
        "asked": settings_of(args),
        "n_queries": len(next(iter(next(iter(values.values())).values()))),
        "measures": {
            ranking: {name: bootstrap(of)._asdict() for name, of in measured.items()}
            for ranking, measured in values.items()
        },
        "over_baseline": {name: gain._asdict() for name, gain in gains.items()},
    }
    with replacing_text(path) as file:
        file.write(as_json(found))


def as_json(found: Mapping[str, Any]) -> str:
    """Text for a file; null for what is no number, such as the mean of no queries."""
    return json.dumps(_finite(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
