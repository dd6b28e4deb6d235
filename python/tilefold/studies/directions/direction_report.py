"""Sections of a report on the four directions."""

from __future__ import annotations

from ...report import Paragraph, Section, Table
from .direction_result import DirectionResult
from .direction_summary import HEADINGS, summarise_directions

_WORDS = {
    "exposure": (
        "Labelled questions ask about a part of the facts. Questions about the other passages are "
        "made by templates that are learned from the labelled ones, or are crops of passages, and "
        "kept where BM25 finds their passage among its first results. Every retriever is trained "
        "for as many steps as plain DPR. Facts of the evaluation are in no labelled question."
    ),
    "injection": (
        "Facts that the base does not know are added to it, in one place or spread over blocks, "
        "prompts and neurons. Then the neurons of the largest attribution scores are knocked out, "
        "for each fact its own: a decentralised fact survives. Prompts are wordings that no editor "
        "saw. Retrievers are trained from some of these bases as plain DPR is."
    ),
    "uncertainty": (
        "Estimators say how certain the retriever is of its first passage. They and their "
        "calibration are fitted to questions of other facts than those of the test. AUROC is 0.5 "
        "for an estimator that knows nothing; the area of risk is the mean share of wrong first "
        "passages among those that are kept, in the order of confidence. Where the confidence is "
        "below a threshold chosen on the fitting questions, BM25 or a fusion replaces the ranking. "
        "Conformal sets have a relevant passage in the share of questions that is asked for."
    ),
    "maps": (
        "Passages are represented by their most active neurons, in an inverted index from neurons "
        "to passages, and questions by a linear map from one layer to passages. Numbers of neurons "
        "and layers are chosen on the fitting questions. Links are tested by knocking out the "
        "neurons that a question shares with its passage."
    ),
}


def direction_sections(result: DirectionResult) -> list[Section]:
    """Returns a section for each direction with the tables of the summary."""
    n = len(result.settings.seeds)
    caption = (
        f"{n} seed{'s' * (n > 1)}; 95% bootstrap intervals over facts, differences paired, p "
        "corrected over the comparisons of a direction (Holm)."
    )
    tables = summarise_directions(result)
    sections = []
    for name, heading in HEADINGS.items():
        title, _, _ = heading.partition(":")
        own = [table for table in tables if table.heading.startswith(title)]
        if not own:
            continue
        blocks: list[Paragraph | Table] = [Paragraph(_WORDS[name])]
        for table in own:
            first = "estimator" if "estimator" in table.heading else "method"
            words = f"{table.heading}. {caption}"
            blocks.append(Table.from_columns(first, table.labels, table.columns, words))
            if table.notes:
                blocks.append(Paragraph(f"Costs. {'; '.join(table.notes)}."))
        sections.append(Section(heading, blocks))
    return sections
