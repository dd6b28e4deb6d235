"""The graph of neighbors: how hnswlib is called to build, extend, write and read it.

A graph is an ``hnswlib.Index`` whose labels are the row numbers of a `VectorTable`.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _native
from ...files.tensors import CorruptedFolderError
from .hnsw_settings import HnswSettings, import_hnswlib

# Rows linked between two chances for Ctrl-C.
LINK_BLOCK = 512


def new_graph(settings: HnswSettings, capacity: int) -> Any:
    """Creates a graph without rows."""
    graph = import_hnswlib().Index("ip", settings.dim)
    graph.init_index(
        capacity,
        M=settings.m,
        ef_construction=settings.ef_construction,
        random_seed=settings.seed,
    )
    graph.set_ef(settings.ef_search)
    return graph


def build_graph(settings: HnswSettings, vectors: NDArray[np.float32], threads: int) -> Any:
    """Creates a graph over vectors ``[rows, dim]``; None if there are none."""
    if not len(vectors):
        return None
    graph = new_graph(settings, len(vectors))
    for start in range(0, len(vectors), LINK_BLOCK):
        rows = np.arange(start, min(start + LINK_BLOCK, len(vectors)))
        add_rows(graph, vectors[rows], rows, threads)
    return graph


def add_rows(
    graph: Any, vectors: NDArray[np.float32], rows: NDArray[np.int64], threads: int
) -> None:
    """Links vectors ``[n, dim]`` as these rows.

    The end of the interpreter waits for it: before Python 3.14, hnswlib aborts the process where it
    takes the GIL afterwards.
    """
    _native.before_exit(lambda: graph.add_items(vectors, rows, num_threads=threads))


def link_hidden(
    graph: Any, block: NDArray[np.float32], begin: int, removed: list[int], threads: int
) -> None:
    """Links rows begin, begin + 1, ... and marks them deleted, so that no search returns them.

    Args:
        graph: with room for the rows.
        block: ``[rows, dim]`` vectors of the new rows.
        begin: row number of the first one.
        removed: rows of the graph that are marked deleted.
        threads: threads that hnswlib links with.
    """
    # hnswlib 0.8 reads past an empty list, and crashes, when it links a row whose neighbors are all
    # marked deleted. So the marks are lifted while it links: deleted rows serve as waypoints like
    # any other.
    for row in removed:
        graph.unmark_deleted(row)
    add_rows(graph, block, np.arange(begin, begin + len(block)), threads)
    for row in itertools.chain(removed, range(begin, begin + len(block))):
        graph.mark_deleted(row)


def write_graph(graph: Any, path: Path) -> None:
    """Writes a graph in hnswlib's own format.

    Raises:
        OSError: the disk is full, which hnswlib itself does not report.
    """
    graph.save_index(os.fspath(path))
    expected = graph.index_file_size()
    written = path.stat().st_size if path.exists() else 0
    if written != expected:
        raise OSError(f"HnswIndex.save: only {written} of {expected} bytes fit into {path}")


def read_graph(path: Path, settings: HnswSettings, n_rows: int) -> Any:
    """Reads a graph that `write_graph` wrote.

    Raises:
        CorruptedFolderError: hnswlib cannot read the file, or it does not link `n_rows` rows.
    """
    graph = import_hnswlib().Index("ip", settings.dim)
    try:
        graph.load_index(os.fspath(path))
    except RuntimeError as error:
        raise CorruptedFolderError(f"load: hnswlib cannot read {path}: {error}") from error
    if graph.get_current_count() != n_rows:
        raise CorruptedFolderError(
            f"load: {path} links {graph.get_current_count()} rows, expected {n_rows}"
        )
    graph.set_ef(settings.ef_search)
    return graph


def graph_from_state(state: Any, ef_search: int) -> Any:
    """Restores a graph from the value of its ``__getstate__()``."""
    kind = import_hnswlib().Index
    graph = kind.__new__(kind)
    graph.__setstate__(state)
    graph.set_ef(ef_search)
    return graph
