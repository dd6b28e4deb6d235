"""Training data of Tevatron: JSON lines of queries with passages, read and written, or with ids.

A passage may carry a teacher's score and a query a prompt, which Tevatron ignores. Tevatron 2 also
has ids of passages, whose texts are in a corpus of their own.

Source: texttron/tevatron, the data sets that its trainer reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .documents import Documents
from .passages import Example, Passage
from .records import Record

_FIELDS = ("query_id", "query", "positive_passages", "negative_passages", "answers", "prompt")
_PASSAGE_FIELDS = ("docid", "title", "text", "score")
_OTHER_MEDIA = ("query_image", "query_video", "query_audio")
_ID_FIELDS = (
    *("query_id", "query_text", "query", "positive_document_ids", "negative_document_ids"),
    *("answer", *_OTHER_MEDIA),
)


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


# ---- ids instead of passages ---------------------------------------------------------------------


def id_example(
    record: Record, corpus: Documents, rows: Mapping[str, int], *, drop: bool
) -> Example:
    """Reads a query of Tevatron 2, whose passages are ids of documents in a corpus.

    Args:
        record: a query.
        corpus: all documents.
        rows: those of the documents, by id.
        drop: whether a document that is not in the corpus is left out; otherwise it is an error.
    """
    record.only(_ID_FIELDS)
    media = [name for name in _OTHER_MEDIA if record.has(name)]
    if media:
        record.fail(f"{media[0]!r} is no text: only texts are read")
    answer = record.value("answer") if record.has("answer") else []
    return Example(
        record.place,
        record.string("query_text" if "query_text" in record.fields else "query"),
        _looked_up(record, "positive_document_ids", corpus, rows, drop=drop),
        _looked_up(record, "negative_document_ids", corpus, rows, drop=drop),
        name=record.identifier("query_id"),
        answers=(answer,) if isinstance(answer, str) else tuple(record.strings("answer")),
    )


def _looked_up(
    record: Record, name: str, corpus: Documents, rows: Mapping[str, int], *, drop: bool
) -> list[Passage]:
    names = [
        str(value) if isinstance(value, int) else value for value in record.fields.get(name) or []
    ]
    passages = []
    for document in Record(record.place, {name: names}, record.within).strings(name):
        if document in rows:
            row = rows[document]
            passages.append(Passage(corpus.texts[row], corpus.titles[row], document))
        elif not drop:
            record.fail(f"document {document!r} of {name!r} is not in the corpus")
    return passages
