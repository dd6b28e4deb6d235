"""File formats: BEIR folders in, TREC runs out.

One pass over each file, and every complaint names the file and the line. Documents are numbered as
they come, so that judgments are plain arrays; a judged document that the corpus lacks gets a number
beyond the last one, which no search returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

IdArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Qrels(NamedTuple):
    """Judgments of n queries: query i judged `ids[offsets[i]:offsets[i + 1]]` with these gains."""

    offsets: IdArray  # [n + 1]
    ids: IdArray  # [judgments] document numbers
    gains: FloatArray  # [judgments], below 1: not relevant

    @classmethod
    def pack(cls, judged: Sequence[Mapping[int, float]]) -> Qrels:
        """From {document number: gain} of every query.

        >>> Qrels.pack([{4: 1}, {}, {2: 3}]).offsets
        array([0, 1, 1, 2])
        """
        counts = [len(gains) for gains in judged]
        return cls(
            np.cumsum([0, *counts], dtype=np.int64),
            np.array([document for gains in judged for document in gains], np.int64),
            np.array([gain for gains in judged for gain in gains.values()], np.float64),
        )


@dataclass(frozen=True)
class Collection:
    """Documents, the queries judged on them, and the judgments; all in the order of the files."""

    document_ids: list[str]
    documents: list[str]  # title and text
    query_ids: list[str]
    queries: list[str]
    qrels: Qrels
    absent: tuple[str, ...] = ()  # judged but not in the corpus; numbered from len(documents) on


def read_beir(folder: str | os.PathLike[str], split: str = "test") -> Collection:
    """Reads `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, strictly.

    A document is its title, a space, and its text, as BEIR encodes it. Only the queries that the
    split judges are kept. Judged documents that the corpus lacks are listed in `absent` and stay
    in the judgments, as in trec_eval: nobody can find them, and recall counts them as missed.

    Args:
        folder: the BEIR folder.
        split: name of the file in `qrels/`.

    Raises:
        FileNotFoundError: a file of the layout is missing; names the splits that are there.
        ValueError: bad JSON, a missing or repeated id, a judgment of an unknown query, an empty
            file: with file and line.
    """
    root = Path(folder)
    qrels_path = _qrels_path(root, split)
    document_ids, documents = _read_texts(root / "corpus.jsonl", with_title=True)
    query_ids, queries = _read_texts(root / "queries.jsonl", with_title=False)
    number = {name: index for index, name in enumerate(document_ids)}
    judged = _read_qrels(qrels_path, set(query_ids))
    kept = [index for index, name in enumerate(query_ids) if name in judged]
    named = (document for gains in judged.values() for document in gains)
    absent = tuple(dict.fromkeys(name for name in named if name not in number))
    number.update((name, len(documents) + index) for index, name in enumerate(absent))
    numbered = [
        {number[name]: gain for name, gain in judged[query_ids[index]].items()} for index in kept
    ]
    return Collection(
        document_ids,
        documents,
        [query_ids[index] for index in kept],
        [queries[index] for index in kept],
        Qrels.pack(numbered),
        absent,
    )


def write_run(
    path: str | os.PathLike[str],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    scores: Any,
    ids: Any,
    *,
    tag: str = "tilefold",
) -> None:
    """Writes a TREC run that every tool ranks alike: scores fall strictly, in fp32 and as text.

    Tools break ties in different ways, so a score that does not lie below the one before it is
    lowered to the next fp32 number. The file appears whole or not at all.

    Args:
        path: file to write; an existing one is replaced.
        query_ids, document_ids: names of queries and of documents, without white space.
        scores: [n, k] float32, best first.
        ids: [n, k] document numbers, -1 where there is no result.
        tag: last column of the file.
    """
    for name in (*query_ids, *document_ids, tag):
        if name.split() != [name]:
            raise ValueError(
                f"write_run: {name!r} cannot stand in a run: empty or with white space"
            )
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for query, falling, found in zip(
                query_ids, _strictly_falling(scores), np.asarray(ids), strict=True
            ):
                for rank, (score, document) in enumerate(zip(falling, found, strict=True), 1):
                    if document >= 0:
                        name = document_ids[document]
                        file.write(f"{query} Q0 {name} {rank} {score:.9g} {tag}\n")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _strictly_falling(scores: Any) -> NDArray[np.float32]:
    falling = np.array(scores, np.float32)
    for rank in range(1, falling.shape[1]):
        below = np.nextafter(falling[:, rank - 1], np.float32(-np.inf))
        np.minimum(falling[:, rank], below, out=falling[:, rank])
    return falling


# ---- JSON lines ----------------------------------------------------------------------------------


def _read_texts(path: Path, *, with_title: bool) -> tuple[list[str], list[str]]:
    """Ids and texts of a corpus or of queries."""
    first_seen: dict[str, int] = {}
    texts = []
    for line, record in _records(path):
        name = _identifier(path, line, record)
        if name in first_seen:
            _fail(path, line, f"'_id' {name!r} is already that of line {first_seen[name]}")
        first_seen[name] = line
        text = _string(path, line, record, "text")
        if with_title and record.get("title"):
            text = f"{_string(path, line, record, 'title')} {text}".strip()
        texts.append(text)
    if not texts:
        raise ValueError(f"{path}: the file is empty")
    return list(first_seen), texts


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, JSON object) of every line that is not blank."""
    for line, text in _lines(path):
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            _fail(path, line, f"not valid JSON: {error.msg} at column {error.colno}")
        if not isinstance(record, dict):
            _fail(path, line, f"expected a JSON object, got {_clipped(text)}")
        yield line, record


def _identifier(path: Path, line: int, record: dict[str, Any]) -> str:
    """`_id` as a string; an integer is taken as its digits, which is how qrels spell it."""
    name = record.get("_id")
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    if name == "":
        _fail(path, line, "'_id' is empty")
    return _string(path, line, record, "_id")


def _string(path: Path, line: int, record: dict[str, Any], field: str) -> str:
    if field not in record:
        _fail(path, line, f"the field {field!r} is missing; the line has {list(record)}")
    value = record[field]
    if not isinstance(value, str):
        _fail(path, line, f"{field!r} must be a string, got {_clipped(json.dumps(value))}")
    try:
        value.encode()
    except UnicodeEncodeError:
        _fail(path, line, f"{field!r} has half a surrogate pair, which is not text")
    return value


# ---- judgments -----------------------------------------------------------------------------------


def _qrels_path(root: Path, split: str) -> Path:
    """The file of the split, once the layout is known to be there."""
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (root / name).exists():
            inside = root / "beir"
            hint = f"; did you mean {inside}?" if (inside / name).exists() else ""
            raise FileNotFoundError(
                f"{root} is no BEIR folder: {name} is missing (expected corpus.jsonl, "
                f"queries.jsonl and qrels/<split>.tsv){hint}"
            )
    splits = sorted(path.stem for path in (root / "qrels").glob("*.tsv"))
    if split not in splits:
        listed = ", ".join(splits) or "none"
        raise FileNotFoundError(f"{root / 'qrels'} has no split {split!r}; it has: {listed}")
    return root / "qrels" / f"{split}.tsv"


def _read_qrels(path: Path, queries: set[str]) -> dict[str, dict[str, int]]:
    """{query: {document: gain}}; the header `query-id corpus-id score` is optional."""
    judged: dict[str, dict[str, int]] = {}
    for line, text in _lines(path):
        fields = text.split("\t")
        if len(fields) != 3:
            _fail(path, line, f"expected query-id, corpus-id and score between tabs, got {text!r}")
        query, document, gain = fields
        if line == 1 and not _is_integer(gain):
            continue
        if not _is_integer(gain):
            _fail(path, line, f"the score must be an integer, got {gain!r}")
        if query not in queries:
            _fail(path, line, f"query {query!r} is not in queries.jsonl")
        if document in judged.setdefault(query, {}):
            _fail(path, line, f"document {document!r} is judged twice for query {query!r}")
        judged[query][document] = int(gain)
    if not judged:
        raise ValueError(f"{path}: no judgments")
    return judged


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


# ---- lines ---------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of every line that is not blank, without its end."""
    line = 0
    with path.open("rb") as file:  # bytes, because a bad one shall be traced to its line
        for line, raw in enumerate(file, 1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                _fail(path, line, f"not UTF-8: {error.reason} at byte {error.start + 1}")
            if text.strip():
                yield line, text


def _fail(path: Path, line: int, problem: str) -> NoReturn:
    raise ValueError(f"{path}:{line}: {problem}")


def _clipped(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
