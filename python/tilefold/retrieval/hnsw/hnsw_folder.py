"""A saved HnswIndex: safetensors, hnswlib's own file, and a JSON manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...files.storage import open_folder, publish
from ...files.tensors import CorruptedFolderError, map_tensors, write_tensors
from .graph import read_graph
from .hnsw_settings import HnswSettings
from .vector_table import VectorTable

_KIND = "tilefold.HnswIndex"
_VERSION = 1


def write_folder(
    folder: Path,
    settings: HnswSettings,
    table: VectorTable,
    write_graph: Callable[[Path], None] | None,
) -> None:
    """Replaces a folder by the saved form of an index; see `HnswIndex.save`.

    Args:
        folder: the folder.
        settings: parameters of the graph.
        table: vectors and ids.
        write_graph: writes the graph to a path; None if there is no graph.
    """
    rows: dict[str, NDArray[Any]] = {"vectors": table.vectors, "ids": table.ids}
    writers: dict[str, Any] = {"rows.safetensors": lambda path: write_tensors(path, rows)}
    if write_graph is not None:
        writers["graph.bin"] = write_graph
    manifest = {**settings.as_dict(), "next_id": table.next_id}
    publish(folder, _KIND, _VERSION, manifest, writers)


def read_folder(folder: Path, mmap: bool) -> tuple[HnswSettings, VectorTable, Any]:
    """Reads the settings, the rows and the graph (or None) of a saved index.

    Checksums are always compared, since hnswlib does not check its file.

    Args:
        folder: the folder.
        mmap: whether to map the vectors into memory instead of reading them.

    Raises:
        FileNotFoundError: no index there.
        ValueError: another kind of folder, a newer format, or a corrupted file.
    """
    with open_folder(folder, _KIND, _VERSION, verify=True) as (manifest, files):
        try:
            names = HnswSettings.__dataclass_fields__
            settings = HnswSettings(**{name: manifest[name] for name in names})
            tensors = map_tensors(files["rows.safetensors"])
            vectors = tensors["vectors"] if mmap else tensors["vectors"].copy()
            next_id = int(manifest["next_id"])
            table = VectorTable.restored(vectors, tensors["ids"].copy(), settings.dim, next_id)
        except (KeyError, TypeError) as error:
            raise CorruptedFolderError(f"load: {folder} has a wrong manifest: {error}") from error
        graph = None
        if "graph.bin" in files:
            graph = read_graph(files["graph.bin"], settings, table.n_rows)
    return settings, table, graph
