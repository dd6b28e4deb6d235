"""The report of studies of mechanisms, made from the numbers that they wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report import Report, Section, Table
from .neurons.neuron_sections import neuron_sections
from .probe.probe_sections import probe_sections

Found = Mapping[str, Any]


def report_of(studies: Mapping[str, Found]) -> Report:
    """The report of one pair of models.

    Args:
        studies: what `tilefold mechanisms` wrote of "probe", of "neurons" or of both.

    Raises:
        ValueError: none of them.
    """
    if not studies:
        raise ValueError("report_of: expected what a study wrote, got none")
    sections: list[Section] = []
    if "probe" in studies:
        sections += probe_sections(studies["probe"])
    if "neurons" in studies:
        sections += neuron_sections(studies["neurons"])
    sections.append(_settings(studies))
    titles = list(dict.fromkeys(str(found["title"]) for found in studies.values()))
    summary = (
        "A retriever beside the model that it was trained from: what their layers tell apart, and "
        "which neurons texts go through. Intervals are 95% bootstrap intervals over samples or "
        "texts of one run; other seeds may differ by more."
    )
    return Report(f"Mechanisms: {'; '.join(titles)}", summary, sections)


def _settings(studies: Mapping[str, Found]) -> Section:
    blocks = []
    for name, found in studies.items():
        values = {**found["asked"], **found["settings"]}  # and what was taken instead of nothing
        rows = [[key.replace("_", "-"), _words(value)] for key, value in values.items()]
        rows.append(["tilefold", str(found["tilefold"])])
        blocks.append(Table(["setting", "value"], rows, f"tilefold mechanisms {name}"))
    return Section("Settings and seeds", blocks)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
