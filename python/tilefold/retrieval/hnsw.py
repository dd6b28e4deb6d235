"""HnswIndex: the approximate neighbour graph of hnswlib behind the same call as FlatIndex.

hnswlib only proposes candidates: every score is computed again canonically, so it has the bits that
FlatIndex returns for that query and that id. The vectors are therefore kept here as well (hnswlib
gives its own copy out as Python floats, one by one), and what the graph cannot answer is scored
against them: an answer is short only when fewer than k documents are eligible.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, Vectors, as_id_list, as_vectors, widened
from ..files.storage import CorruptedFolderError, map_tensors, open_folder, publish, write_tensors
from ..progress import Progress
from .locks import ReadWriteLock, renew_in_children, without_ctrl_c
from .running_search import RunningSearch, SearchResult, checked_threads, finite_rows

_KIND = "tilefold.HnswIndex"
_VERSION = 1
_SETTINGS = ("dim", "m", "ef_construction", "ef_search", "seed")
# Candidates between two chances for Ctrl-C and the progress callback.
_SEARCH_BLOCK = 16384
# Rows linked while searches wait; or a 200th of a large batch, as every block lifts the marks of
# those before it (see _link): 0.3 us a row, 100 times on average, a tenth of what linking it costs.
_LINK_BLOCK = 512
_LINK_BLOCKS = 200


class HnswIndex:
    """Approximate inner-product search over a graph of neighbours (HNSW), by hnswlib.

    Called like `FlatIndex`. Which documents are found is up to the graph; their scores and order
    are those of `FlatIndex`, to the bit, and an answer is exact where at most ``max(k, ef_search)``
    documents are eligible. For k up to ``ef_search``, the answer for a smaller k is a prefix of the
    answer for a larger one.

    The graph depends on the order of insertion and, through rounding, on the machine. Built with
    one thread it is the same every time; with more, documents are linked as threads come by.
    Loading or unpickling an index starts hnswlib's random numbers afresh for what is added then.

    Any number of threads may search at once. An `add` lets searches in between blocks of rows, and
    its rows appear all at once; a `remove` waits for the searches that are running.

    hnswlib computes in float32, so vectors are kept as float32, and twice: in the graph and here.
    Removed documents stay in the graph as signposts; when they outnumber the others, the next `add`
    builds it anew.

    Args:
        dim: dimensions of the vectors.
        m: links of a document per layer, 2 to 10000; more of them find more and cost memory.
        ef_construction: candidates considered when a document is linked.
        ef_search: candidates considered by a search; may be set later.
        seed: of the random layers that documents are put on.

    Raises:
        ImportError: hnswlib is not installed.

    Source:
        Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using
        hierarchical navigable small world graphs, TPAMI 2020 (arXiv:1603.09320).

    Example:
        >>> import numpy as np
        >>> index = HnswIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> index.search(np.float32([[2, 1]]), k=2).ids
        array([[30, 10]])
    """

    def __init__(
        self,
        dim: int,
        *,
        m: int = 16,
        ef_construction: int = 200,
        ef_search: int = 64,
        seed: int = 100,
    ) -> None:
        _hnswlib()  # says at once how to install it
        self.dim = _integer("dim", dim, 1, 2**29 - 1)  # hnswlib counts its bytes in an int
        self.m = _integer("m", m, 2, 10_000)  # layers are drawn with a factor 1 / log(m)
        self.ef_construction = _integer("ef_construction", ef_construction, 1, 2**31 - 1)
        self._ef_search = _integer("ef_search", ef_search, 1, 2**31 - 1)
        self.seed = _integer("seed", seed, 0, 2**31 - 1)
        self._vectors: NDArray[np.float32] = np.empty((0, self.dim), np.float32)  # [capacity, dim]
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)  # [capacity]; -1: removed
        self._n_rows = 0
        self._next_id = 0
        self._rows: dict[int, int] = {}  # id -> row, live ones only
        self._graph: Any = None  # hnswlib.Index over all rows, labels are row numbers; or None
        self._change_lock = threading.Lock()
        self._start_locks()
        renew_in_children(self)

    def _start_locks(self) -> None:
        """At the start, and again in a forked child, which has the locks but not their holders."""
        if self._change_lock.locked():
            self._graph = None  # caught in the middle of a change; the rows are whole
        self._lock = ReadWriteLock()
        self._change_lock = threading.Lock()

    # ---- what is in it ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: object) -> bool:
        if isinstance(id, bool) or not hasattr(id, "__index__"):
            return False
        return operator.index(id) in self._rows

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in _SETTINGS)
        return f"HnswIndex({settings}, documents={len(self)})"

    @property
    def dtype(self) -> str:
        """What the vectors are kept as: always float32."""
        return "float32"

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the documents, in the order in which they were added."""
        with self._lock.reading():
            ids = self._ids[: self._n_rows]
            return ids[ids >= 0]

    @property
    def ef_search(self) -> int:
        """Candidates considered by a search: more find more and take longer."""
        return self._ef_search

    @ef_search.setter
    def ef_search(self, ef_search: int) -> None:
        ef_search = _integer("ef_search", ef_search, 1, 2**31 - 1)
        with self._changing(), self._writing():
            self._ef_search = ef_search
            if self._graph is not None:
                self._graph.set_ef(ef_search)

    def reconstruct(self, ids: Array) -> NDArray[np.float32]:
        """The vectors of documents as float32, ``[len(ids), dim]``; of a single id ``[dim]``.

        Raises:
            ValueError: an id that is not in the index.
        """
        op = "HnswIndex.reconstruct"
        wanted = _id_list(op, ids)
        with self._lock.reading():
            vectors = self._vectors[self._rows_of(op, wanted)]
        return vectors[0] if np.ndim(ids) == 0 else vectors

    # ---- changes ---------------------------------------------------------------------------------

    def add(
        self, vectors: Array, ids: Array | None = None, *, num_threads: int | None = None
    ) -> None:
        """Adds documents: all of them or, on any error and on Ctrl-C, none.

        After removals every call costs another 0.3 us per removed document: add in batches.

        Args:
            vectors: ``[rows, dim]`` float32, float16 or bfloat16.
            ids: ``[rows]`` integers >= 0, not yet in the index; by default one more than the
                largest id so far, and on from there, so that ids are never used twice.
            num_threads: by default `get_num_threads()`; 1 makes the graph reproducible.

        Raises:
            TypeError: int8, which hnswlib cannot compute with, or no dtype of vectors at all.
            ValueError: another dim, ids that are negative, repeated or taken, non-finite rows.
            RuntimeError: hnswlib failed, for want of memory. Its graph is given up: searches score
                every document until the next `add` builds it anew.
        """
        op = "HnswIndex.add"
        rows = as_vectors(vectors, op, "vectors")
        self._check_vectors(op, "vectors", rows)
        threads = checked_threads(num_threads, op) or _native.num_threads()
        finite = finite_rows(rows, threads)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise ValueError(f"{op}: row {bad} of vectors has a NaN or an infinity")
        with self._changing():
            names = self._new_ids(op, ids, len(rows))
            if self._n_rows > 2 * len(self) or (self._graph is None and self._n_rows):
                self._rebuild(threads)
            begin = self._n_rows
            self._reserve(begin + len(rows))
            step = max(_LINK_BLOCK, -(-len(rows) // _LINK_BLOCKS))
            for start in range(0, len(rows), step):
                self._link(widened(rows[start : start + step]), threads)
            self._publish(begin, names)

    def remove(self, ids: Array) -> None:
        """Removes documents by id: all of them or, on any error, none.

        Raises:
            ValueError: an id that is not in the index, or twice in `ids`.
        """
        op = "HnswIndex.remove"
        gone = _id_list(op, ids)
        _check_unique(op, gone)
        with self._changing():
            rows = self._rows_of(op, gone)
            with self._writing():
                self._ids[rows] = -1
                for id, row in zip(gone.tolist(), rows.tolist(), strict=True):
                    del self._rows[id]
                    if self._graph is not None:
                        self._graph.mark_deleted(row)

    def _check_vectors(self, op: str, name: str, vectors: Vectors) -> None:
        if vectors.shape[1] != self.dim:
            raise ValueError(
                f"{op}: {name} have dim {vectors.shape[1]} but the index has dim {self.dim}"
            )
        if vectors.dtype == np.int8:
            raise TypeError(
                f"{op}: {name} are int8, which hnswlib cannot search; convert them to float32, "
                "or use FlatIndex"
            )

    def _new_ids(self, op: str, ids: Array | None, rows: int) -> NDArray[np.int64]:
        if ids is None:
            if self._next_id + rows > 2**63:
                raise ValueError(f"{op}: ids must be below 2^63, and the next is {self._next_id}")
            return np.arange(self._next_id, self._next_id + rows, dtype=np.int64)
        names = _id_list(op, ids)
        if len(names) != rows:
            raise ValueError(f"{op}: expected {rows} ids, one per vector, got {len(names)}")
        _check_unique(op, names)
        for id in names.tolist():
            if id in self._rows:
                raise ValueError(f"{op}: id {id} is already in the index")
        return names

    def _reserve(self, n: int) -> None:
        """Makes room for n rows; doubling, so that many small adds copy each row twice at most."""
        if n <= len(self._ids):
            return
        capacity = max(n, 2 * len(self._ids))
        vectors = np.empty((capacity, self.dim), np.float32)
        ids = np.full(capacity, -1)
        vectors[: self._n_rows] = self._vectors[: self._n_rows]
        ids[: self._n_rows] = self._ids[: self._n_rows]
        with self._writing():
            self._vectors, self._ids = vectors, ids

    def _link(self, block: NDArray[np.float32], threads: int) -> None:
        """Appends rows to the graph, as removed ones until they are published."""
        begin, end = self._n_rows, self._n_rows + len(block)
        with self._writing():
            graph, self._graph = self._graph, None  # should hnswlib fail, its graph is not trusted
            if graph is None:
                graph = self._new_graph(len(self._ids))
            elif graph.get_max_elements() < end:
                graph.resize_index(len(self._ids))
            self._vectors[begin:end] = block
            self._ids[begin:end] = -1
            # hnswlib 0.8 reads past an empty list, and dies, when it links a row near removed rows
            # only. So the marks are lifted: removed rows serve as signposts like any other.
            removed = np.flatnonzero(self._ids[:begin] < 0).tolist()
            for row in removed:
                graph.unmark_deleted(row)
            graph.add_items(block, np.arange(begin, end), num_threads=threads)
            for row in itertools.chain(removed, range(begin, end)):
                graph.mark_deleted(row)
            self._graph, self._n_rows = graph, end

    def _publish(self, begin: int, ids: NDArray[np.int64]) -> None:
        """Makes the rows from `begin` on part of the index, in one moment for all searches."""
        with self._writing():
            for row in range(begin, self._n_rows):
                self._graph.unmark_deleted(row)
            self._ids[begin : self._n_rows] = ids
            self._rows.update(zip(ids.tolist(), range(begin, self._n_rows), strict=True))
            self._next_id = max(self._next_id, int(ids.max(initial=-1)) + 1)

    def _rebuild(self, threads: int) -> None:
        """Links the live rows afresh, while searches go on in the old graph."""
        live = np.flatnonzero(self._ids[: self._n_rows] >= 0)
        ids, vectors = self._ids[live], self._vectors[live]
        graph = None
        if len(live):
            graph = self._new_graph(len(live))
            for start in range(0, len(live), _LINK_BLOCK):
                rows = np.arange(start, min(start + _LINK_BLOCK, len(live)))
                graph.add_items(vectors[rows], rows, num_threads=threads)
        with self._writing():
            self._graph, self._vectors, self._ids, self._n_rows = graph, vectors, ids, len(ids)
            self._find_rows()

    def _new_graph(self, capacity: int) -> Any:
        graph = _hnswlib().Index("ip", self.dim)
        graph.init_index(
            capacity, M=self.m, ef_construction=self.ef_construction, random_seed=self.seed
        )
        graph.set_ef(self._ef_search)
        return graph

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self,
        queries: Array,
        k: int,
        *,
        allowed: Array | None = None,
        exclude: Any = None,
        min_score: Any = None,
        max_score: Any = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
        progress: Progress | None = None,
        return_certificate: bool = False,
    ) -> SearchResult:
        """The k best documents that the graph finds, best first, with their exact scores.

        The whole call sees one state of the index.

        Args:
            queries: ``[n, dim]``, or ``[dim]`` for a single one; float32, float16 or bfloat16.
            k: answers per query, at least 1.
            allowed: documents that may be retrieved: an integer array of ids, or a boolean mask
                indexed by id. hnswlib asks Python about every document that it meets, on one thread
                and under the interpreter's lock: expect half the speed or less. Where at most
                ``max(k, ef_search)`` documents are eligible, they are all scored instead.
            nonfinite: "error" raises for a query with NaN or infinity; "exclude" answers it with
                padding.
            num_threads: threads of this call; by default `get_num_threads()`.
            progress: called as ``progress(queries_done, queries)`` between blocks of queries. It
                may search this index, but not change it.
            exclude, min_score, max_score, return_certificate: not possible here, see Raises.

        Returns:
            `SearchResult` as `FlatIndex.search` returns it.

        Raises:
            NotImplementedError: an argument that only the exact `FlatIndex.search` can honour.
            TypeError: int8 queries, or a dtype that cannot be searched.
            ValueError: another dim, k < 1, a non-finite query.
        """
        op = "HnswIndex.search"
        _refuse(op, exclude=exclude, min_score=min_score, max_score=max_score)
        _refuse(op, return_certificate=return_certificate or None)
        running = RunningSearch(
            op, queries, k, allowed=allowed, nonfinite=nonfinite, num_threads=num_threads
        )
        self._check_vectors(op, "queries", running.queries)
        with self._lock.reading():
            scope = self._scope(running)
            if self._graph is None or scope.n_rows <= max(running.k, self._ef_search):
                self._fold_all(running, scope)
                if progress is not None:
                    progress(len(running.queries), len(running.queries))
            else:
                self._fold_proposals(running, scope, progress)
        found = running.result()
        return SearchResult(found.scores, found.ids)

    def _scope(self, running: RunningSearch) -> _Scope:
        filters = running.filters
        if filters.allowed_mask is None and filters.allowed_ids is None:
            return _Scope(None, len(self))
        ids = self._ids[: self._n_rows]
        rows = ids >= 0
        rows[rows] = filters.allows(ids[rows], running.op)
        return _Scope(rows, int(np.count_nonzero(rows)))

    def _fold_all(self, running: RunningSearch, scope: _Scope) -> None:
        """Scores every eligible row."""
        if scope.n_rows:
            ids = self._ids[: self._n_rows]
            live = ids >= 0 if scope.rows is None else scope.rows
            running.fold(self._vectors[: self._n_rows], ids=ids, live=live)

    def _fold_proposals(
        self, running: RunningSearch, scope: _Scope, progress: Progress | None
    ) -> None:
        """Scores what the graph proposes; for queries that it cannot serve, every eligible row."""
        queries = widened(running.queries)
        threads = running.num_threads or _native.num_threads()
        n, fetch = len(queries), max(running.k, self._ef_search)
        step = max(1, _SEARCH_BLOCK // fetch)
        blocks = [(begin, min(begin + step, n)) for begin in range(0, n, step)][::-1]
        unserved: list[int] = []
        while blocks:
            begin, end = blocks.pop()
            rows = self._propose(queries[begin:end], fetch, scope, threads)
            if rows is not None:
                scores, ids = self._best(queries[begin:end], rows, running.k, threads)
                running.scores[begin:end], running.ids[begin:end] = scores, ids
            elif end - begin == 1:
                unserved.append(begin)
            else:  # some query of the block met too few rows, and hnswlib does not say which
                middle = (begin + end) // 2
                blocks += [(middle, end), (begin, middle)]
                continue
            if progress is not None:
                progress(end, n)
        if unserved:
            rest = RunningSearch(running.op, queries[unserved], running.k, num_threads=threads)
            self._fold_all(rest, scope)
            running.scores[unserved], running.ids[unserved] = rest.scores, rest.ids

    def _propose(
        self, queries: NDArray[np.float32], n: int, scope: _Scope, threads: int
    ) -> NDArray[np.int64] | None:
        """Rows ``[n_queries, n]`` that the graph finds; None if one query meets fewer than n."""
        options: dict[str, Any] = {"k": n, "num_threads": threads}
        if scope.rows is not None:
            # Called back for every row that a search meets; indexing bytes is the cheapest answer.
            options |= {"num_threads": 1, "filter": scope.rows.tobytes().__getitem__}
        try:
            rows: NDArray[Any] = self._graph.knn_query(queries, **options)[0]
        except RuntimeError as error:
            if "contiguous 2D array" not in str(error):
                raise
            return None  # and 12 n bytes per query leak in hnswlib 0.8
        return rows.astype(np.int64)

    def _best(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of the proposed rows, by canonical score."""
        scores = np.empty(rows.shape, np.float32)
        _native.score(queries, self._vectors, rows, scores, num_threads=threads)
        ids = self._ids[rows]
        order = np.lexsort((ids, -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)

    def recall(self, exact_index: Any, queries: Array, k: int) -> float:
        """Mean share, over queries, of the exact k best that this index finds.

        Ties at the cut count as found: an id that is not among the exact k best but has the score
        of the k-th answers as well. Queries without any exact answer are left out; without queries
        the recall is 1.

        Args:
            exact_index: a `FlatIndex` over the same documents, or anything else whose
                ``search(queries, k)`` is exact.
            queries: ``[n, dim]`` or ``[dim]``.
            k: how many of the best count.
        """
        exact = [np.atleast_2d(np.asarray(part)) for part in exact_index.search(queries, k)]
        found = [np.atleast_2d(np.asarray(part)) for part in self.search(queries, k)]
        shares = []
        for exact_scores, exact_ids, scores, ids in zip(*exact, *found, strict=True):
            n = np.count_nonzero(exact_ids >= 0)
            if n:
                hit = np.isin(ids, exact_ids[:n]) | (scores == exact_scores[n - 1])
                shares.append(min(1.0, np.count_nonzero(hit & (ids >= 0)) / n))
        return float(np.mean(shares)) if shares else 1.0

    # ---- on disk and in pickles ------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the index to a folder: safetensors, hnswlib's own file, and a JSON manifest.

        A folder that already holds an index is replaced whole: killed at any moment, or out of
        disk, it still holds the old index or already the new one. Searches go on meanwhile.

        Raises:
            ValueError: the folder holds something else.
            OSError: it could not be written; what was there before is intact.
        """
        with self._changing():
            rows: dict[str, NDArray[Any]] = {
                "vectors": self._vectors[: self._n_rows],
                "ids": self._ids[: self._n_rows],
            }
            writers: dict[str, Any] = {"rows.safetensors": lambda path: write_tensors(path, rows)}
            if self._graph is not None:
                writers["graph.bin"] = self._write_graph
            settings = {name: getattr(self, name) for name in _SETTINGS}
            manifest = {**settings, "next_id": self._next_id}
            publish(Path(folder), _KIND, _VERSION, manifest, writers)

    def _write_graph(self, path: Path) -> None:
        self._graph.save_index(os.fspath(path))
        expected = self._graph.index_file_size()  # hnswlib does not notice a full disk
        written = path.stat().st_size if path.exists() else 0
        if written != expected:
            raise OSError(f"HnswIndex.save: only {written} of {expected} bytes fit into {path}")

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True) -> HnswIndex:
        """Reads an index that `save` wrote.

        Checksums are always compared: hnswlib trusts its file blindly. So load only what comes from
        where you trust.

        Args:
            folder: the folder.
            mmap: keep this library's copy of the vectors in the file and map it into memory, until
                the next `add`; False reads it. The graph is always read.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        with open_folder(Path(folder), _KIND, _VERSION, verify=True) as (manifest, files):
            try:
                index = cls(**{name: manifest[name] for name in _SETTINGS})
                tensors = map_tensors(files["rows.safetensors"])
                vectors = tensors["vectors"] if mmap else tensors["vectors"].copy()
                index._hold(vectors, tensors["ids"].copy(), int(manifest["next_id"]))
            except (KeyError, TypeError) as error:
                raise CorruptedFolderError(
                    f"load: {folder} has a wrong manifest: {error}"
                ) from error
            if "graph.bin" in files:
                index._read_graph(files["graph.bin"])
        return index

    def _read_graph(self, path: Path) -> None:
        graph = _hnswlib().Index("ip", self.dim)
        try:
            graph.load_index(os.fspath(path))
        except RuntimeError as error:
            raise CorruptedFolderError(f"load: hnswlib cannot read {path}: {error}") from error
        if graph.get_current_count() != self._n_rows:
            raise CorruptedFolderError(
                f"load: {path} links {graph.get_current_count()} rows, expected {self._n_rows}"
            )
        graph.set_ef(self._ef_search)
        self._graph = graph

    def _hold(self, vectors: NDArray[np.float32], ids: NDArray[np.int64], next_id: int) -> None:
        if vectors.shape != (len(ids), self.dim) or vectors.dtype != np.float32:
            raise CorruptedFolderError(
                f"load: vectors are {vectors.dtype} of shape {vectors.shape}, "
                f"expected float32 of shape ({len(ids)}, {self.dim})"
            )
        self._vectors, self._ids, self._n_rows, self._next_id = vectors, ids, len(ids), next_id
        self._find_rows()

    def _find_rows(self) -> None:
        ids = self._ids[: self._n_rows].tolist()
        self._rows = {id: row for row, id in enumerate(ids) if id >= 0}

    def __getstate__(self) -> dict[str, Any]:
        with self._changing():
            state = {name: getattr(self, name) for name in _SETTINGS}
            state["vectors"] = self._vectors[: self._n_rows].copy()
            state["ids"] = self._ids[: self._n_rows].copy()
            state["next_id"] = self._next_id
            # Not the graph itself: it would be read after this, when others may add to it.
            state["graph"] = None if self._graph is None else self._graph.__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**{name: state[name] for name in _SETTINGS})  # type: ignore[misc]
        self._hold(state["vectors"], state["ids"], state["next_id"])
        if state["graph"] is not None:
            kind = _hnswlib().Index
            self._graph = kind.__new__(kind)
            self._graph.__setstate__(state["graph"])
            self._graph.set_ef(self._ef_search)

    # ---- locks -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time; searches run beside it, except inside `_writing()`."""
        if self._lock.held_by_this_thread():
            raise RuntimeError(
                "HnswIndex: a progress callback must not change or save the index being searched"
            )
        with self._change_lock:
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the graph and the rows, and not to be interrupted halfway."""
        with self._lock.writing(), without_ctrl_c():
            yield

    def _rows_of(self, op: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        try:
            return np.array([self._rows[id] for id in ids.tolist()], np.int64)
        except KeyError as missing:
            raise ValueError(f"{op}: id {missing} is not in the index") from None


class _Scope(NamedTuple):
    """Which rows may be returned."""

    rows: NDArray[np.bool_] | None  # a mask by row; None for all live ones
    n_rows: int


def _hnswlib() -> Any:
    try:
        import hnswlib
    except ModuleNotFoundError:
        raise ImportError('HnswIndex needs hnswlib: pip install "tilefold[hnsw]"') from None
    return hnswlib


def _refuse(op: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise NotImplementedError(
                f"{op}: {name} is not possible with hnswlib; use FlatIndex.search"
            )


def _integer(name: str, value: Any, lowest: int, highest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"HnswIndex: {name} must be an integer, got {kind}") from None
    if not lowest <= number <= highest:
        raise ValueError(f"HnswIndex: {name} must be {lowest} to {highest}, got {number}")
    return number


def _id_list(op: str, ids: Array) -> NDArray[np.int64]:
    return as_id_list(ids, op, "ids")[0]


def _check_unique(op: str, ids: NDArray[np.int64]) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(f"{op}: id {unique[np.argmax(counts > 1)]} is repeated")
