"""Reads and writes other wordings of queries, which were made beforehand: JSON lines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..files.atomic import replacing_text
from .json_reader import json_records
from .lines import StrPath
from .records import Record, shown_value
from .text_columns import is_text

_Columns = Sequence[Sequence[str]]


def read_rewrites(
    path: StrPath, query_ids: Sequence[str], queries: Sequence[str] | None = None
) -> list[list[str]]:
    """Reads the rewrites of queries, such as a language model wrote beforehand.

    A line holds ``{"_id": "q7", "rewrites": ["who is it?", {"text": "who?", "family": "typo"}]}``;
    families are for readers of the file, and may be missing. A rewrite that repeats an earlier one
    of its query, up to case and white space, is left out, and a warning has their number.

    Args:
        path: JSON lines or a JSON array, packed with gzip or not.
        query_ids: of the queries, which all differ.
        queries: their texts, to leave out rewrites that are equal to their query, too.

    Returns:
        The rewrites of each query, in the order of `query_ids` and of the file; none for a query
        without a line.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: query_ids that are no list of strings.
        ValueError: query_ids repeat; not one query for each; and with file and line: bad JSON, an
            unknown field, the id of no query, a second line of a query, a rewrite that is no text
            or is blank; a file without lines.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "rewrites.jsonl"
        >>> _ = path.write_text('{"_id": "q1", "rewrites": ["who is it?"]}')
        >>> read_rewrites(path, ["q0", "q1"])
        [[], ['who is it?']]
    """
    rows = _rows(query_ids, "read_rewrites")
    _check_length("read_rewrites", "queries", queries, len(rows))
    found: list[list[str]] = [[] for _ in rows]
    first_lines: dict[str, int] = {}
    left_out = 0
    for record in json_records(path):
        name, texts = _checked(record, rows, first_lines)
        kept = _distinct(texts, [] if queries is None else [queries[rows[name]]])
        left_out += len(texts) - len(kept)
        found[rows[name]] = kept
    if not first_lines:
        raise ValueError(f"{path}: the file is empty")
    if left_out:
        kind = "earlier ones" if queries is None else "their query or to earlier ones"
        warnings.warn(
            f"read_rewrites: {path}: {left_out} rewrites equal to {kind} are left out",
            stacklevel=2,
        )
    return found


def write_rewrites(
    path: StrPath,
    query_ids: Sequence[str],
    rewrites: _Columns,
    families: _Columns | None = None,
) -> None:
    """Writes rewrites of queries, which `read_rewrites` reads back; a line for each query with any.

    The file appears whole or not at all.

    Args:
        path: file to write; an existing one is replaced.
        query_ids: of the queries, which all differ.
        rewrites: of each query.
        families: of each rewrite, such as "typo".

    Raises:
        TypeError: an id, a rewrite or a family that is no string.
        ValueError: ids repeat or are empty; not one list for each query, not one family for each
            rewrite; a rewrite that is blank or has half a surrogate pair; no rewrite at all.
            Nothing is written then.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "rewrites.jsonl"
        >>> write_rewrites(path, ["q0", "q1"], [["whoo?"], []], families=[["typo"], []])
        >>> print(path.read_text().strip())
        {"_id": "q0", "rewrites": [{"text": "whoo?", "family": "typo"}]}
    """
    op = "write_rewrites"
    rows = _rows(query_ids, op)
    _check_length(op, "lists of rewrites", rewrites, len(rows))
    _check_length(op, "lists of families", families, len(rows))
    written = []
    for row, name in enumerate(query_ids):
        items = _items(name, rewrites[row], None if families is None else families[row])
        if items:
            written.append(json.dumps({"_id": name, "rewrites": items}) + "\n")
    if not written:
        raise ValueError(f"{op}: no query has a rewrite, and an empty file is none of rewrites")
    with replacing_text(path) as file:
        file.writelines(written)


def wording(text: str) -> str:
    """Returns a text in lower case, with one blank for each run of white space.

    Uncased encoders read texts of one wording as the same text.

    >>> wording("Who  is it?\\n")
    'who is it?'
    """
    return " ".join(text.casefold().split())


def _distinct(texts: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """Returns the first text of each wording that is not excluded."""
    seen = {wording(text) for text in excluded}
    by_wording: dict[str, str] = {}
    for text in texts:
        by_wording.setdefault(wording(text), text)
    return [text for key, text in by_wording.items() if key not in seen]


# ---- reading -------------------------------------------------------------------------------------


def _checked(
    record: Record, rows: Mapping[str, int], first_lines: dict[str, int]
) -> tuple[str, list[str]]:
    """Returns the id and the rewrites of a line, and notes the line."""
    record.only(("_id", "rewrites"))
    name = record.identifier("_id")
    if name not in rows:
        record.fail(f"{name!r} is the id of no query; there are {len(rows)}")
    if name in first_lines:
        record.fail(f"the rewrites of {name!r} are already in line {first_lines[name]}")
    first_lines[name] = record.place.line
    given = record.value("rewrites")
    if not isinstance(given, list):
        record.fail(f"'rewrites' must be a list, got {shown_value(given)}")
    return name, [_rewrite(record, at, item) for at, item in enumerate(given)]


def _rewrite(record: Record, at: int, item: Any) -> str:
    """Returns the text of a rewrite, which is a string or an object."""
    if isinstance(item, dict):
        part = Record(record.place, item, f"rewrites[{at}]: ")
        part.only(("text", "family"))
        part.optional("family")
        text = part.string("text")
    else:
        named = Record(record.place, {f"rewrites[{at}]": item})
        text = named.string(f"rewrites[{at}]")
    if not text.strip():
        record.fail(f"rewrites[{at}] is blank")
    return text


# ---- checks of arguments -------------------------------------------------------------------------


def _rows(query_ids: Sequence[str], op: str) -> dict[str, int]:
    """Returns the row of each id."""
    if isinstance(query_ids, str):
        raise TypeError(f"{op}: query_ids must be a list of strings, got the string {query_ids!r}")
    rows: dict[str, int] = {}
    for row, name in enumerate(query_ids):
        _check_text(name, f"{op}: query_ids[{row}]")
        if name in rows:
            raise ValueError(
                f"{op}: query_ids must differ, but {name!r} is in rows {rows[name]} and {row}"
            )
        rows[name] = row
    return rows


def _check_length(op: str, argument: str, column: Sequence[Any] | None, expected: int) -> None:
    if column is not None and len(column) != expected:
        raise ValueError(
            f"{op}: expected {argument} of {expected} query_ids, one for each, got {len(column)}"
        )


def _items(name: str, texts: Sequence[str], families: Sequence[str] | None) -> list[Any]:
    """Returns the rewrites of a query as JSON has them."""
    where = f"write_rewrites: rewrites of {name!r}"
    for column, kind in ((texts, "rewrites"), (families, "families")):
        if isinstance(column, str):
            raise TypeError(f"{where}: {kind} must be a list of strings, got {column!r}")
    for text in texts:
        _check_text(text, where)
    if families is None:
        return list(texts)
    if len(families) != len(texts):
        raise ValueError(f"{where}: expected {len(texts)} families, got {len(families)}")
    for family in families:
        _check_text(family, f"write_rewrites: families of {name!r}")
    return [{"text": text, "family": family} for text, family in zip(texts, families, strict=True)]


def _check_text(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{where}: expected a string, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{where}: {text!r} is blank")
    if not is_text(text):
        raise ValueError(f"{where}: {text[:60]!r} has half a surrogate pair")
