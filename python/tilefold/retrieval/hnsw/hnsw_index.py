"""HnswIndex: approximate search over a graph of neighbors, called like FlatIndex."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import _native
from ...arrays import Array, Vectors, as_id_list, as_vectors, check_dim, check_unique, widened
from ...progress import Progress
from ..document_ids import new_ids
from ..foreign_names import explains_names
from ..locks import renew_in_children
from ..running_search import RunningSearch, SearchResult, finite_rows
from ..search_options import SearchOptions, checked_threads, warn_of_empty
from .graph import LINK_BLOCK, build_graph, graph_from_state, link_hidden, new_graph, write_graph
from .graph_recall import graph_recall
from .hnsw_folder import read_folder, write_folder
from .hnsw_settings import HnswSettings, import_hnswlib
from .proposals import GraphSearch
from .vector_table import VectorTable

# Blocks of one `add`, at most. Searches wait while a block is linked, so blocks are short; but each
# block lifts the marks of all rows before it (see link_hidden), 0.3 us a row and 100 times on
# average with 200 blocks, which is a tenth of the time that linking the row takes.
_MAX_LINK_BLOCKS = 200

_Result = TypeVar("_Result")


class HnswIndex:
    """Approximate inner-product search over a graph of neighbors (HNSW), built by hnswlib.

    Called like `FlatIndex`. The graph decides which documents are found; their scores and order
    are those of `FlatIndex`, bit for bit, and an answer is exact where at most
    ``max(k, ef_search)`` documents are eligible. For k up to ``ef_search``, the answer for a
    smaller k is a prefix of the answer for a larger one.

    The graph depends on the order of insertion and, through rounding, on the machine. Built with
    one thread it is the same every time; with more, the order in which threads link documents
    varies. Loading or unpickling an index restarts hnswlib's random numbers for later additions.

    Any number of threads may search at once. An `add` lets searches run between blocks of rows, and
    its rows become visible all at once; a `remove` waits for running searches.

    hnswlib computes in float32, so vectors are stored as float32, and twice: in the graph and here.
    Removed documents stay in the graph as waypoints; when they outnumber the others, the next `add`
    builds the graph anew.

    Args:
        dim: dimensions of the vectors.
        m: links per document and layer, 2 to 10000; more links find more and use more memory.
        ef_construction: candidates considered when a document is linked.
        ef_search: candidates considered by a search; may be set later.
        seed: seed of the random layers that documents are assigned to.
        metric: "ip", the only one here; `FlatIndex` has others.

    Raises:
        ImportError: hnswlib is not installed.
        TypeError: a parameter is not an integer.
        ValueError: a parameter is out of range.

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

    @explains_names("HnswIndex")
    def __init__(
        self,
        dim: int,
        *,
        m: int = 16,
        ef_construction: int = 200,
        ef_search: int = 64,
        seed: int = 100,
        metric: str = "ip",
    ) -> None:
        if metric != "ip":
            raise ValueError(
                f'HnswIndex: metric must be "ip", got {metric!r}; for cosines add and search unit '
                'vectors, and for L2 distances use FlatIndex(dim, metric="l2")'
            )
        import_hnswlib()  # fails here, rather than in the first add
        self._settings = HnswSettings(dim, m, ef_construction, ef_search, seed)
        self._table = VectorTable.empty(self.dim)
        self._graph: Any = None  # hnswlib.Index over all rows of the table, or None
        self._lock = _native.IndexLock()
        renew_in_children(self)

    def _start_locks(self) -> None:
        """Creates the locks, also in a forked child, which inherits them without their holders."""
        if self._lock.is_changing():
            # The fork interrupted a change: hnswlib may be in any state, the table is consistent.
            self._graph = None
        self._lock = _native.IndexLock()

    # ---- contents --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, id: object) -> bool:
        if isinstance(id, bool) or not hasattr(id, "__index__"):
            return False
        return operator.index(id) in self._table.row_by_id

    def __repr__(self) -> str:
        return f"HnswIndex({self._settings}, documents={len(self)})"

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._settings.dim

    @property
    def m(self) -> int:
        """Links per document and layer."""
        return self._settings.m

    @property
    def ef_construction(self) -> int:
        """Candidates considered when a document is linked."""
        return self._settings.ef_construction

    @property
    def seed(self) -> int:
        """Seed of the random layers that documents are assigned to."""
        return self._settings.seed

    @property
    def ef_search(self) -> int:
        """Candidates considered by a search: more of them find more and take longer."""
        return self._settings.ef_search

    @ef_search.setter
    def ef_search(self, ef_search: int) -> None:
        settings = dataclasses.replace(self._settings, ef_search=ef_search)

        def write() -> None:
            self._settings = settings
            if self._graph is not None:
                self._graph.set_ef(settings.ef_search)

        self._change(lambda: self._lock.writing(write))

    @property
    def dtype(self) -> str:
        """Dtype in which vectors are stored: always float32."""
        return "float32"

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the documents, in the order in which they were added."""

        def read() -> NDArray[np.int64]:
            ids = self._table.ids
            return ids[ids >= 0]

        return self._lock.reading(read)

    def reconstruct(self, ids: Array) -> NDArray[np.float32]:
        """Returns the vectors of documents.

        Args:
            ids: ``[n]`` integers, or a single id.

        Returns:
            float32 ``[n, dim]``; ``[dim]`` for a single id.

        Raises:
            ValueError: an id is not in the index.
        """
        op = "HnswIndex.reconstruct"
        id_list, single = as_id_list(ids, op, "ids")
        vectors = self._lock.reading(lambda: self._table.vectors[self._table.rows_of(id_list, op)])
        return vectors[0] if single else vectors

    # ---- changes ---------------------------------------------------------------------------------

    def add(
        self, vectors: Array, ids: Array | None = None, *, num_threads: int | None = None
    ) -> None:
        """Adds documents: all of them or, on any error and on Ctrl-C, none.

        After removals, every call costs another 0.3 us per removed document: add in batches.

        Args:
            vectors: ``[rows, dim]`` float32, float16 or bfloat16.
            ids: ``[rows]`` integers >= 0, not yet in the index. By default consecutive integers
                from one more than the largest id ever added, so that ids are never reused.
            num_threads: by default `get_num_threads()`; 1 makes the graph reproducible.

        Raises:
            TypeError: vectors are int8, which hnswlib does not support, or of no vector dtype.
            ValueError: vectors have another dim or a non-finite row; ids are negative, repeated or
                taken.
            RuntimeError: hnswlib ran out of memory. The graph is discarded: searches score every
                document until the next `add` builds it anew.
        """
        op = "HnswIndex.add"
        rows = as_vectors(vectors, op, "vectors")
        self._check_vectors(op, "vectors", rows)
        threads = checked_threads(num_threads, op) or _native.num_threads()
        finite = finite_rows(rows, threads)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise ValueError(f"{op}: row {bad} of vectors has a NaN or an infinity")
        self._change(lambda: self._add(op, rows, ids, threads))

    def remove(self, ids: Array) -> None:
        """Removes documents by id: all of them or, on any error, none.

        Raises:
            ValueError: an id is not in the index, or twice in `ids`.
        """
        op = "HnswIndex.remove"
        removed = as_id_list(ids, op, "ids")[0]
        check_unique(op, removed)
        self._change(lambda: self._remove(op, removed))

    def _add(self, op: str, rows: Vectors, ids: Array | None, threads: int) -> None:
        added = self._new_ids(op, ids, len(rows))
        if self._table.n_rows > 2 * len(self) or (self._graph is None and self._table.n_rows):
            self._rebuild(threads)
        begin = self._table.n_rows
        self._reserve(begin + len(rows))
        step = max(LINK_BLOCK, -(-len(rows) // _MAX_LINK_BLOCKS))
        for start in range(0, len(rows), step):
            self._link(widened(rows[start : start + step]), threads)
        self._publish(begin, added)

    def _remove(self, op: str, ids: NDArray[np.int64]) -> None:
        rows = self._table.rows_of(ids, op)

        def write() -> None:
            self._table.remove(ids, rows)
            if self._graph is not None:
                for row in rows.tolist():
                    self._graph.mark_deleted(row)

        self._lock.writing(write)

    def _check_vectors(self, op: str, name: str, vectors: Vectors) -> None:
        check_dim(op, name, vectors.shape[1], "the index has", self.dim)
        if vectors.dtype == np.int8:
            raise TypeError(
                f"{op}: {name} are int8, which hnswlib cannot search; convert them to float32, "
                "or use FlatIndex"
            )

    def _new_ids(self, op: str, ids: Array | None, n_rows: int) -> NDArray[np.int64]:
        given = None if ids is None else as_id_list(ids, op, "ids")[0]
        added = new_ids(given, n_rows, self._table.next_id, op)
        for id in added.tolist() if given is not None else ():
            if id in self._table.row_by_id:
                raise ValueError(f"{op}: id {id} is already in the index")
        return added

    def _reserve(self, n: int) -> None:
        """Makes room for n rows."""
        grown = self._table.grown(n)  # copied while searches run
        if grown is not self._table:
            self._lock.writing(lambda: setattr(self, "_table", grown))

    def _link(self, block: NDArray[np.float32], threads: int) -> None:
        """Appends rows to table and graph, marked as removed until they are published."""
        begin, end = self._table.n_rows, self._table.n_rows + len(block)

        def write() -> None:
            graph, self._graph = self._graph, None  # stays None if hnswlib fails halfway
            if graph is None:
                graph = new_graph(self._settings, self._table.capacity)
            elif graph.get_max_elements() < end:
                graph.resize_index(self._table.capacity)
            removed = np.flatnonzero(self._table.ids < 0).tolist()
            self._table.write_hidden(begin, block)
            link_hidden(graph, block, begin, removed, threads)
            self._graph, self._table.n_rows = graph, end

        self._lock.writing(write)

    def _publish(self, begin: int, ids: NDArray[np.int64]) -> None:
        """Makes the rows from `begin` on visible, all at once for every search."""

        def write() -> None:
            for row in range(begin, self._table.n_rows):
                self._graph.unmark_deleted(row)
            self._table.publish(begin, ids)

        self._lock.writing(write)

    def _rebuild(self, threads: int) -> None:
        """Links the documents in a new graph, while searches use the old one."""
        table = self._table.compacted()
        graph = build_graph(self._settings, table.vectors, threads)

        def write() -> None:
            self._graph, self._table = graph, table

        self._lock.writing(write)

    # ---- search ----------------------------------------------------------------------------------

    @explains_names("HnswIndex.search", "ef_search")
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
        """The k best documents that the graph finds for every query, with their exact scores.

        The whole call sees one state of the index. A search of an empty index warns.

        Args:
            queries: ``[n, dim]``, or ``[dim]`` for a single one; float32, float16 or bfloat16.
            k: answers per query, at least 1.
            allowed: documents that may be retrieved: an integer array of ids, or a boolean mask
                indexed by id. hnswlib calls Python for every document that it meets, on one thread
                and under the interpreter's lock: expect half the speed or less. Where at most
                ``max(k, ef_search)`` documents are eligible, they are all scored instead.
            nonfinite: "error" raises for a query with NaN or infinity; "exclude" answers it with
                padding.
            num_threads: threads of this call; by default `get_num_threads()`.
            progress: called as ``progress(queries_done, queries)`` between blocks of queries. It
                may search this index, but not change it.
            exclude, min_score, max_score, return_certificate: not supported, see Raises.

        Returns:
            `SearchResult` as `FlatIndex.search` returns it.

        Raises:
            NotImplementedError: an argument that only the exact `FlatIndex.search` supports.
            TypeError: int8 queries, or a dtype that cannot be searched.
            ValueError: another dim, k < 1, a non-finite query.
        """
        op = "HnswIndex.search"
        _refuse(op, exclude=exclude, min_score=min_score, max_score=max_score)
        _refuse(op, return_certificate=return_certificate or None)
        options = SearchOptions(
            op=op, allowed=allowed, nonfinite=nonfinite, num_threads=num_threads
        )
        running = RunningSearch(queries, k, options)
        self._check_vectors(op, "queries", running.queries)
        if not len(self):
            warn_of_empty(op)
        self._lock.reading(
            lambda: GraphSearch(self._table, self._graph, self.ef_search).run(running, progress)
        )
        found = running.result()
        return SearchResult(found.scores, found.ids)

    def recall(self, exact_index: Any, queries: Array, k: int) -> float:
        """Computes the mean recall at k against an exact index.

        Ties at rank k count as found: so does an id that is not among the exact k best but has the
        score of the k-th. Queries without any exact answer are left out; without queries the
        recall is 1.

        Args:
            exact_index: a `FlatIndex` over the same documents, or any object whose
                ``search(queries, k)`` is exact.
            queries: ``[n, dim]`` or ``[dim]``.
            k: answers per query.

        Returns:
            A number from 0 to 1.
        """
        return graph_recall(self, exact_index, queries, k)

    # ---- folders and pickles ---------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the index to a folder: safetensors, hnswlib's own file, and a JSON manifest.

        A folder that already holds an index is replaced as a whole: after a crash or on a full
        disk, it holds either the old index or the new one. Searches may run meanwhile.

        Raises:
            ValueError: the folder holds something else.
            OSError: it could not be written; its previous content is intact.
        """

        def write() -> None:
            graph = self._graph
            writer = None if graph is None else (lambda path: write_graph(graph, path))
            write_folder(Path(folder), self._settings, self._table, writer)

        self._change(write)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True) -> HnswIndex:
        """Reads an index that `save` wrote.

        Checksums are always compared, but hnswlib does not check the content of its file: load
        only folders from sources that you trust.

        Args:
            folder: the folder.
            mmap: whether to map this library's copy of the vectors into memory, until the next
                `add`, instead of reading it. The graph is always read.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        settings, table, graph = read_folder(Path(folder), mmap)
        index = cls(**settings.as_dict())
        index._table, index._graph = table, graph
        return index

    def __getstate__(self) -> dict[str, Any]:
        return self._change(
            lambda: {
                **self._settings.as_dict(),
                "vectors": self._table.vectors.copy(),
                "ids": self._table.ids.copy(),
                "next_id": self._table.next_id,
                # Not the graph itself: pickle would read it later, when others may add to it.
                "graph": None if self._graph is None else self._graph.__getstate__(),
            }
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = ("vectors", "ids", "next_id", "graph")
        self.__init__(**{name: state[name] for name in state if name not in rest})  # type: ignore[misc]
        vectors, ids, next_id, graph = (state[name] for name in rest)
        self._table = VectorTable.restored(vectors, ids, self.dim, next_id)
        if graph is not None:
            self._graph = graph_from_state(graph, self.ef_search)

    # ---- locks -----------------------------------------------------------------------------------

    def _change(self, change: Callable[[], _Result]) -> _Result:
        """Calls `change` while no other change is made; searches may run except while it writes.

        Ctrl-C may interrupt a change anywhere but in `self._lock.writing`, so what is written there
        at a time must leave the index consistent.
        """
        if self._lock.is_read_here():
            raise RuntimeError(
                "HnswIndex: a progress callback must not change or save the index being searched"
            )
        return self._lock.changing(change)


def _refuse(op: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise NotImplementedError(
                f"{op}: {name} is not possible with hnswlib; use FlatIndex.search"
            )
