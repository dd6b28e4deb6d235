"""What `tilefold search` searches: shards of embeddings, or an index, and names of documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..encoding import named, names_of, shards_of, with_names
from ..index import FlatIndex
from ..running import SearchResult
from ..shards import search_shards
from ..storage import map_tensors, write_tensors

_INDEX, _NAMES = "index", "names.safetensors"


class Corpus(NamedTuple):
    """Documents that can be searched: ``search(queries, k)`` gives rows of `names`."""

    search: Callable[..., SearchResult]
    names: list[str]
    dim: int


def open_corpus(folder: str | Path) -> Corpus:
    """Shards that `tilefold encode` wrote, or an index of `tilefold index`.

    Raises:
        FileNotFoundError: the folder is neither.
    """
    root = Path(folder)
    if (root / _NAMES).is_file():
        index = FlatIndex.load(root / _INDEX)
        return Corpus(partial(_plain, index.search), named(map_tensors(root / _NAMES)), index.dim)
    paths = shards_of(root)
    dim = map_tensors(paths[0])["vectors"].shape[1]

    def search(queries: Any, k: int) -> Any:
        return search_shards(queries, paths, k)

    return Corpus(partial(_plain, search), names_of(paths), dim)


def _plain(search: Callable[..., Any], queries: Any, k: int) -> SearchResult:
    found = search(queries, k)
    return SearchResult(found.scores, found.ids)


def save_index(folder: str | Path, shards: str | Path) -> FlatIndex:
    """One index of all shards in a folder, saved with the names of documents.

    Args:
        folder: where it goes.
        shards: a folder that `tilefold encode` wrote.
    """
    paths = shards_of(shards)
    index = FlatIndex(map_tensors(paths[0])["vectors"].shape[1])
    for path in paths:
        tensors = map_tensors(path)
        index.add(tensors["vectors"], ids=tensors["ids"])
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    index.save(root / _INDEX)
    partial = root / f".{_NAMES}.partial"
    write_tensors(partial, with_names(names_of(paths)))
    partial.replace(root / _NAMES)
    return index
