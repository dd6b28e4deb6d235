"""Training data of DPR: a JSON array of questions with contexts; read and written.

Source: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", EMNLP 2020,
and the files published with it.
"""

from __future__ import annotations

from typing import Any

from .passages import Example, Passage
from .records import Record

_FIELDS = (
    *("question", "answers", "positive_ctxs", "negative_ctxs", "hard_negative_ctxs"),
    *("id", "question_id", "dataset"),
)
_CONTEXT_FIELDS = (
    *("title", "text", "passage_id", "psg_id", "id"),
    *("score", "title_score", "has_answer"),
)


def example(record: Record) -> Example:
    """Reads a question. As in DPR, its other negatives count only where it has no hard ones.

    Scores of contexts mean different things in different files (1000 stands for a gold passage), so
    they are not kept.
    """
    record.only(_FIELDS)
    hard, other = _contexts(record, "hard_negative_ctxs"), _contexts(record, "negative_ctxs")
    return Example(
        record.place,
        record.string("question"),
        _contexts(record, "positive_ctxs"),
        hard or other,
        name=record.first_identifier("question_id", "id"),
        answers=tuple(record.strings("answers")),
    )


def _contexts(record: Record, name: str) -> list[Passage]:
    passages = []
    for context in record.records(name):
        context.only(_CONTEXT_FIELDS)
        found = context.first_identifier("passage_id", "psg_id", "id")
        passages.append(Passage(context.string("text"), context.optional("title"), found))
    return passages


def fields_of(example: Example) -> dict[str, Any]:
    """Returns a question as a JSON object with the fields that DPR's trainer reads, and its id."""
    return {
        "question_id": example.name,
        "question": example.query,
        "answers": list(example.answers),
        "positive_ctxs": [_written(passage) for passage in example.positives],
        "negative_ctxs": [],
        "hard_negative_ctxs": [_written(passage) for passage in example.negatives],
    }


def _written(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text, "passage_id": passage.name}
