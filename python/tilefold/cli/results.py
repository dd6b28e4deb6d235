"""Measures of an evaluation as JSON, with the options of the verb."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluate import bootstrap
from ..files.atomic import replacing_text
from ..files.secrets import redacted
from ..studies.typed_values import to_json
from ..version import __version__
from .saved_options import options_of


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
    *,
    removed: int,
) -> None:
    """Writes means and intervals of each ranking, whole or not at all.

    Args:
        path: of the file.
        args: options of the verb.
        values: ``[queries]`` by the name of the ranking and of the measure.
        gains: over a baseline, by measure; empty where there was no baseline.
        removed: documents left out of rankings, as they are the query itself.
    """
    found = {
        "tilefold": __version__,
        "options": options_of(args),
        "n_queries": len(next(iter(next(iter(values.values())).values()))),
        "n_removed": removed,
        "measures": {
            ranking: {name: bootstrap(queries)._asdict() for name, queries in measured.items()}
            for ranking, measured in values.items()
        },
        "over_baseline": {name: gain._asdict() for name, gain in gains.items()},
    }
    with replacing_text(path) as file:
        text = json.dumps(to_json(found), indent=1, ensure_ascii=False, allow_nan=False)
        file.write(redacted(text) + "\n")
