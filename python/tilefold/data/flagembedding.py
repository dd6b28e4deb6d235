"""Training data of FlagEmbedding: JSON lines of a query, its positives and its negatives."""

from __future__ import annotations

import math

from .passages import Example, Passage
from .records import Record

# "type" and "category" steer the batches of FlagEmbedding's own trainer; they are not kept.
_FIELDS = ("query", "pos", "neg", "pos_scores", "neg_scores", "prompt", "type", "category")


def example(record: Record) -> Example:
    """Reads a query with its prompt and, if present, a teacher's scores of its passages."""
    record.only(_FIELDS)
    return Example(
        record.place,
        record.string("query"),
        _passages(record, "pos"),
        _passages(record, "neg"),
        prompt=record.optional("prompt"),
    )


def _passages(record: Record, name: str) -> list[Passage]:
    texts, scores = record.strings(name), record.numbers(f"{name}_scores")
    if scores and len(scores) != len(texts):
        record.fail(f"'{name}_scores' has {len(scores)} numbers for {len(texts)} texts in {name!r}")
    scores = scores or [math.nan] * len(texts)
    return [Passage(text, score=score) for text, score in zip(texts, scores, strict=True)]
