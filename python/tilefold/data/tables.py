"""Tables: rows between commas or tabs, Parquet files, and datasets of Hugging Face."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from .json_reader import json_lines
from .lines import BLANKS, Place, StrPath, lines
from .records import Record


def rows(path: StrPath, delimiter: str) -> Iterator[tuple[Place, list[str]]]:
    """Yields the cells of each row of a file; a quoted cell may span several lines.

    Raises:
        ValueError: quotes that do not close: with file and line.
    """
    return rows_after(path, 0, (text for _, text in lines(path)), delimiter)


def rows_after(
    path: StrPath, n: int, texts: Iterator[str], delimiter: str
) -> Iterator[tuple[Place, list[str]]]:
    """Yields the cells of each row in the lines that follow the first n of a file."""
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    while True:
        place = Place(path, n + reader.line_num + 1)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            place.fail(f"not a table: {error}")
        if cells is None:
            return
        if any(cell.strip(BLANKS) for cell in cells):
            yield place, cells


def delimiter_of(path: StrPath) -> str:
    """Tab if the first line has one, else comma."""
    _, first = next(lines(path), (None, ""))
    return "\t" if "\t" in first else ","


def table_records(path: StrPath, delimiter: str) -> Iterator[Record]:
    """Yields the rows of a table, under the names in its first row."""
    table = rows(path, delimiter)
    place, header = next(table, (Place(path, 1), []))
    return records_under(place, header, table)


def records_under(
    place: Place, header: list[str], table: Iterator[tuple[Place, list[str]]]
) -> Iterator[Record]:
    """Yields rows as records, under the names of a header."""
    if len(set(header)) < len(header):
        place.fail(f"a column is named twice: {header}")
    for place, cells in table:
        if len(cells) != len(header):
            place.fail(f"expected {len(header)} cells, as the header has, got {len(cells)}")
        yield Record(place, dict(zip(header, cells, strict=True)))


def named_records(path: StrPath) -> Iterator[Record]:
    """Yields the records of a Parquet file or of JSON lines, opening it once: its name decides."""
    return parquet_records(path) if str(path).endswith(".parquet") else json_lines(path)


def parquet_records(path: StrPath) -> Iterator[Record]:
    """Yields the rows of a Parquet file, a batch at a time; errors name the row.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: the file is broken.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            f"reading Parquet needs pyarrow ({error}): pip install pyarrow"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(Place(path, number), row)
    except importlib.import_module("pyarrow").ArrowInvalid as error:
        Place(path, number + 1).fail(f"not valid Parquet: {error}")


def dataset_records(dataset: Any) -> Iterator[Record]:
    """Yields the rows of a `datasets.Dataset` or `IterableDataset`; errors name the row.

    Raises:
        TypeError: a `DatasetDict`, which holds several.
    """
    if isinstance(dataset, Mapping):
        raise TypeError(f"expected one split of a dataset, got several: {list(dataset)}")
    for number, row in enumerate(dataset, 1):
        yield Record(Place(f"<{type(dataset).__name__}>", number), row)


def is_dataset(source: Any) -> bool:
    """Returns whether the source has rows with named columns rather than being a path."""
    return hasattr(source, "column_names") and hasattr(source, "__iter__")
