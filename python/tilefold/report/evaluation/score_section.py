"""The section of scores: those of relevant documents beside those of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...evaluate.gains import judge
from ..histograms import bin_file, histograms
from ..page import Figure, Figures, Paragraph, Section
from .ranked_systems import EvaluatedSystems, FloatArray, RankedSystem

SEED = 0
_BINS = 40
_DRAWN = 10  # random documents of each query
_RELEVANT, _OTHERS, _RANDOM = "relevant", "other retrieved", "random"


class _Scores(NamedTuple):
    """Finite scores by the kind of their documents, and how many were not finite."""

    groups: dict[str, FloatArray]
    left_out: int


def score_section(found: EvaluatedSystems) -> Section:
    """Returns a section with a histogram of the scores of each system."""
    words = (
        "Scores of documents that are judged relevant, beside those of other documents that were "
        f"retrieved (rank {found.k:,} or better). Where a system has embeddings, relevant "
        f"documents count whether they were retrieved or not, and {_DRAWN} random documents of "
        f"each query, which are not relevant, are drawn as well (seed {SEED}); of other systems, "
        "scores of retrieved documents are all that is known. Each group has its own total of 1. "
        "Scores of different systems cannot be compared."
    )
    figures = []
    blocks: list[Paragraph | Figures] = [Paragraph(words)]
    for name, system in found.systems.items():
        scores = _scores(found, system)
        if scores.left_out:
            blocks.append(Paragraph(f"{name}: {_not_finite(scores.left_out)}"))
        if scores.groups:
            figures.append(_figure(name, scores.groups))
        else:
            blocks.append(Paragraph(f"{name} has no scores to show."))
    return Section("Scores", [*blocks, *([Figures(figures)] if figures else [])])


def _not_finite(n: int) -> str:
    if n == 1:
        return "1 score is NaN or infinite, and is left out."
    return f"{n:,} scores are NaN or infinite, and are left out."


def _scores(found: EvaluatedSystems, system: RankedSystem) -> _Scores:
    hits = judge(system.ids, found.collection.qrels).gains >= 1
    retrieved = system.ids >= 0
    groups = {_RELEVANT: system.scores[hits], _OTHERS: system.scores[retrieved & ~hits]}
    if system.embeddings is not None:
        groups[_RELEVANT] = _pair_scores(system, *_relevant_pairs(found))
        groups[_RANDOM] = _pair_scores(system, *_random_pairs(found))
    left_out, kept = 0, {}
    for kind, values in groups.items():
        finite = np.isfinite(values)
        left_out += int((~finite).sum())
        if finite.any():
            kept[kind] = values[finite].astype(np.float64)
    return _Scores(kept, left_out)


def _relevant_pairs(found: EvaluatedSystems) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns queries and their relevant documents that the corpus has and that they may rank."""
    m = len(found.collection.documents)
    rows = np.repeat(np.arange(len(found.relevant)), [len(own) for own in found.relevant])
    ids = np.concatenate([*found.relevant, np.empty(0, np.int64)]).astype(np.int64)
    kept = ids < m
    if found.removed is not None:
        kept &= ~np.isin(rows * m + ids, found.removed.keys(m))
    return rows[kept], ids[kept]


def _random_pairs(found: EvaluatedSystems) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws documents of each query, and leaves out relevant ones and the query itself."""
    m, rng = len(found.collection.documents), np.random.default_rng(SEED)
    ids = rng.integers(m, size=(len(found.relevant), _DRAWN)).ravel()
    rows = np.repeat(np.arange(len(found.relevant)), _DRAWN)
    taken = [own_row * m + own for own_row, own in enumerate(found.relevant)]
    if found.removed is not None:
        taken.append(found.removed.keys(m))
    kept = ~np.isin(rows * m + ids, np.concatenate(taken))
    return rows[kept], ids[kept]


def _pair_scores(
    system: RankedSystem, rows: NDArray[np.int64], ids: NDArray[np.int64]
) -> FloatArray:
    """Computes inner products in fp64, a block of pairs at a time."""
    assert system.embeddings is not None
    queries, documents = system.embeddings
    scores = np.empty(len(rows))
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        left, right = queries[rows[part]], documents[ids[part]]
        with np.errstate(invalid="ignore", over="ignore"):  # counted where they are left out
            scores[part] = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return scores


def _figure(name: str, groups: dict[str, FloatArray]) -> Figure:
    low = min(float(values.min()) for values in groups.values())
    high = max(float(values.max()) for values in groups.values())
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts = {kind: np.histogram(values, edges)[0] for kind, values in groups.items()}
    svg = histograms(
        f"scores {name}", edges, counts, x_label=f"score of {name}", y_label="share of the group"
    )
    words = "; ".join(
        f"{kind}: {len(values):,}, median {np.median(values):.3f}"
        for kind, values in groups.items()
    )
    data = bin_file(f"scores of {name}.csv", edges, counts)
    return Figure(svg, f"Histogram of scores of {name}; {words}", f"{name}. {words}.", data)
