"""Opens an encoded corpus: shards of embeddings, or an index, with the names of documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.done_once import digest_of, kept_checksum, read_checked, write_checked
from ..files.published_folder import written_aside
from ..files.storage import published_checksum
from ..files.tensors import CorruptedFolderError, map_tensors
from ..placement import Placement, placement_of
from .encode_shards import plan_of, shards_of
from .encoded_shard import named, names_of, with_names
from .flat_index import FlatIndex
from .running_search import SearchResult
from .shards import search_shards

_INDEX, _NAMES = "index", "names.safetensors"
_COMPARED = ("weights", "pooling", "normalize")  # queries have to be encoded with the same


@dataclass(frozen=True)
class Corpus:
    """Encoded documents that can be searched.

    Args:
        folder: where they are.
        names: of documents; ids of a search are places in this list.
        dim: dimensions of the vectors.
        model: record of the model that encoded them (`tilefold.models.model_record`), or None
            where none was kept.
    """

    folder: Path
    names: list[str]
    dim: int
    model: Mapping[str, Any] | None
    _search: Callable[..., Any]

    def search(
        self, queries: Any, k: int, *, exclude: Any = None, placement: Placement | None = None
    ) -> SearchResult:
        """Returns scores and ids of the k documents with the largest inner products, on the host.

        Args:
            queries: ``[n, dim]`` vectors.
            k: results per query.
            exclude: places in `names` that a query may not retrieve, as in `tilefold.search`.
            placement: the device that searches; None for the host.
        """
        if placement is None:
            found = self._search(queries, k=k, exclude=exclude)
            return SearchResult(found.scores, found.ids)
        found = self._search(placement.place(queries), k=k, exclude=exclude)
        return SearchResult(placement.fetch(found.scores), placement.fetch(found.ids))

    def check_model(self, record: Mapping[str, Any], dim: int) -> None:
        """Checks that a model encodes queries for these documents.

        Args:
            record: of the model, from `tilefold.models.model_record.model_record`.
            dim: dimensions of its vectors.

        Raises:
            ValueError: vectors of another dimension, or documents of another model, of other
                weights, or with another pooling or normalization.
        """
        own = self.model or {}
        for name in _COMPARED:
            if name in own and own[name] != record[name]:
                raise ValueError(
                    f"{self.folder} was encoded by model {own['name']} with {name} {own[name]}, "
                    f"but model {record['name']} has {name} {record[name]}"
                )
        if dim != self.dim:
            raise ValueError(
                f"{self.folder} has vectors of dim {self.dim}, but model {record['name']} has "
                f"dim {dim}"
            )


def open_corpus(folder: str | Path, *, verify: bool = True) -> Corpus:
    """Opens shards that `encode_shards` wrote, or an index that `save_index` wrote.

    Vectors are mapped from the files and read when they are searched.

    Args:
        folder: with shards, or with an index.
        verify: whether to compare checksums, which reads every byte once, as `FlatIndex.load` does.
            Without, a vector that a faulty disk changed gives other answers, and nothing says so.
            Sizes, headers, ids, and what belongs together are always checked.

    Raises:
        FileNotFoundError: the folder has neither, or lacks a shard.
        CorruptedFolderError: a file is truncated, was changed, or belongs to another corpus.

    Example:
        >>> corpus = open_corpus("vectors")  # doctest: +SKIP
        >>> corpus.check_model(model_record(model, "minilm"), model.dim)  # doctest: +SKIP
        >>> ids = corpus.search(model.encode_queries(texts), 10).ids  # doctest: +SKIP
    """
    root = Path(folder)
    if (root / _NAMES).is_file():
        return load_corpus(root, verify=verify)[1]
    paths = shards_of(root, verify=verify)
    search = partial(_search_shards, paths)
    return Corpus(root, names_of(paths), _dim(paths[0]), plan_of(root).model, search)


def load_corpus(folder: str | Path, *, verify: bool = True) -> tuple[FlatIndex, Corpus]:
    """Opens what `open_corpus` opens as one index, for a process that searches it often.

    Shards are joined: their vectors stay mapped from the files, packed documents take memory. A
    folder that is replaced meanwhile changes no answer.

    Args:
        folder, verify: of `open_corpus`.

    Raises:
        FileNotFoundError, CorruptedFolderError: as `open_corpus`.

    Example:
        >>> index, corpus = load_corpus("vectors")  # doctest: +SKIP
        >>> [corpus.names[i] for i in index.search(vector, 10).ids]  # doctest: +SKIP
    """
    root = Path(folder)
    if (root / _NAMES).is_file():
        index = FlatIndex.load(root / _INDEX, verify=verify)
        names, model = _read_names(root)
    else:
        paths = shards_of(root, verify=verify)
        index, names, model = _joined(paths), names_of(paths), plan_of(root).model
    return index, Corpus(root, names, index.dim, model, partial(_search_index, index))


def corpus_fingerprint(folder: str | Path) -> str:
    """Returns a digest of the checksums that a folder of `open_corpus` keeps of its contents.

    Raises:
        FileNotFoundError: the folder has neither an index nor shards.
        CorruptedFolderError: a file carries no checksum.
    """
    root = Path(folder)
    if (root / _NAMES).is_file():
        return digest_of([published_checksum(root / _INDEX), kept_checksum(root / _NAMES)])
    paths = shards_of(root, verify=False)
    return digest_of([plan_of(root).key, *map(kept_checksum, paths)])


def save_index(folder: str | Path, shards: str | Path) -> FlatIndex:
    """Joins all shards of a folder to one index, and saves it with the names of documents.

    The folder appears when everything is written, or not at all.

    Args:
        folder: where it goes.
        shards: folder that `encode_shards` wrote.

    Returns:
        The index.

    Raises:
        FileExistsError: the folder exists.
    """
    root, paths = Path(folder), shards_of(shards)
    if root.exists():
        raise FileExistsError(f"{root} exists already; name another folder")
    index = _joined(paths)
    with written_aside(root, _NAMES) as aside:
        index.save(aside / _INDEX)
        _write_names(aside, names_of(paths), plan_of(shards).model)
    return index


def _joined(paths: list[Path]) -> FlatIndex:
    index = FlatIndex(_dim(paths[0]))
    for path in paths:
        tensors = map_tensors(path)
        index.add(tensors["vectors"], ids=tensors["ids"])
    return index


def _write_names(folder: Path, names: list[str], model: Any) -> None:
    """Writes names and model, and the checksum of the index that they belong to."""
    texts = {"model": json.dumps(model), "index": published_checksum(folder / _INDEX)}
    tensors: dict[str, NDArray[Any]] = {
        **with_names(names),
        **{key: np.frombuffer(text.encode(), np.uint8) for key, text in texts.items()},
    }
    write_checked(folder / _NAMES, tensors)


def _read_names(folder: Path) -> tuple[list[str], Any]:
    tensors = read_checked(folder / _NAMES)
    try:
        names, model = named(tensors), json.loads(tensors["model"].tobytes())
        index = tensors["index"].tobytes().decode()
    except (KeyError, ValueError) as error:
        raise CorruptedFolderError(
            f"{folder / _NAMES}: not the names of an index: {error}"
        ) from error
    if index != published_checksum(folder / _INDEX):
        raise CorruptedFolderError(
            f"{folder / _NAMES} belongs to another index than {folder / _INDEX}; write both again"
        )
    return names, model


def _search_index(index: FlatIndex, queries: Any, *, k: int, exclude: Any) -> Any:
    if placement_of(queries) is None:
        return index.search(queries, k, exclude=exclude)
    return search_shards(queries, [index], k, exclude=exclude)


def _search_shards(paths: list[Path], queries: Any, *, k: int, exclude: Any) -> Any:
    return search_shards(queries, paths, k, exclude=exclude)


def _dim(shard: Path) -> int:
    return int(map_tensors(shard)["vectors"].shape[1])
