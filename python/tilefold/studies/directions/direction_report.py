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
        "for as many steps as plain DPR. Held-out facts are in no labelled question. The templates "
        "ask about them in the wordings of the labelled questions, save about a third of them, for "
        "which no question is made; so the wording that is in no training is the main measure, and "
        "the facts without synthetic questions show whether the gain carries over to others."
    ),
    "injection": (
        "Facts that the base does not know are added to it, in one block or spread over blocks; "
        "patches have as many neurons in both cases. Then the neurons with the largest attribution "
        "scores of each fact, over all tokens, are knocked out: a decentralised fact survives. "
        "Survival is the share of prompts that stated the fact before. Prompts are wordings that "
        "no editor saw. Retrievers are trained from some of these bases as plain DPR is."
    ),
    "uncertainty": (
        "Estimators say how certain the retriever is of its first passage. They and their "
        "calibration are fitted to questions of other facts than those of the test. AUROC is 0.5 "
        "for an uninformative estimator; AURC is the area under the risk-coverage curve, lower is "
        "better. Where the confidence is below a threshold chosen on the fitting questions, BM25 "
        "or a fusion replaces the ranking; the control replaces those of as many random questions. "
        "Conformal sets are calibrated to have a relevant passage with probability 1 - alpha over "
        "questions that are exchangeable with one fitting question of each fact."
    ),
    "maps": (
        "Passages are represented by their most active neurons, in an inverted index from neurons "
        "to passages, and questions by a linear map from one layer to passages. Numbers of neurons "
        "and layers are chosen on the fitting questions. Links are tested by knocking out the "
        "neurons that a question shares with its passage; the control is as many neurons of the "
        "question, as active, that the passage's code does not have."
    ),
}


def direction_sections(result: DirectionResult) -> list[Section]:
    """Returns a section for each direction with the tables of the summary."""
    n = len(result.settings.seeds)
    over = "facts" if result.settings.world else "queries, whose values are means over seeds"
    caption = f"{n} seed{'s' * (n > 1)}; 95% bootstrap intervals over {over}"
    compared = "differences paired, p corrected over the comparisons of a direction (Holm)"
    tables = summarise_directions(result)
    sections = []
    for name, heading in HEADINGS.items():
        title, _, _ = heading.partition(":")
        own = [table for table in tables if table.heading.startswith(title)]
        if not own:
            continue
        words = f"{_WORDS[name]} {caption[0].upper()}{caption[1:]}; {compared}."
        blocks: list[Paragraph | Table] = [Paragraph(words)]
        for table in own:
            shown = table.heading.removeprefix(f"{heading}; ").removeprefix(f"{title}: ")
            first = "estimator" if "estimator" in shown else "method"
            words = f"{shown[0].upper()}{shown[1:]}."
            blocks.append(Table.from_columns(first, table.labels, table.columns, words))
            if table.notes:
                blocks.append(Paragraph(f"Costs: {'; '.join(table.notes)}."))
        sections.append(Section(heading, blocks))
    return sections
