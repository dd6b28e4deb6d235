"""What `tilefold search` searches: shards of embeddings, or an index, and names of documents."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..files.storage import map_tensors, write_tensors
from .encode_shards import named, names_of, plan_of, shards_of, with_names
from .flat_index import FlatIndex
from .running_search import SearchResult
from .shards import search_shards

_INDEX, _NAMES, _MODEL = "index", "names.safetensors", "model.json"


class Corpus(NamedTuple):
    """Documents that can be searched: ``search(queries, k)`` gives rows of `names`."""

    search: Callable[..., SearchResult]
    names: list[str]
    model: Any  # what encoded it


def open_corpus(folder: str | Path) -> Corpus:
    """Shards that `tilefold encode` wrote, or an index of `tilefold index`.

    Raises:
        FileNotFoundError: the folder is neither.
    """
    root = Path(folder)
    if (root / _NAMES).is_file():
        index = FlatIndex.load(root / _INDEX)
        return Corpus(
            partial(_plain, index.search), named(map_tensors(root / _NAMES)), _model(root)
        )
    paths = shards_of(root)

    def search(queries: Any, k: int) -> Any:
        return search_shards(queries, paths, k)

    return Corpus(partial(_plain, search), names_of(paths), plan_of(root).model)


def _plain(search: Callable[..., Any], queries: Any, k: int) -> SearchResult:
    found = search(queries, k)
    return SearchResult(found.scores, found.ids)


def save_index(folder: str | Path, shards: str | Path) -> FlatIndex:
    """One index of all shards in a folder, saved with the names of documents, whole or not at all.

    Args:
        folder: where it goes.
        shards: a folder that `tilefold encode` wrote.

    Raises:
        FileExistsError: the folder is there already.
    """
    root, paths = Path(folder), shards_of(shards)
    if root.exists():
        raise FileExistsError(f"{root} is there already; name another folder")
    index = FlatIndex(map_tensors(paths[0])["vectors"].shape[1])
    for path in paths:
        tensors = map_tensors(path)
        index.add(tensors["vectors"], ids=tensors["ids"])
    aside = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        index.save(aside / _INDEX)
        write_tensors(aside / _NAMES, with_names(names_of(paths)))
        (aside / _MODEL).write_text(json.dumps(plan_of(shards).model), encoding="utf-8")
        aside.rename(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return index


def _model(root: Path) -> Any:
    return json.loads((root / _MODEL).read_text(encoding="utf-8"))
