"""Texts alone, with their names: a corpus to encode, or queries to search with."""

from __future__ import annotations

from pathlib import Path

from .collection import hint, layout_of, present, read_corpus, read_queries
from .ir_datasets_reader import (
    dataset_documents,
    dataset_queries,
    install_hint,
    is_dataset_name,
)
from .lines import StrPath
from .passages import TITLE_FORMAT, joined_title


def read_documents(source: StrPath, *, title_format: str = TITLE_FORMAT) -> dict[str, str]:
    """Documents of a collection's folder, or of a file like its corpus.

    Args:
        source: a folder of BEIR or MS MARCO, JSON lines with "_id", "title" and "text", or lines of
            id, title (or none) and text between tabs; packed with gzip or not.
        title_format: how title and text are joined.

    Returns:
        ``{id: text}``, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file, or the folder is no collection.
        ValueError: a bad line, a repeated id, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "corpus.jsonl"
    >>> _ = path.write_text('{"_id": "1", "title": "Hens", "text": "They run."}')
    >>> read_documents(path)
    {'1': 'Hens They run.'}
    """
    if is_dataset_name(source):
        source = dataset_documents(str(source))
    layout, path = _located(Path(source), {"beir": "corpus.jsonl", "msmarco": "collection.tsv"})
    return read_corpus(layout, path, joined_title(title_format))


def read_query_texts(source: StrPath) -> dict[str, str]:
    """Queries of a BEIR folder, judged or not, or of a file.

    Args:
        source: a folder of BEIR, JSON lines with "_id" and "text", or lines of id and text between
            tabs, such as MS MARCO's ``queries.dev.tsv``.

    Returns:
        ``{id: text}``, in the order of the file.

    Raises:
        FileNotFoundError, ValueError: as `read_documents`.
    """
    if is_dataset_name(source):
        source = dataset_queries(str(source))
    layout, path = _located(Path(source), {"beir": "queries.jsonl"})
    return read_queries(layout, path)


def _located(source: Path, names: dict[str, str]) -> tuple[str, Path]:
    """The layout and the file, of a folder or of a file."""
    if not source.is_dir():
        if not source.exists():
            raise FileNotFoundError(f"there is no file {source}{install_hint(source)}")
        tabs = source.name.removesuffix(".gz").endswith((".tsv", ".txt"))
        return ("msmarco" if tabs else "beir"), source
    layout = layout_of(source)
    path = None if layout not in names else present(source, names[layout])
    if layout is None or path is None:
        raise FileNotFoundError(
            f"{source} has no {' or '.join(names.values())}; name a file{hint(source)}"
        )
    return layout, path
