"""Sections of a report on edits of facts."""

from __future__ import annotations

from ...report import Paragraph, Section, Table
from .edit_result import MODES, EditResult
from .edit_summary import HEADINGS, columns_of

_WORDS = (
    "Editors change weights of the feed-forward layers so that the model states facts that it does "
    "not know, or no longer states facts that it knows. All facts of a seed are edited at once and "
    "then measured. Reliability is the share of prompts shown to the editor that state the object "
    "(or, where it is removed, do not), generalization that of other wordings, portability that of "
    "these with the last name of a person alone (of removed facts, those that the model stated so "
    "before); locality is the share of prompts of other facts, which no editor saw, with the same "
    "most probable word as before. Probabilities are those of the object in other wordings."
)


def edit_sections(result: EditResult) -> list[Section]:
    """Returns a section with a table for each mode, and one of costs."""
    blocks = []
    for mode in MODES:
        editors, columns = columns_of(result, mode)
        sizes = {row.measure: row.n for row in result.measures if row.mode == mode}
        counts = ", ".join(f"{n:,} for {name}" for name, n in sizes.items())
        caption = (
            f"{HEADINGS[mode]}: {result.settings.n_facts} for each of "
            f"{len(result.settings.seeds)} seeds; means and 95% bootstrap intervals over facts "
            f"({counts})."
        )
        blocks.append(Table.from_columns("editor", editors, columns, caption))
    costs = Table(
        ["editor", "mode", "seconds", "of training", "numbers in the file"],
        [
            [
                row.editor,
                row.mode,
                f"{row.seconds:.1f}",
                f"{row.training_seconds:.0f}" if row.training_seconds else "",
                f"{row.weights:,}",
            ]
            for row in result.costs
        ],
        "Time to compute the edits of one seed, and the size of the file that holds them.",
    )
    return [Section("Edits of facts", [Paragraph(_WORDS), *blocks, costs])]
