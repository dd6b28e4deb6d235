"""Joins results of studies to a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..report import Report, Section, Table
from .study import Study
from .typed_values import to_json


def mechanisms_report(results: Sequence[tuple[Study[Any, Any], Any]]) -> Report:
    """Returns the report of one pair of models.

    Args:
        results: of studies of a retriever beside its base, in the order of their sections.

    Raises:
        ValueError: there are none.
    """
    if not results:
        raise ValueError("mechanisms_report: expected one result or more, got none")
    sections = [section for study, result in results for section in study.sections(result)]
    sections.append(_settings(results, "mechanisms {name}"))
    titles = list(dict.fromkeys(str(result.title) for _, result in results))
    worlds = {getattr(result.settings, "world", None) for _, result in results}
    if len(titles) > 1 and len(worlds) == 1 and None not in worlds:
        titles = [f"a {worlds.pop()} world"]
    summary = (
        "A retriever beside the model that it was trained from: what its layers and neurons show, "
        "what edits of facts and other trainings change, and what it retrieves. Intervals are 95% "
        "bootstrap intervals over samples, texts or facts; other seeds may differ by more."
    )
    return Report(f"Mechanisms: {'; '.join(titles)}", summary, sections)


def aar_report(study: Study[Any, Any], result: Any) -> Report:
    """Returns the report of a run of AAR.

    Args:
        study: AAR.
        result: of it.
    """
    summary = (
        "A retriever adapted to the passages that a source language model prefers (AAR: Yu et al., "
        "ACL 2023), and the accuracy of target language models that read its passages."
    )
    settings = _settings([(study, result)], "aar run")
    return Report(f"AAR: {result.title}", summary, [*study.sections(result), settings])


def invar_report(study: Study[Any, Any], result: Any) -> Report:
    """Returns the report of a run of Invar-RAG.

    Args:
        study: Invar-RAG.
        result: of it.
    """
    summary = (
        "A language model with one adapter that retrieves, aligned to a coarse encoder and trained "
        "to rank alike under rewrites of a question and other context windows, and another adapter "
        "that answers from what was retrieved (Invar-RAG: Liu et al., arXiv:2411.07021)."
    )
    settings = _settings([(study, result)], "invar run")
    return Report(f"Invar-RAG: {result.title}", summary, [*study.sections(result), settings])


def _settings(results: Sequence[tuple[Study[Any, Any], Any]], command: str) -> Section:
    blocks = []
    for study, result in results:
        values = {**to_json(result.settings), **to_json(result.constants)}
        rows = [
            [name.replace("_", "-"), _formatted(value)]
            for name, value in values.items()
            if value is not None
        ]
        rows.append(["tilefold", result.version])
        blocks.append(
            Table(["setting", "value"], rows, f"tilefold {command.format(name=study.name)}")
        )
    return Section("Settings and seeds", blocks)


def _formatted(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_formatted, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
