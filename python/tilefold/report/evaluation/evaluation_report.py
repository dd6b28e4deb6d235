"""Joins the sections of an evaluation to one page."""

from __future__ import annotations

from ...files.secrets import referenced
from ...version import __version__
from ..page import Report, Section, Table
from .comparison_section import comparison_section
from .map_section import map_section
from .quality_section import quality_section
from .ranked_systems import EvaluatedSystems
from .score_section import score_section
from .worst_section import worst_section


def evaluation_report(found: EvaluatedSystems) -> Report:
    """Returns the page of an evaluation: the same bytes for the same systems and settings.

    Args:
        found: systems with their rankings and values on one collection.

    Example:
        >>> import numpy as np
        >>> from tilefold.data import Collection, Qrels
        >>> from tilefold.evaluate import evaluate
        >>> from tilefold.report.evaluation import RankedSystem
        >>> qrels = Qrels.pack([{0: 1.0}])
        >>> texts = Collection(["d0", "d1"], ["a fox", "a hen"], ["q0"], ["which fox?"], qrels)
        >>> ids = np.array([[1, 0]])
        >>> system = RankedSystem(ids, np.array([[0.9, 0.5]]), evaluate(ids, qrels, ["RR"]))
        >>> report = evaluation_report(EvaluatedSystems(texts, {"dense": system}, "Foxes"))
        >>> "<td>0.500 [0.500, 0.500]</td>" in report.html()
        True
    """
    summary = (
        f"{', '.join(found.systems)}: {found.k:,} results for each of "
        f"{len(found.collection.queries):,} queries, from {len(found.collection.documents):,} "
        "documents."
    )
    sections = [
        quality_section(found),
        comparison_section(found),
        worst_section(found),
        score_section(found),
        map_section(found),
        _settings(found),
    ]
    return Report(found.title, summary, sections)


def _settings(found: EvaluatedSystems) -> Section:
    texts, removed = found.collection, found.removed
    n_removed = 0 if removed is None else len(removed.indices)
    facts = {
        "documents": f"{len(texts.documents):,}",
        "queries": f"{len(texts.queries):,}",
        "judgments": f"{len(texts.qrels.ids):,}",
        "relevant documents": f"{sum(map(len, found.relevant)):,}",
        "judged documents that are not in the corpus": f"{len(texts.absent):,}",
        "documents left out as they are the query": f"{n_removed:,}",
        "seed of intervals, random documents and the map": "0",
        "tilefold": __version__,
    }
    options = {name: referenced(name, _text(value)) for name, value in found.settings.items()}
    rows = [[name.replace("_", "-"), text] for name, text in options.items()]
    return Section(
        "Data and settings",
        [
            Table(["data", "value"], [list(row) for row in facts.items()], "What was evaluated."),
            Table(["option", "value"], rows, "Options."),
        ],
    )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
