"""Reads the start of a source, from which its format is detected, and all of its records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .ir_datasets_reader import install_hint, is_dataset_name
from .json_reader import is_keyed, json_members, json_records, starts_as_json
from .layouts import layout_of
from .lines import Place, StrPath, clipped, filled_lines, opening
from .records import Record
from .tables import dataset_records, delimiter_of, is_dataset, parquet_records, rows, table_records

_PARQUET = b"PAR1"


class Head(NamedTuple):
    """The start of a source: its first record, line, or the names in a folder."""

    seen: str  # in words
    layout: str | None = None  # of a folder
    fields: Mapping[str, Any] = {}  # the first record of JSON or of Arrow
    line: str = ""  # the first line of other text that is no comment
    header: Sequence[str] = ()  # its first row as a table between tabs or else commas
    near_collection: bool = False  # a file beside a collection.tsv

    def has(self, *names: str) -> bool:
        """Returns whether the first record, or the first row as a header, has all these names."""
        return set(names) <= ({*self.fields} or {*self.header})

    def cells(self) -> list[str]:
        """Splits the first line at tabs."""
        return self.line.split("\t")


def records(source: Any) -> Iterator[Record]:
    """Yields the records of JSON, of Parquet, of a table with a header, or of a dataset."""
    if is_dataset(source):
        return dataset_records(source)
    start = opening(source)
    if start == _PARQUET:
        return parquet_records(source)
    if starts_as_json(source):
        return json_records(source)
    return table_records(source, delimiter_of(source))


def has_records(path: StrPath) -> bool:
    """Returns whether a file holds records that name their fields: JSON or Parquet."""
    return opening(path) == _PARQUET or starts_as_json(path)


def head_of(source: Any) -> Head:
    """Reads the start of a source.

    Raises:
        ValueError: it is empty, or its first record is broken.
        FileNotFoundError: there is no such file.
    """
    if is_dataset(source):
        return _fields_head("a dataset", dataset_records(source), source)
    if is_dataset_name(source):
        return Head(f"the data set {source} of ir_datasets", layout="beir")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {source}{install_hint(source)}")
    if path.is_dir():
        listed = clipped(", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing")
        return Head(f"a folder with {listed}", layout=layout_of(path))
    if opening(path) == _PARQUET:
        return _fields_head("a Parquet file", parquet_records(path), path)
    if starts_as_json(path):
        if is_keyed(path):
            members = (record for _, record in json_members(path))
            return _fields_head("a JSON object of records", members, path)
        return _fields_head("JSON", json_records(path), path)
    return _text_head(path)


def _fields_head(what: str, source: Iterator[Record], path: Any) -> Head:
    first = next(source, None)
    if first is None:
        raise ValueError(f"{source_name(path)}: the file is empty")
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


def source_name(source: Any) -> str:
    """Returns the path of a file, or a name for a dataset, for error messages."""
    return f"<{type(source).__name__}>" if is_dataset(source) else os.fspath(source)
