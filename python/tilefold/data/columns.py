"""Columns as sentence-transformers reads them: anchor, positive, negatives, in their order.

Anchor and positive are the first two columns, under any names; further ones count only under names
that say what they are: negatives, a label, scores. Rows with the same anchor are one query.

Source: sentence-transformers, "Dataset Format" in its training overview, and the four output
formats of its `mine_hard_negatives`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .list_cells import decoded
from .passages import Example, Passage
from .records import Record

_ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_a", "premise")
_POSITIVES = (
    *("positive", "answer", "passage", "document", "sentence2", "sentence_b", "hypothesis"),
    *("response", "context"),
)
_NEGATIVE = re.compile(r"(hard_?)?neg(ative)?s?[_-]?\d*")
_LABELS = ("label", "labels")
_SCORES = ("score", "scores")
_INFERENCE = ("premise", "hypothesis")  # labels beside them are classes: entailment is 0
_NTH = ("first", "second")


class _Columns(NamedTuple):
    """The names of the columns."""

    anchor: str
    positive: str
    negatives: list[str]  # of the first row
    mark: str | None  # labels or scores
    is_label: bool


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Returns whether a row has columns under names that are usual for pairs and triplets."""
    names = {name.lower() for name in fields}
    marked = bool(names & {*_LABELS, *_SCORES})
    listed = {*_POSITIVES, *_LABELS, *_SCORES} if marked else set()
    flat = all(
        isinstance(value, str | int | float | None)
        or (isinstance(value, list) and name.lower() in listed)
        for name, value in fields.items()
    )
    return flat and bool(names & set(_ANCHORS)) and bool(names & set(_POSITIVES))


def names_a_column(header: Sequence[str]) -> bool:
    """Returns whether the first row of a table is a header: it has a name that is usual."""
    known = {*_ANCHORS, *_POSITIVES, *_LABELS, *_SCORES}
    return any(name.lower() in known or _is_negative(name) for name in header)


def examples(rows: Iterable[Record], score_threshold: float | None = None) -> Iterator[Example]:
    """Yields an example per row.

    - A label of 1 or 0 says whether the text of a pair is a positive or a negative; lists of texts
      and of labels do so for several texts.
    - A list of scores beside anchor, positive and negatives gives a teacher's score of each.
    - Scores of pairs say neither, unless a threshold is given.

    Args:
        rows: records of JSON, of a table, of Parquet or of a dataset.
        score_threshold: the score from which a pair is a positive; None refuses such pairs.

    Raises:
        ValueError: columns that the first row does not have, known ones in another order, a further
            column that is no negative, label or score, a label that is not 0 or 1, scores of pairs
            without a threshold: with file and row.
    """
    columns = None
    for row in rows:
        columns = columns or _checked(row)
        row.only([*_names(columns), *filter(_is_negative, row.fields)])
        if columns.mark is None or columns.negatives:
            yield _tuple(row, columns)
        else:
            yield _marked(row, columns, score_threshold)


def _names(columns: _Columns) -> list[str]:
    named = [columns.anchor, columns.positive, *columns.negatives]
    return named if columns.mark is None else [*named, columns.mark]


def _checked(row: Record) -> _Columns:
    """Returns the columns, after checking them."""
    names = list(row.fields)
    marks = [name for name in names if name.lower() in (*_LABELS, *_SCORES)]
    texts = [name for name in names if name not in marks]
    is_label = bool(marks) and marks[0].lower() in _LABELS
    if len(texts) < 2 or len(marks) > 1 or (is_label and len(texts) > 2):
        row.fail(f"expected anchor, positive, negatives, or a pair and its label, got {names}")
    for place, known in enumerate((_ANCHORS, _POSITIVES)):
        misplaced = [name for name in texts if name.lower() in known and name != texts[place]]
        if texts[place].lower() not in known and misplaced:
            row.fail(f"columns count in their order, so {misplaced[0]!r} must come {_NTH[place]}")
    if any(map(_is_negative, texts[:2])):
        row.fail(f"columns count in their order: anchor, positive, negatives; got {names}")
    unknown = [name for name in texts[2:] if not _is_negative(name)]
    if unknown:
        row.fail(
            f"columns {unknown} are neither negatives (negative, negative_1, ...) nor a label or "
            "scores; leave them out or rename them"
        )
    if is_label and tuple(name.lower() for name in texts) == _INFERENCE:
        row.fail(
            f"{marks[0]!r} beside {texts} is a class of textual inference (0 is entailment); "
            "keep the entailed pairs, without the label"
        )
    return _Columns(texts[0], texts[1], texts[2:], marks[0] if marks else None, is_label)


def _is_negative(name: str) -> bool:
    return _NEGATIVE.fullmatch(name.lower()) is not None


def _tuple(row: Record, columns: _Columns) -> Example:
    """Reads anchor, positive and negatives, with a teacher's scores where the row has them."""
    names = [columns.positive, *filter(_is_negative, row.fields)]
    scores = _scores(row, columns.mark, len(names))
    row.value(columns.positive)  # may be null, but must be there
    positive, *negatives = (
        [Passage(row.string(name), score=score)] if row.has(name) and row.value(name) != "" else []
        for name, score in zip(names, scores, strict=True)
    )
    texts = [passage for passages in negatives for passage in passages]
    return Example(row.place, row.string(columns.anchor), positive, texts, partial=True)


def _scores(row: Record, name: str | None, n: int) -> list[float]:
    if name is None or not row.has(name):
        return [math.nan] * n
    scores = decoded(row, name).numbers(name)
    if len(scores) != n:
        row.fail(f"{name!r} has {len(scores)} numbers for {n} texts")
    return scores


def _marked(row: Record, columns: _Columns, threshold: float | None) -> Example:
    """Reads an anchor and one or several texts, each with its label or score."""
    name = str(columns.mark)
    several = isinstance(row.value(name), list) or str(row.value(name)).startswith("[")
    if several:
        row = decoded(row, columns.positive, name)
        texts = row.strings(columns.positive)
        marks = [float(mark) if isinstance(mark, bool) else mark for mark in row.value(name)]
        row = row._replace(fields={**row.fields, name: marks})
        values = row.numbers(name)
    else:
        given = row.value(name)
        texts = [row.string(columns.positive)]
        values = [float(given) if isinstance(given, bool) else row.number(name)]
    if len(values) != len(texts):
        row.fail(f"{name!r} has {len(values)} numbers for {len(texts)} texts")
    positives: list[Passage] = []
    negatives: list[Passage] = []
    for text, value in zip(texts, values, strict=True):
        passage = Passage(text) if columns.is_label else Passage(text, score=value)
        belongs = _is_positive(row, name, value, threshold, is_label=columns.is_label)
        (positives if belongs else negatives).append(passage)
    return Example(row.place, row.string(columns.anchor), positives, negatives, partial=True)


def _is_positive(
    row: Record, name: str, value: float, threshold: float | None, *, is_label: bool
) -> bool:
    """Returns whether a text belongs to its anchor."""
    if threshold is not None:
        return value >= threshold
    if not is_label:
        row.fail(
            f"{name!r} holds scores, which do not say which pairs are positives: give "
            "score_threshold to take those from it on, or a column 'label' of 0 and 1 instead"
        )
    if value not in (0, 1):
        row.fail(
            f"{name!r} must be 0 (do not belong together) or 1, got {value:g}; score_threshold "
            "takes pairs from it on as positives"
        )
    return value == 1
