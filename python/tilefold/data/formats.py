"""Detects the format of a source: the first in a table of formats whose test it passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..data import columns
from .heads import Head, head_of, source_name
from .lines import columns_of
from .qrels import JUDGMENT_FIELDS, is_header
from .written_numbers import parsed_number


class Format(NamedTuple):
    """A format: its kind, its description for people, and its test."""

    kind: str
    looks: str
    fits: Callable[[Head], bool]


def _is_run(head: Head) -> bool:
    fields = columns_of(head.line)
    return len(fields) >= 6 and fields[3].isdecimal() and parsed_number(fields[4]) is not None


def _is_id_triple(head: Head) -> bool:
    cells = head.cells()
    digits = all(cell.removeprefix("-").isdecimal() for cell in cells)
    return head.near_collection and len(cells) == 3 and digits


def _is_trec_qrels(head: Head) -> bool:
    fields = columns_of(head.line)
    return len(fields) == 4 and parsed_number(fields[3]) is not None


def _is_beir_qrels(head: Head) -> bool:
    cells = head.cells()
    if len(cells) != 3 or is_header(cells):
        return len(cells) == 3
    return parsed_number(cells[2]) is not None and len(columns_of(head.line)) == 3


def _is_mmlu(head: Head) -> bool:
    if head.has("question", "answer"):
        return any(map(head.has, ("choices", "options", "choice0", "A")))
    header = head.header
    return len(header) >= 4 and "\t" not in head.line and header[-1] in set("ABCDEFGHIJ")


def _is_question(head: Head) -> bool:
    return head.has("question", "answer") and (
        not head.fields or isinstance(head.fields["answer"], str | list)
    )


# The first that fits is taken, so more specific formats come first.
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
    "tevatron-ids": Format(
        "training",
        "JSON with query_id, query_text, positive_document_ids, beside corpus.jsonl (Tevatron 2)",
        lambda head: head.has("query_id", "positive_document_ids"),
    ),
    "flagembedding": Format(
        "training",
        "JSON with query, pos, neg",
        lambda head: head.has("query", "pos"),
    ),
    "mmlu": Format(
        "choices",
        "rows of question, choices, answer, or JSON or Parquet with these names",
        _is_mmlu,
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
    "dpr-run": Format(
        "run",
        "JSON with question, ctxs (DPR's retriever), or by question with contexts (Pyserini)",
        lambda head: head.has("question", "ctxs") or head.has("question", "contexts"),
    ),
    "trec-run": Format("run", "query Q0 document rank score tag", _is_run),
    "trec-qrels": Format(
        "qrels",
        "query iteration document gain",
        _is_trec_qrels,
    ),
    "beir-qrels": Format("qrels", "query-id, corpus-id, score between tabs", _is_beir_qrels),
    "mteb-qrels": Format(
        "qrels",
        "JSON or Parquet with query-id, corpus-id, score",
        lambda head: head.has(*JUDGMENT_FIELDS),
    ),
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
        "JSON or a table with question, answers",
        lambda head: head.has("question", "answers"),
    ),
    "nq-open": Format("questions", "JSON or a table with question, answer", _is_question),
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
    """Returns the name of the format of a source, among those of these kinds, or among all.

    Args:
        source: a file, a folder, or a `datasets.Dataset`.
        kinds: "training", "collection", "questions", "choices", "run", "qrels".

    Raises:
        ValueError: the source is empty or fits no format; the message lists the formats.
        FileNotFoundError: there is no such file.
    """
    known = {name: entry for name, entry in FORMATS.items() if not kinds or entry.kind in kinds}
    head = head_of(source)
    for name, entry in known.items():
        if entry.fits(head):
            return name
    listed = "".join(f"\n  {name}: {entry.looks}" for name, entry in known.items())
    raise ValueError(f"{source_name(source)}: found {head.seen}, which is none of:{listed}")


def checked_format(source: Any, format: str | None, kinds: Sequence[str], op: str) -> str:
    """Returns the given format, after checking it, or else the detected one."""
    if format is None:
        return detect(source, kinds)
    names = [name for name, entry in FORMATS.items() if entry.kind in kinds]
    if format not in names:
        raise ValueError(f"{op}: expected format to be one of {names}, got {format!r}")
    return format
