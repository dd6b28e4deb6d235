"""Writes the report of `tilefold eval`: passes rankings and options to `tilefold.report`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data import Collection
from ..ragged_lists import Lists
from ..retrieval.running_search import SearchResult
from .demo.comparison import Embedded
from .results import Gain
from .saved_options import options_of

if TYPE_CHECKING:
    from ..report.evaluation import RankedSystem


def ranked_systems(
    rankings: Mapping[str, SearchResult],
    values: Mapping[str, Mapping[str, NDArray[np.float64]]],
    embedded: Mapping[str, Embedded | None],
) -> dict[str, RankedSystem]:
    """Returns the systems of a report.

    Args:
        rankings: by name.
        values: of each ranking and measure.
        embedded: of those rankings that are by a model.
    """
    from ..report.evaluation import RankedSystem

    systems = {}
    for name, found in rankings.items():
        vectors = embedded.get(name)
        systems[name] = RankedSystem(
            np.asarray(found.ids),
            np.asarray(found.scores),
            values[name],
            None if vectors is None else vectors.queries,
            None if vectors is None else vectors.documents,
        )
    return systems


def write_report(
    args: argparse.Namespace,
    collection: Collection,
    systems: Mapping[str, RankedSystem],
    gains: Mapping[str, Gain],
    own: Lists,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        args: options of the verb.
        collection: that was evaluated.
        systems: of `ranked_systems`.
        gains: over a baseline, by measure; empty where there was no baseline.
        own: documents that a query does not rank, as they are the query itself.
    """
    from ..report.evaluation import EvaluatedSystems, evaluation_report

    against = f" against {args.baseline}" if args.baseline else ""
    title = f"Evaluation of {args.model}{against} on {args.data}, split {args.split}"
    found = EvaluatedSystems(collection, systems, title, gains, options_of(args), own)
    evaluation_report(found).write(args.report)
