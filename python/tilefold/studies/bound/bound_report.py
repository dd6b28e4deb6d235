"""Sections of a report on the knowledge bound."""

from __future__ import annotations

from ...report import Paragraph, Section, Table
from ...report.number_format import interval
from .bound_result import BoundResult
from .bound_summary import summarise_bound

_WORDS = (
    "If what the base knows bounds what a retriever trained from it can retrieve (claim C3), facts "
    "that are added to the base become easier to retrieve, and facts that are removed harder. "
    "Retrievers are trained alike from each base. Controls are a random change of the base's "
    "weights of the same norm in each layer, the same edits after the training, and the facts that "
    "an edit does not concern: as two trainings differ by chance on all facts, the change of the "
    "edited ones is also compared with that of the others in the same retriever."
)


def bound_sections(result: BoundResult) -> list[Section]:
    """Returns a section with the tables of the summary, and the sentence of the known facts."""
    held_out = (
        "Questions about the edited facts are in the training."
        if result.settings.train_edited
        else "No question about the edited facts is in the training."
    )
    n = len(result.settings.seeds)
    caption = f"{n} seeds; 95% bootstrap intervals over facts of all seeds."
    blocks: list[Paragraph | Table] = [Paragraph(f"{_WORDS} {held_out}")]
    first = ("edit", "retriever from", "retriever: facts", "retriever: facts", "rank")
    for name, table in zip(first, summarise_bound(result), strict=True):
        words = f"{table.heading}; {caption}"
        blocks.append(Table.from_columns(name, table.labels, table.columns, words))
    blocks.append(
        Paragraph(
            "Which facts were in the pre-training was drawn at random. The difference between "
            f"those and the others is {interval(result.known, signed=True)}."
        )
    )
    return [Section("The knowledge bound", blocks)]
