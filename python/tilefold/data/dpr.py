"""Training data of DPR: a JSON array of questions with contexts.

Source: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", EMNLP 2020,
and the files published with it.
"""

from __future__ import annotations

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
        name=_first_id(record, "question_id", "id"),
        answers=tuple(record.strings("answers")),
    )


def _contexts(record: Record, name: str) -> list[Passage]:
    passages = []
    for context in record.records(name):
        context.only(_CONTEXT_FIELDS)
        found = _first_id(context, "passage_id", "psg_id", "id")
        passages.append(Passage(context.string("text"), context.optional("title"), found))
    return passages


def _first_id(record: Record, *names: str) -> str:
    return next((record.identifier(name) for name in names if record.has(name)), "")
