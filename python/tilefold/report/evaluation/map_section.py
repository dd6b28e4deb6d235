"""The section of the embedding map: queries and documents in the plane of most variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..csv_files import Cell, CsvFile
from ..page import Block, Figure, Figures, Paragraph, Section
from ..scatter import Points, scatter
from .principal_plane import Plane, principal_plane
from .query_cells import clipped
from .ranked_systems import EvaluatedSystems, RankedSystem

SEED = 0
_QUERIES, _RELEVANT, _OTHERS = 150, 300, 500  # points of each kind at most


def map_section(found: EvaluatedSystems) -> Section:
    """Returns a section with a map of each system that has embeddings, or the reason for none."""
    chosen = _chosen(found)
    blocks: list[Block] = []
    figures = []
    for name, system in found.systems.items():
        figure = _figure(found, name, system, chosen)
        if isinstance(figure, str):
            blocks.append(Paragraph(f"There is no map of {name}: {figure}."))
        else:
            figures.append(figure)
    if figures:
        queries, relevant, others = map(len, chosen)
        m = len(found.collection.documents)
        n_others = m - len(_together(found.relevant, m))
        words = (
            "Embeddings in the plane in which these points vary most (principal component "
            f"analysis). Shown are {queries:,} of {len(found.relevant):,} queries, {relevant:,} "
            f"of their relevant documents and {others:,} of {n_others:,} documents that are "
            f"relevant to no query, drawn with seed {SEED}. A plane shows only the share of the "
            "variance that its axes name: points that are close here may be far apart in all "
            "dimensions. Rest the pointer on a point for its text."
        )
        blocks = [Paragraph(words), Figures(figures), *blocks]
    return Section("Embedding map", blocks)


def _chosen(found: EvaluatedSystems) -> tuple[NDArray[np.int64], ...]:
    """Draws queries, their relevant documents, and documents that are relevant to no query.

    Each is in rising order.
    """
    rng, m = np.random.default_rng(SEED), len(found.collection.documents)
    queries = np.sort(rng.permutation(len(found.relevant))[:_QUERIES])
    relevant = _together([found.relevant[row] for row in queries], m)
    relevant = np.sort(rng.permutation(relevant)[:_RELEVANT])
    of_any = _together(found.relevant, m)
    # So many that enough of them are left.
    drawn = rng.choice(m, min(m, _OTHERS + len(of_any)), replace=False)
    others = np.sort(drawn[~np.isin(drawn, of_any)][:_OTHERS])
    return queries, relevant, others


def _together(lists: Sequence[NDArray[np.int64]], m: int) -> NDArray[np.int64]:
    """Returns the documents of all lists, each once, without those that the corpus lacks."""
    documents = np.unique(np.concatenate([*lists, np.empty(0, np.int64)]).astype(np.int64))
    return documents[documents < m]


def _figure(
    found: EvaluatedSystems, name: str, system: RankedSystem, chosen: Sequence[NDArray[np.int64]]
) -> Figure | str:
    """Returns the map of a system, or why it has none."""
    if system.embeddings is None:
        return "it has no embeddings"
    queries, relevant, others = chosen
    vectors = np.concatenate(
        [
            system.embeddings[0][queries],
            system.embeddings[1][relevant],
            system.embeddings[1][others],
        ]
    ).astype(np.float64)
    if not np.isfinite(vectors).all():
        return "an embedding has NaN or infinity"
    plane = principal_plane(vectors)
    if plane is None:
        return "its embeddings do not differ"
    titles = [
        *(f"query: {clipped(found.collection.queries[row], 120)}" for row in queries),
        *(clipped(found.document_text(int(one)), 120) for one in (*relevant, *others)),
    ]
    ends = np.cumsum([len(queries), len(relevant), len(others)])
    parts = [slice(end - len(own), end) for end, own in zip(ends, chosen, strict=True)]
    kinds = ("queries", "relevant documents", "other documents")
    # Queries are drawn last, above the documents.
    groups = {
        kind: Points(plane.at[part], titles[part])
        for kind, part in reversed(list(zip(kinds, parts, strict=True)))
        if part.start < part.stop
    }
    return _drawn(name, plane, groups)


def _drawn(name: str, plane: Plane, groups: dict[str, Points]) -> Figure:
    labels = [
        f"component {number} ({share:.1%} of the variance)"
        for number, share in enumerate(plane.explained, 1)
    ]
    svg = scatter(f"map {name}", groups, x_label=labels[0], y_label=labels[1])
    counts = ", ".join(f"{len(points.titles):,} {kind}" for kind, points in groups.items())
    caption = (
        f"Embeddings of {name}: {counts}. Both components explain "
        f"{sum(plane.explained):.1%} of their variance."
    )
    rows: list[list[Cell]] = [
        [kind, title, float(x), float(y)]
        for kind, points in groups.items()
        for (x, y), title in zip(points.at, points.titles, strict=True)
    ]
    data = CsvFile(f"map of {name}.csv", ["kind", "text", "component 1", "component 2"], rows)
    return Figure(svg, f"Map of {counts}, by {name}", caption, data, wide=True)
