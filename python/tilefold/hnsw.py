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
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilefold import _native

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]

# Candidates scored between two looks at the clock, Ctrl-C and the progress callback.
_SEARCH_BLOCK = 16384
# Rows linked while searches wait, or a 200th of a large batch: each block pays for lifting the
# marks of all removed rows (see _link), 0.3 us each, and 200 times that is a tenth of linking one.
_ADD_BLOCK = 512
_ADD_BLOCKS = 200


class HnswIndex:
    """Approximate search over an HNSW graph, by inner product: higher is better.

    Answers like `FlatIndex.search` whenever the graph finds what the exact scan finds; what it
    returns is always correctly scored and ordered (score descending, then id ascending), and with
    at most `max(k, ef_search)` eligible documents it is exact. For k up to `ef_search`, the answer
    for a smaller k is a prefix of the answer for a larger one.

    The graph depends on the order of insertion and, through rounding, on the machine. With one
    thread (`num_threads=1`) the same calls on one machine give the same graph; with more, rows are
    linked in the order in which threads come by. Saving and loading, like pickling, starts
    hnswlib's random generator afresh for the rows added afterwards.

    Many threads may search at once. `add` lets searches in between blocks of rows, and the whole
    batch appears at once when it is linked; `remove` waits for the searches that are running.

    hnswlib takes float32 only, so vectors are held as float32, twice: in the graph and here.
    float16 and bfloat16 are widened, which changes no score; int8 is refused. Removed rows stay in
    the graph as signposts until they outnumber the live ones; then the next `add` builds it anew.

    Args:
        dim: dimensions of every vector.
        m: links per row and layer, 2 to 10000; more give better recall and cost memory.
        ef_construction: candidates considered when a row is linked.
        ef_search: candidates considered by a search; may be set later as an attribute.
        seed: of the layers that rows are drawn into.

    Raises:
        ImportError: hnswlib is not installed.

    Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", TPAMI 2020.

    >>> index = HnswIndex(2)
    >>> index.add(np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32), ids=[10, 20, 30])
    >>> index.search(np.array([2, 1], dtype=np.float32), k=2).ids
    array([30, 10])
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
        self.dim = _integer("HnswIndex", "dim", dim, 1, 2**31 // 4 - 1)
        # hnswlib draws a row's layer with a factor 1 / log(m): m = 1 would divide by zero.
        self.m = _integer("HnswIndex", "m", m, 2, 10_000)
        self.ef_construction = _integer("HnswIndex", "ef_construction", ef_construction, 1)
        self.seed = _integer("HnswIndex", "seed", seed, 0, 2**31 - 1)
        self._ef_search = _integer("HnswIndex", "ef_search", ef_search, 1)
        self._vectors: FloatArray = np.empty((0, self.dim), np.float32)  # [capacity, dim]
        self._ids: IdArray = np.empty(0, np.int64)  # [capacity]; -1 where the row is removed
        self._n_rows = 0
        self._next_id = 0
        self._rows: dict[int, int] = {}  # id -> row, live ones only
        self._graph: Any = None  # hnswlib.Index over all rows, labels are row numbers; or None
        self._start_locks()

    def _start_locks(self) -> None:
        self._lock = _ReadWriteLock()
        self._change_lock = threading.Lock()
        _indexes.add(self)

    # ---- what is in it ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, int | np.integer) and int(id) in self._rows

    def __repr__(self) -> str:
        return (
            f"HnswIndex(dim={self.dim}, m={self.m}, ef_construction={self.ef_construction}, "
            f"ef_search={self.ef_search}, seed={self.seed}) with {len(self)} documents"
        )

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32, whatever was added: hnswlib knows nothing else."""
        return np.dtype(np.float32)

    @property
    def ids(self) -> IdArray:
        """The live ids, int64 [len(index)], in the order in which they were added."""
        with self._lock.reading():
            ids = self._ids[: self._n_rows]
            return ids[ids >= 0]

    @property
    def ef_search(self) -> int:
        """Candidates considered by a search: more find more and take longer."""
        return self._ef_search

    @ef_search.setter
    def ef_search(self, ef_search: int) -> None:
        ef_search = _integer("HnswIndex", "ef_search", ef_search, 1)
        with self._changing(), self._writing():
            self._ef_search = ef_search
            if self._graph is not None:
                self._graph.set_ef(ef_search)

    def reconstruct(self, ids: Any) -> FloatArray:
        """The vectors of `ids` [n] as float32 [n, dim]; of a single id as [dim]."""
        wanted = _id_list("HnswIndex.reconstruct", ids)
        with self._lock.reading():
            vectors = self._vectors[self._rows_of("HnswIndex.reconstruct", wanted)]
        return vectors[0] if np.ndim(ids) == 0 else vectors

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any = None, *, num_threads: int | None = None) -> None:
        """Links rows into the graph; all of them or, on any error, none.

        After removals, each call costs another 0.3 us per removed row: add in batches.

        Args:
            vectors: [n, dim] float32, float16 or bfloat16, finite.
            ids: [n] integers, not negative, new; by default they continue after the largest so far.
            num_threads: threads that link; 1 makes the graph reproducible.

        Raises:
            ValueError: wrong dim, a non-finite row, an id that is negative, repeated or taken.
        """
        op = "HnswIndex.add"
        rows = _matrix(op, "vectors", vectors, self.dim)
        threads = _threads(op, num_threads)
        with self._changing():
            new_ids = self._new_ids(op, ids, len(rows))
            if self._n_rows - len(self) > len(self) or (self._graph is None and self._n_rows):
                self._rebuild(threads)
            begin = self._n_rows
            self._reserve(begin + len(rows))
            step = max(_ADD_BLOCK, -(-len(rows) // _ADD_BLOCKS))
            for start in range(0, len(rows), step):
                self._link(rows[start : start + step], threads)
            self._publish(begin, new_ids)

    def remove(self, ids: Any) -> None:
        """Takes documents out of all later answers; all of `ids` or, on any error, none.

        Raises:
            ValueError: an id is repeated or not in the index.
        """
        op = "HnswIndex.remove"
        gone = _id_list(op, ids)
        with self._changing():
            rows = self._rows_of(op, gone)
            if len(np.unique(rows)) < len(rows):
                raise ValueError(f"{op}: ids repeat {_first_repeat(gone)}")
            with self._writing():
                self._ids[rows] = -1
                for id, row in zip(gone.tolist(), rows.tolist(), strict=True):
                    del self._rows[id]
                    if self._graph is not None:
                        self._graph.mark_deleted(row)

    def _new_ids(self, op: str, ids: Any, n: int) -> IdArray:
        if ids is None:
            return np.arange(self._next_id, self._next_id + n)
        new = _id_list(op, ids)
        if len(new) != n:
            raise ValueError(f"{op}: ids have length {len(new)} but vectors have {n} rows")
        if n and new.min() < 0:
            raise ValueError(f"{op}: ids must not be negative, got {new.min()}")
        if len(np.unique(new)) < n:
            raise ValueError(f"{op}: ids repeat {_first_repeat(new)}")
        taken = next((id for id in new.tolist() if id in self._rows), None)
        if taken is not None:
            raise ValueError(f"{op}: id {taken} is already in the index")
        return new

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

    def _link(self, block: FloatArray, threads: int) -> None:
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

    def _publish(self, begin: int, ids: IdArray) -> None:
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
            for start in range(0, len(live), _ADD_BLOCK):
                rows = np.arange(start, min(start + _ADD_BLOCK, len(live)))
                graph.add_items(vectors[rows], rows, num_threads=threads)
        with self._writing():
            self._graph, self._vectors, self._ids, self._n_rows = graph, vectors, ids, len(ids)
            self._rows = dict(zip(ids.tolist(), range(len(ids)), strict=True))

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
        queries: Any,
        k: int,
        *,
        allowed: Any = None,
        exclude: Any = None,
        min_score: Any = None,
        max_score: Any = None,
        num_threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        return_certificate: bool = False,
    ) -> SearchResult:
        """The k best documents that the graph finds, best first, with their exact scores.

        The whole call sees one state of the index.

        Args:
            queries: [n, dim] or [dim], float32, float16 or bfloat16, finite.
            k: answers per query, at least 1.
            allowed: ids that may be returned, as integers or as a boolean mask indexed by id.
                hnswlib asks Python about every document that it meets, on one thread and holding
                the interpreter's lock: expect half the speed or less, and see FlatIndex for narrow
                filters.
            num_threads: threads that search.
            progress: called as progress(done, total) between blocks of queries; it may search this
                index, but not change it.
            exclude, min_score, max_score, return_certificate: not possible here, see Raises.

        Returns:
            SearchResult: scores float32 and ids int64, [n, k] or [k], as the library of `queries`
            holds them; where fewer than k documents are eligible, ids end in -1, scores in -inf.

        Raises:
            NotImplementedError: for what only the exact FlatIndex can do.
            ValueError: wrong dim, k < 1, a non-finite query.
        """
        op = "HnswIndex.search"
        _refuse(op, exclude=exclude, min_score=min_score, max_score=max_score)
        if return_certificate:
            raise NotImplementedError(
                f"{op}: an approximate search has no certificate; use FlatIndex.search"
            )
        k = _integer(op, "k", k, 1)
        matrix = _matrix(op, "queries", queries, self.dim)
        threads = _threads(op, num_threads)
        scores = np.full((len(matrix), k), -np.inf, np.float32)
        ids = np.full((len(matrix), k), -1)
        with self._lock.reading():
            scope = self._scope(op, allowed)
            step = max(1, _SEARCH_BLOCK // max(k, self._ef_search))
            for start in range(0, len(matrix), step):
                block = slice(start, start + step)
                found = self._search_block(matrix[block], k, scope, threads)
                width = found.ids.shape[1]
                scores[block, :width], ids[block, :width] = found
                if progress is not None:
                    progress(min(start + step, len(matrix)), len(matrix))
        return _like(queries, scores, ids)

    def _scope(self, op: str, allowed: Any) -> _Scope:
        if allowed is None:
            return _Scope(None, len(self))
        ids = self._ids[: self._n_rows]
        keep = _is_allowed(op, allowed, ids) & (ids >= 0)
        return _Scope(keep, int(np.count_nonzero(keep)))

    def _search_block(self, queries: FloatArray, k: int, scope: _Scope, threads: int) -> _Found:
        """Candidates from the graph or, where it has too few, all eligible rows; then the best."""
        fetch = max(k, self._ef_search)
        if scope.n_rows > fetch and self._graph is not None:
            with contextlib.suppress(_ShortAnswerError):
                return self._best(queries, self._propose(queries, fetch, scope, threads), k)
        if scope.n_rows > fetch and len(queries) > 1:
            middle = len(queries) // 2  # to find the queries that the graph cannot answer
            halves = [
                self._search_block(half, k, scope, threads)
                for half in (queries[:middle], queries[middle:])
            ]
            return _Found(*(np.concatenate(parts) for parts in zip(*halves, strict=True)))
        live = self._ids[: self._n_rows] >= 0 if scope.keep is None else scope.keep
        rows = np.flatnonzero(live)
        return self._best(queries, np.broadcast_to(rows, (len(queries), len(rows))), k)

    def _propose(self, queries: FloatArray, n: int, scope: _Scope, threads: int) -> IdArray:
        """Rows [n_queries, n] that the graph finds."""
        options: dict[str, Any] = {"k": n, "num_threads": threads}
        if scope.keep is not None:
            # hnswlib calls back once per row that it meets; indexing bytes is the cheapest answer.
            options |= {"num_threads": 1, "filter": scope.keep.tobytes().__getitem__}
        try:
            rows, _ = self._graph.knn_query(queries, **options)
        except RuntimeError as error:
            if "contiguous 2D array" in str(error):  # some query met fewer than n eligible rows
                raise _ShortAnswerError from None
            raise
        return rows.astype(np.int64)  # type: ignore[no-any-return]

    def _best(self, queries: FloatArray, rows: IdArray, k: int) -> _Found:
        if not rows.shape[1]:
            return _Found(np.empty(rows.shape, np.float32), np.empty(rows.shape, np.int64))
        scores = _canonical_scores(queries, self._vectors, rows)
        ids = self._ids[rows]
        order = np.lexsort((ids, -scores))[:, :k]
        return _Found(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))

    def recall(self, exact_index: Any, queries: Any, k: int) -> float:
        """Mean share, over queries, of the exact k best that this index finds.

        Ties at the cut count as found: an id that is not among the exact k best but has the score
        of the k-th answers as well. Queries without any exact answer are left out; without queries
        the recall is 1.

        Args:
            exact_index: anything whose search(queries, k) is exact, as a FlatIndex over the same
                documents.
            queries: [n, dim] or [dim].
            k: depth.
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

    def __getstate__(self) -> dict[str, Any]:
        with self._changing():
            state = {name: getattr(self, name) for name in _SETTINGS}
            state["ids"] = self._ids[: self._n_rows].copy()
            state["vectors"] = self._vectors[: self._n_rows].copy()
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

    def _hold(self, vectors: FloatArray, ids: IdArray, next_id: int) -> None:
        self._vectors, self._ids, self._n_rows = vectors, ids, len(ids)
        self._next_id = next_id
        self._rows = {id: row for row, id in enumerate(ids.tolist()) if id >= 0}

    # ---- locks -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time; searches run beside it, except inside `_writing()`."""
        if self._lock.held_by_this_thread():
            raise RuntimeError("HnswIndex: a search's progress callback must not change the index")
        with self._change_lock:
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the graph and the rows, and not to be interrupted halfway."""
        with self._lock.writing(), _without_ctrl_c():
            yield

    def _rows_of(self, op: str, ids: IdArray) -> IdArray:
        try:
            return np.array([self._rows[id] for id in ids.tolist()], np.int64)
        except KeyError as missing:
            raise ValueError(f"{op}: id {missing} is not in the index") from None


_SETTINGS = ("dim", "m", "ef_construction", "ef_search", "seed")


class _Scope(NamedTuple):
    """Which rows may be returned: a mask by row, or None for all live ones; and how many."""

    keep: npt.NDArray[np.bool_] | None
    n_rows: int


class _Found(NamedTuple):
    scores: FloatArray
    ids: IdArray


class _ShortAnswerError(Exception):
    """hnswlib met fewer eligible rows than asked for: parts of a graph may be out of reach."""


class _ReadWriteLock:
    """Many readers or one writer; a waiting writer goes before new readers.

    A thread that reads may read again, so that a progress callback may search.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: Counter[int] = Counter()  # thread -> how often it reads
        self._writer_waits = False

    def held_by_this_thread(self) -> bool:
        return threading.get_ident() in self._readers

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        me = threading.get_ident()
        with self._changed:
            if me not in self._readers:
                self._changed.wait_for(lambda: not self._writer_waits)
            self._readers[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                    self._changed.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Callers make sure that there is one writer at a time."""
        with self._changed:  # kept while writing: readers wait for it
            self._writer_waits = True
            try:
                self._changed.wait_for(lambda: not self._readers)
                yield
            finally:
                self._writer_waits = False
                self._changed.notify_all()


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Holds SIGINT back; it is raised at the end."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # not Python's to handle, or never raised here
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


_indexes: weakref.WeakSet[HnswIndex] = weakref.WeakSet()


def _start_afresh_in_child() -> None:
    """A forked child inherits locks but not the threads that hold them."""
    for index in _indexes:
        if index._change_lock.locked():
            index._graph = None  # caught in the middle of a change; the rows are whole
        index._start_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh_in_child)


def _hnswlib() -> ModuleType:
    try:
        import hnswlib
    except ModuleNotFoundError:
        raise ImportError("HnswIndex needs hnswlib: pip install tilefold[hnsw]") from None
    return hnswlib  # type: ignore[no-any-return]


def _refuse(op: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise NotImplementedError(
                f"{op}: {name} is not possible with hnswlib; use FlatIndex.search"
            )


def _canonical_scores(queries: FloatArray, vectors: FloatArray, rows: IdArray) -> FloatArray:
    """Scores [n, m] of the vectors `rows` [n, m] for each query."""
    scores = np.empty(rows.shape, np.float32)
    for i, wanted in enumerate(np.ascontiguousarray(rows)):
        _native.score(queries[i : i + 1], vectors, wanted, scores[i])
    return scores


def _integer(op: str, name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}") from None
    if number < lowest or (highest is not None and number > highest):
        limits = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
        raise ValueError(f"{op}: {name} must be {limits}, got {number}")
    return number


def _first_repeat(ids: IdArray) -> int:
    values, counts = np.unique(ids, return_counts=True)
    return int(values[counts > 1][0])


# STAND-INS until arrays.py is there ---------------------------------------------------------------
class SearchResult(NamedTuple):
    scores: Any
    ids: Any


def _matrix(op: str, name: str, x: Any, dim: int) -> FloatArray:
    a = np.atleast_2d(np.asarray(x, np.float32))
    if a.shape[1] != dim:
        raise ValueError(f"{op}: {name} have dim {a.shape[1]} but the index has dim {dim}")
    bad = np.flatnonzero(~np.isfinite(a).all(1))
    if len(bad):
        raise ValueError(f"{op}: {name} row {bad[0]} is not finite")
    return np.ascontiguousarray(a)


def _threads(op: str, n: int | None) -> int:
    return _native.num_threads() if n is None else _integer(op, "num_threads", n, 1, 1024)


def _id_list(op: str, ids: Any) -> IdArray:
    return np.atleast_1d(np.asarray(ids, np.int64))


def _like(queries: Any, scores: FloatArray, ids: IdArray) -> SearchResult:
    return SearchResult(scores[0], ids[0]) if np.ndim(queries) == 1 else SearchResult(scores, ids)


def _is_allowed(op: str, allowed: Any, ids: IdArray) -> npt.NDArray[np.bool_]:
    allowed = np.asarray(allowed)
    if allowed.dtype == bool:
        inside = (ids >= 0) & (ids < len(allowed))
        return inside & allowed[np.where(inside, ids, 0)]
    return np.isin(ids, allowed)
