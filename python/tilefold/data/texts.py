"""Reads texts without judgments: a corpus to encode, or queries to search with."""

from __future__ import annotations

from pathlib import Path

from .collection_texts import read_corpus, read_queries
from .documents import Documents
from .ir_datasets_reader import (
    dataset_documents,
    dataset_queries,
    install_hint,
    is_dataset_name,
)
from .layouts import layout_of, nested_folder_hint, present
from .lines import StrPath


def read_documents(source: StrPath) -> Documents:
    """Reads the documents of a collection's folder, or of a file like its corpus.

    Args:
        source: a folder of BEIR or MS MARCO, JSON lines with "_id", "title" and "text", or lines of
            id, title (or none) and text between tabs; packed with gzip or not.

    Returns:
        `Documents`: ids, texts and titles, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file, or the folder is no collection.
        ValueError: a bad line, a repeated id, an empty file: with file and line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "corpus.jsonl"
    >>> _ = path.write_text('{"_id": "1", "title": "Hens", "text": "They run."}')
    >>> read_documents(path)
    Documents(ids=['1'], texts=['They run.'], titles=['Hens'])
    """
    if is_dataset_name(source):
        source = dataset_documents(str(source))
    layout, path = _located(Path(source), {"beir": "corpus.jsonl", "msmarco": "collection.tsv"})
    return read_corpus(layout, path)


def read_query_texts(source: StrPath) -> dict[str, str]:
    """Reads the queries of a BEIR folder, judged or not, or of a file.

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
    """Returns the layout and the file of a source, which is a folder or a file."""
    if not source.is_dir():
        if not source.exists():
            raise FileNotFoundError(f"there is no file {source}{install_hint(source)}")
        tabs = source.name.removesuffix(".gz").endswith((".tsv", ".txt"))
        return ("msmarco" if tabs else "beir"), source
    layout = layout_of(source)
    path = None if layout not in names else present(source, names[layout])
    if layout is None or path is None:
        raise FileNotFoundError(
            f"{source} has no {' or '.join(names.values())}; "
            f"name a file{nested_folder_hint(source)}"
        )
    return layout, path
