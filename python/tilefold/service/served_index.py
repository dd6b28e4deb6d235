"""ServedIndex: one generation of an index, with its names, its texts and its encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.documents import Documents
from ..files.storage import published_checksum
from ..retrieval.corpus import Corpus, corpus_fingerprint, load_corpus
from ..retrieval.flat_index import FlatIndex
from ..retrieval.running_search import SearchResult

Vectors = NDArray[np.float32]
_ATTEMPTS = 3  # where a folder is replaced while it is read


class QueryEncoder(NamedTuple):
    """A model that encodes queries.

    Attributes:
        encode: from texts to float32 ``[n, dim]``.
        dim: of its vectors.
        record: of `tilefold.models.model_record.model_record`.
    """

    encode: Callable[[Sequence[str]], Vectors]
    dim: int
    record: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ServedIndex:
    """What answers requests: it never changes, so a request is of one generation as a whole.

    Attributes:
        name: of the folder, without its path.
        index: the documents.
        fingerprint: digest of the checksums of the folder.
        names: of documents by id; None for an index without names.
        documents: titles and texts, by id; None where they are not known.
        encoder: of queries; None where vectors alone are taken.
    """

    name: str
    index: FlatIndex
    fingerprint: str
    names: Sequence[str] | None = None
    documents: Documents | None = None
    encoder: QueryEncoder | None = None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Ids by name; the first of those that share a name."""
        names = self.names or ()
        return {names[i]: i for i in reversed(range(len(names)))}

    def look_up_names(self) -> None:
        """Prepares `ids_of` for names, which takes 0.35 microseconds per document."""
        _ = self._numbers

    def ids_of(self, given: Sequence[int | str]) -> NDArray[np.int64]:
        """Returns ids; those given by names of documents are looked up, and unknown names left out.

        Raises:
            ValueError: a name is given, and the index has none.
        """
        named = [id for id in given if isinstance(id, str)]
        if not named:
            return np.array(given, np.int64)
        if self.names is None:
            raise ValueError(f"this index has no names of documents, got {named[0]!r}")
        ids = (self._numbers.get(id) if isinstance(id, str) else id for id in given)
        return np.array([id for id in ids if id is not None], np.int64)

    def search(
        self,
        vectors: Vectors,
        k: int,
        *,
        allowed: Any = None,
        exclude: Any = None,
        min_score: Any = None,
        num_threads: int | None = None,
    ) -> SearchResult:
        """Returns the answers of `FlatIndex.search`, for k up to the number of documents."""
        k = min(k, len(self.index))
        if not k:  # a search of an empty index warns
            nothing = np.empty((len(vectors), 0))
            return SearchResult(nothing.astype(np.float32), nothing.astype(np.int64))
        scores, ids = self.index.search(
            vectors,
            k,
            allowed=allowed,
            exclude=exclude,
            min_score=min_score,
            num_threads=num_threads,
        )[:2]
        return SearchResult(scores, ids)


def open_served(
    folder: str | Path,
    *,
    encoder: QueryEncoder | None = None,
    documents: Documents | None = None,
    verify: bool = True,
) -> ServedIndex:
    """Opens a folder of `tilefold encode`, `tilefold index` or `FlatIndex.save`, and checks it.

    Args:
        folder: its path.
        encoder: of queries.
        documents: with the texts of all documents of the folder, in any order.
        verify: whether to compare checksums, which reads every byte once.

    Raises:
        FileNotFoundError: the folder has no index and no shards.
        ValueError: a file was changed, the encoder is not that of the documents, or documents
            lack one of the folder.
    """
    root = Path(folder)
    for _ in range(_ATTEMPTS):
        fingerprint = served_fingerprint(root)
        index, corpus = _load(root, verify)
        if served_fingerprint(root) == fingerprint:
            break
    else:
        raise ValueError(f"serve: {root} was replaced {_ATTEMPTS} times while it was read")
    if encoder is not None:
        (corpus or _nameless(root, index)).check_model(encoder.record, encoder.dim)
    names = None if corpus is None else corpus.names
    if index.has_string_ids:
        index, names = index.with_integer_ids()
    aligned = None if documents is None else _by_id(documents, names, root)
    return ServedIndex(root.resolve().name, index, fingerprint, names, aligned, encoder)


def served_fingerprint(folder: str | Path) -> str:
    """Returns a digest of the checksums that a folder keeps, without reading its vectors.

    Raises:
        FileNotFoundError: the folder has no index and no shards.
    """
    root = Path(folder)
    bare = (root / "manifest.json").is_file()
    return published_checksum(root) if bare else corpus_fingerprint(root)


def _load(root: Path, verify: bool) -> tuple[FlatIndex, Corpus | None]:
    if (root / "manifest.json").is_file():
        return FlatIndex.load(root, verify=verify), None
    return load_corpus(root, verify=verify)


def _nameless(root: Path, index: FlatIndex) -> Corpus:
    """Returns a corpus without names and model, which compares dimensions alone."""
    return Corpus(root, [], index.dim, None, index.search)


def _by_id(documents: Documents, names: Sequence[str] | None, root: Path) -> Documents:
    """Returns texts and titles in the order of ids."""
    if names is None:
        raise ValueError(
            f"serve: {root} is an index without names of documents, so texts cannot be found; "
            "'tilefold encode' and 'tilefold index' keep names"
        )
    if names == documents.ids:
        return documents
    rows = documents.rows()
    missing = next((name for name in names if name and name not in rows), None)
    if missing is not None:
        raise ValueError(f"serve: the texts lack document {missing!r} of {root}")
    order = [rows[name] if name else None for name in names]  # none: an id that no document has
    columns = (documents.ids, documents.texts, documents.titles)
    return Documents(*(["" if row is None else column[row] for row in order] for column in columns))
