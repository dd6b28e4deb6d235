"""Training data of Tevatron: JSON lines of queries with passages; read and written.

A passage may carry a teacher's score and a query a prompt, which Tevatron ignores.
"""

from __future__ import annotations

import math
from typing import Any

from .passages import Example, Passage
from .records import Record

_FIELDS = ("query_id", "query", "positive_passages", "negative_passages", "answers", "prompt")
_PASSAGE_FIELDS = ("docid", "title", "text", "score")


def example(record: Record) -> Example:
    """Reads a query with its passages."""
    record.only(_FIELDS)
    return Example(
        record.place,
        record.string("query"),
        _passages(record, "positive_passages"),
        _passages(record, "negative_passages"),
        name=record.identifier("query_id"),
        prompt=record.optional("prompt"),
        answers=tuple(record.strings("answers")),
    )


def fields_of(example: Example) -> dict[str, Any]:
    """Returns a query as a JSON object."""
    answers = {"answers": list(example.answers)} if example.answers else {}
    prompt = {"prompt": example.prompt} if example.prompt else {}
    return (
        {
            "query_id": example.name,
            "query": example.query,
            "positive_passages": [_written(passage) for passage in example.positives],
            "negative_passages": [_written(passage) for passage in example.negatives],
        }
        | answers
        | prompt
    )


def _written(passage: Passage) -> dict[str, Any]:
    score = {} if math.isnan(passage.score) else {"score": passage.score}
    return {"docid": passage.name, "title": passage.title, "text": passage.text} | score


def _passages(record: Record, name: str) -> list[Passage]:
    passages = []
    for part in record.records(name):
        part.only(_PASSAGE_FIELDS)
        score = part.number("score") if part.has("score") else math.nan
        docid = part.identifier("docid")
        passages.append(Passage(part.string("text"), part.optional("title"), docid, score))
    return passages
