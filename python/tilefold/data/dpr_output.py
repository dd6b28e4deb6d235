"""Output of DPR's retriever: JSON of questions with the contexts that were found for each.

Source: the files that `dense_retriever.py` of facebookresearch/DPR writes, and which readers such
as Fusion-in-Decoder take; those of castorini/pyserini (`convert_trec_run_to_dpr_retrieval_run`) are
one object with the ids of questions as keys, and have contexts in place of ctxs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .heads import records
from .json_reader import is_keyed, json_members
from .lines import Place, StrPath
from .records import Record

_FIELDS = ("question", "answers", "ctxs", "id", "question_id", "q_id", "target", "dataset")
_KEYED_FIELDS = ("question", "answers", "contexts")
_CONTEXT_FIELDS = (
    *("id", "title", "text", "score", "has_answer", "is_wiki", "hasanswer"),
    *("docid", "passage_id", "psg_id"),
)
_IDS = ("id", "docid", "passage_id", "psg_id")


# A document that a run lists for a query: place, query, document, score and tag.
Result = tuple[Place, str, str, float, str]


def retrieved(path: StrPath) -> Iterator[Result]:
    """Yields the contexts of every question, in the order of the file.

    Raises:
        ValueError: an unknown or missing field, a question whose id repeats, a score above the one
            before it: with file and line.
    """
    first_lines: dict[str, int] = {}
    keyed = is_keyed(path)
    for query, record in json_members(path) if keyed else _numbered(path):
        record.only(_KEYED_FIELDS if keyed else _FIELDS)
        if query in first_lines:
            record.fail(f"query id {query!r} is already that of line {first_lines[query]}")
        first_lines[query] = record.place.line
        before = math.inf
        for context in record.records("contexts" if keyed else "ctxs"):
            context.only(_CONTEXT_FIELDS)
            score = context.number("score")
            if score > before:
                context.fail(f"the score {score:g} is above the one before it, {before:g}")
            before = score
            document = context.first_identifier(*_IDS) or context.identifier("id")
            yield record.place, query, document, score, "dpr"


def _numbered(path: StrPath) -> Iterator[tuple[str, Record]]:
    """Yields records with their ids, or else their numbers."""
    for number, record in enumerate(records(path)):
        yield record.first_identifier("question_id", "q_id", "id") or str(number), record
