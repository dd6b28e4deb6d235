"""The section of the worst queries of a system: what it found, and what it should have found."""

from __future__ import annotations

import numpy as np

from ..page import Block, Paragraph, Section, SideBySide
from .query_cells import clipped
from .ranked_systems import EvaluatedSystems, RankedSystem

_QUERIES = 20
_DOCUMENTS = 3  # of each column


def worst_section(found: EvaluatedSystems) -> Section:
    """Returns a section with the queries of the lowest values of the first system."""
    (name, system), measure = next(iter(found.systems.items())), found.measures[0]
    values = system.values[measure]
    ranks = found.ranks(system)
    # Of equal values, the one whose first relevant document is ranked lowest comes first.
    best = np.array([own[0] if own else found.k + 1 for own in ranks])
    order = [int(row) for row in np.lexsort((-best, values)) if values[row] < 1][:_QUERIES]
    heading = f"Worst queries of {name}"
    if not order:
        return Section(heading, [Paragraph(f"{measure} is 1 for every query that counts.")])
    words = (
        f"The {len(order)} queries with the lowest {measure} of {name}: what it ranked first, and "
        "the relevant documents with their ranks. Not every document that answers a query may "
        "have been judged."
    )
    items = [
        (
            f"{measure} {values[row]:.3f}: {clipped(found.collection.queries[row])} "
            f"({clipped(found.collection.query_ids[row], 80)})",
            {
                "ranked first": _first(found, system, row),
                "relevant": _relevant(found, system, row),
            },
        )
        for row in order
    ]
    blocks: list[Block] = [Paragraph(words), SideBySide(items)]
    return Section(heading, blocks)


def _first(found: EvaluatedSystems, system: RankedSystem, row: int) -> list[str]:
    pairs = zip(system.ids[row, :_DOCUMENTS], system.scores[row, :_DOCUMENTS], strict=True)
    relevant = set(found.relevant[row].tolist())
    texts = [
        f"score {score:.3f}{', relevant' if document in relevant else ''}: "
        f"{clipped(found.document_text(int(document)))}"
        for document, score in pairs
        if document >= 0
    ]
    return texts or ["nothing"]


def _relevant(found: EvaluatedSystems, system: RankedSystem, row: int) -> list[str]:
    places = {int(document): rank for rank, document in enumerate(system.ids[row], 1)}
    wanted = sorted(found.relevant[row].tolist(), key=lambda one: places.get(one, found.k + 1))
    texts = [
        f"{f'rank {places[one]}' if one in places else 'not retrieved'}: "
        f"{clipped(found.document_text(one))}"
        for one in wanted[:_DOCUMENTS]
    ]
    if len(wanted) > _DOCUMENTS:
        texts.append(f"and {len(wanted) - _DOCUMENTS:,} more")
    return texts or ["no document is judged relevant"]
