"""Which format a source has: told from its first records, or from what lies in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import columns
from .collection import layout_of
from .judgments import is_integer
from .lines import Place, StrPath, clipped, filled_lines, opening
from .records import Record, first_character, json_records
from .tables import (
    dataset_records,
    delimiter_of,
    is_dataset,
    parquet_records,
    rows,
    table_records,
)

_PARQUET = b"PAR1"


class Head(NamedTuple):
    """What the start of a source shows."""

    seen: str  # in words
    layout: str | None = None  # of a folder
    fields: Mapping[str, Any] = {}  # the first record of JSON or of Arrow
    line: str = ""  # the first line of other text that is no comment
    header: Sequence[str] = ()  # its first row as a table between tabs or else commas
    near_collection: bool = False  # a file beside a collection.tsv

    def has(self, *names: str) -> bool:
        """Whether the first record, or the first row as a header, has all these names."""
        return set(names) <= ({*self.fields} or {*self.header})

    def cells(self) -> list[str]:
        """The first line between tabs."""
        return self.line.split("\t")


class Format(NamedTuple):
    """A format: what it is for, what it looks like in words, and to a program."""

    kind: str
    looks: str
    fits: Callable[[Head], bool]


def _is_run(head: Head) -> bool:
    fields = head.line.split()
    return len(fields) >= 6 and fields[3].isdecimal() and _is_number(fields[4])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_id_triple(head: Head) -> bool:
    return head.near_collection and len(head.cells()) == 3 and all(map(is_integer, head.cells()))


def _is_beir_qrels(head: Head) -> bool:
    cells = head.cells()
    if cells == ["query-id", "corpus-id", "score"]:
        return True
    return len(cells) == 3 and is_integer(cells[2]) and len(head.line.split()) == 3


def _is_mmlu(head: Head) -> bool:
    header = head.header
    if head.has("question", "choices", "answer") and isinstance(head.fields.get("choices"), list):
        return True
    return head.has("question", "choice0", "answer") or (
        len(header) >= 4 and "\t" not in head.line and header[-1] in set("ABCDEFGHIJ")
    )


def _is_question(head: Head) -> bool:
    return head.has("question", "answer") and isinstance(head.fields.get("answer"), str | list)


# The first that fits is taken, so those with more to know them by come first.
FORMATS = {
    "beir": Format(
        "collection",
        "a folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv",
        lambda head: head.layout == "beir",
    ),
    "msmarco": Format(
        "collection",
        "a folder with collection.tsv, queries.<split>.tsv and qrels.<split>.tsv",
        lambda head: head.layout == "msmarco",
    ),
    "dpr": Format(
        "training",
        "JSON with question, answers, positive_ctxs",
        lambda head: head.has("question", "positive_ctxs"),
    ),
    "tevatron": Format(
        "training",
        "JSON with query_id, query, positive_passages",
        lambda head: head.has("query", "positive_passages"),
    ),
    "flagembedding": Format(
        "training",
        "JSON with query, pos, neg",
        lambda head: head.has("query", "pos"),
    ),
    "mmlu": Format(
        "choices", "rows of question, choices, answer, or JSON with these names", _is_mmlu
    ),
    "columns": Format(
        "training",
        "JSON, Parquet, a table or a dataset with columns such as anchor, positive, negative",
        lambda head: columns.looks_like(head.fields or dict.fromkeys(head.header, "")),
    ),
    "msmarco-ids": Format(
        "training",
        "three ids between tabs, in a folder with collection.tsv and queries.<split>.tsv",
        _is_id_triple,
    ),
    "trec-run": Format("run", "query Q0 document rank score tag", _is_run),
    "trec-qrels": Format(
        "qrels",
        "query iteration document gain",
        lambda head: len(head.line.split()) == 4 and is_integer(head.line.split()[3]),
    ),
    "beir-qrels": Format("qrels", "query-id, corpus-id, score between tabs", _is_beir_qrels),
    "popqa": Format(
        "questions",
        "a table or JSON with question, possible_answers",
        lambda head: head.has("question", "possible_answers"),
    ),
    "arc": Format(
        "choices",
        "JSON with answerKey and question, which has stem and choices (ARC, CommonsenseQA)",
        lambda head: head.has("question", "answerKey"),
    ),
    "instructions": Format(
        "choices",
        "JSON with instruction, which has the options as Answer1: ..., and answer",
        lambda head: head.has("instruction", "answer"),
    ),
    "entityquestions": Format(
        "questions",
        "JSON with question, answers",
        lambda head: head.has("question", "answers"),
    ),
    "nq-open": Format("questions", "JSON with question, answer", _is_question),
    "answers": Format(
        "questions",
        "JSON with _id, answers",
        lambda head: head.has("_id", "answers"),
    ),
    "dpr-qa": Format(
        "questions",
        "a question, a tab and its answers in brackets",
        lambda head: len(head.cells()) == 2 and head.cells()[1].lstrip('"')[:1] == "[",
    ),
    "msmarco-triples": Format(
        "training",
        "query, positive and negative between tabs",
        lambda head: len(head.cells()) == 3 and all(" " in cell for cell in head.cells()[1:]),
    ),
}


def detect(source: Any, kinds: Sequence[str] = ()) -> str:
    """The name of the format of a source, among those of these kinds, or among all.

    Args:
        source: a file, a folder, or a `datasets.Dataset`.
        kinds: "training", "collection", "questions", "choices", "run", "qrels".

    Raises:
        ValueError: the source is empty or fits no format; says what was seen and what is known.
        FileNotFoundError: there is no such file.
    """
    known = {name: entry for name, entry in FORMATS.items() if not kinds or entry.kind in kinds}
    head = _head(source)
    for name, entry in known.items():
        if entry.fits(head):
            return name
    listed = "".join(f"\n  {name}: {entry.looks}" for name, entry in known.items())
    raise ValueError(f"{_named(source)}: found {head.seen}, which is none of:{listed}")


def chosen(source: Any, format: str | None, kinds: Sequence[str], op: str) -> str:
    """The format that is asked for, or else the detected one."""
    if format is None:
        return detect(source, kinds)
    names = [name for name, entry in FORMATS.items() if entry.kind in kinds]
    if format not in names:
        raise ValueError(f"{op}: expected format to be one of {names}, got {format!r}")
    return format


def records(source: Any) -> Iterator[Record]:
    """The records of a source: of JSON, of Parquet, of a table with a header, or of a dataset."""
    if is_dataset(source):
        return dataset_records(source)
    start = opening(source)
    if start == _PARQUET:
        return parquet_records(source)
    if is_json(source):
        return json_records(source)
    return table_records(source, delimiter_of(source))


def is_json(path: StrPath) -> bool:
    """Whether a file holds JSON, going by its first character."""
    return first_character(path) in {"{", "["}


def _head(source: Any) -> Head:
    if is_dataset(source):
        return _fields_head("a dataset", dataset_records(source), source)
    path = Path(source)
    if path.is_dir():
        listed = clipped(", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing")
        return Head(f"a folder with {listed}", layout=layout_of(path))
    if opening(path) == _PARQUET:
        return _fields_head("a Parquet file", parquet_records(path), path)
    if is_json(path):
        return _fields_head("JSON", json_records(path), path)
    return _text_head(path)


def _fields_head(what: str, source: Iterator[Record], path: Any) -> Head:
    first = next(source, None)
    if first is None:
        raise ValueError(f"{_named(path)}: the file is empty")
    return Head(f"{what} with the fields {list(first.fields)}", fields=first.fields)


def _text_head(path: Path) -> Head:
    lines = (text for _, text in filled_lines(path) if not text.startswith("#"))
    line = next(lines, None)
    if line is None:
        raise ValueError(f"{path}: the file is empty")
    try:
        _, header = next(rows(path, "\t" if "\t" in line else ","), (Place(path, 1), []))
    except ValueError:  # not a table: a quote that never closes
        header = []
    return Head(
        f"text whose first line is {clipped(line)!r}",
        line=line,
        header=header,
        near_collection=layout_of(path.parent) == "msmarco",
    )


def _named(source: Any) -> str:
    return f"<{type(source).__name__}>" if is_dataset(source) else os.fspath(source)
