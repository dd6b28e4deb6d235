"""Columns as sentence-transformers reads them: anchor, positive, negatives, in their order.

Their order decides and not their names, except that a column named label or score says whether
anchor and text belong together. Rows with the same anchor are one query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .passages import Example, Passage
from .records import Record

_ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_a", "premise")
_POSITIVES = (
    *("positive", "answer", "passage", "document", "sentence2", "sentence_b", "hypothesis"),
    *("response", "context"),
)
_LABELS = ("label", "labels", "score", "scores")
_THRESHOLD = 0.5  # label or score from which a pair is positive


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Returns whether a row has columns under names that are usual for pairs and triplets."""
    names = {name.lower() for name in fields}
    flat = all(isinstance(value, str | int | float | None) for value in fields.values())
    return flat and bool(names & set(_ANCHORS)) and bool(names & set(_POSITIVES))


def examples(rows: Iterable[Record]) -> Iterator[Example]:
    """Yields an example per row. The text of a pair is a positive if its label or score is >= 0.5.

    Raises:
        ValueError: columns that the first row does not have, known ones in another order, a label
            that is not between 0 and 1, or that does not belong to a pair: with file and row.
    """
    names: list[str] = []
    for row in rows:
        names = names or _checked(row)
        row.only([*names, *filter(_is_negative, row.fields)])
        labels = [name for name in names if name.lower() in _LABELS]
        yield _pair(row, names, labels[0]) if labels else _tuple(row, names)


def _checked(row: Record) -> list[str]:
    """Returns the names of the columns, after checking them."""
    names = list(row.fields)
    texts = [name for name in names if name.lower() not in _LABELS]
    labels = len(names) - len(texts)
    if len(texts) < 2 or labels > 1 or (labels and len(texts) > 2):
        row.fail(f"expected anchor, positive, negatives, or a pair and its label, got {names}")
    for place, known in enumerate((_ANCHORS, _POSITIVES)):
        misplaced = [name for name in texts if name.lower() in known and name != texts[place]]
        if texts[place].lower() not in known and misplaced:
            row.fail(f"columns count in their order, so {misplaced[0]!r} must come {_NTH[place]}")
    if any(map(_is_negative, texts[:2])):
        row.fail(f"columns count in their order: anchor, positive, negatives; got {names}")
    return names


_NTH = ("first", "second")


def _is_negative(name: str) -> bool:
    return name.lower().startswith("negative")


def _tuple(row: Record, names: list[str]) -> Example:
    given = row.value(names[1]) is not None and row.string(names[1])
    positive = [Passage(given)] if given else []
    texts = (row.optional(name) for name in row.fields if name not in names[:2])
    negatives = [Passage(text) for text in texts if text]
    return Example(row.place, row.string(names[0]), positive, negatives, partial=True)


def _pair(row: Record, names: list[str], label: str) -> Example:
    anchor, text = (row.string(name) for name in names if name != label)
    given = row.value(label)
    value = float(given) if isinstance(given, bool) else row.number(label)
    if not 0 <= value <= 1:
        row.fail(f"{label!r} must be between 0 (do not belong together) and 1, got {value:g}")
    passages = (
        [Passage(text, score=value)] if label.lower().startswith("score") else [Passage(text)]
    )
    positives, negatives = (passages, []) if value >= _THRESHOLD else ([], passages)
    return Example(row.place, anchor, positives, negatives, partial=True)
