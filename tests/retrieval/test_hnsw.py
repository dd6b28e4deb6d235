"""HnswIndex: scored like the exact search, never short, never torn, whatever hnswlib does."""

import copy
import json
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tilefold
from tilefold import reference
from tilefold.files import storage
from tilefold.retrieval.hnsw import HnswIndex, hnsw_index
from tilefold.retrieval.hnsw.graph import read_graph

pytest.importorskip("hnswlib", reason="hnswlib is not installed: pip install tilefold[hnsw]")

DIM = 32


def gaussian(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


DOCUMENTS = gaussian(2000, seed=1)
QUERIES = gaussian(50, seed=2)


@pytest.fixture(scope="module")
def shared_index() -> HnswIndex:
    """2,000 documents; for tests that change nothing."""
    index = HnswIndex(DIM)
    index.add(DOCUMENTS)
    return index


@pytest.fixture
def index(shared_index: HnswIndex) -> HnswIndex:
    """The same, to change at will."""
    return copy.deepcopy(shared_index)


def exact(k: int, documents: np.ndarray = DOCUMENTS, **options) -> tuple[np.ndarray, np.ndarray]:
    return reference.search(QUERIES, documents, k, **options)


def assert_same(found, expected) -> None:
    for mine, truth in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, truth)


def assert_scored_exactly(found, documents: np.ndarray = DOCUMENTS) -> None:
    """Every score has the canonical bits of its document; the order is the promised one."""
    truth = reference.canonical_scores(QUERIES, documents)
    present = found.ids >= 0
    expected = np.take_along_axis(truth, np.where(present, found.ids, 0), axis=1)
    assert found.scores[present].tobytes() == expected[present].tobytes()
    order = np.lexsort((np.where(present, found.ids, 2**62), -found.scores))
    np.testing.assert_array_equal(order, np.broadcast_to(np.arange(order.shape[1]), order.shape))


# ---- search --------------------------------------------------------------------------------------


def test_recall_of_gaussian_vectors_is_high(shared_index):
    flat = tilefold.FlatIndex(DIM)
    flat.add(DOCUMENTS)
    assert shared_index.recall(flat, QUERIES, 10) >= 0.95
    assert shared_index.recall(flat, QUERIES[0], 10) >= 0.5
    assert shared_index.recall(flat, QUERIES[:0], 10) == 1


def test_scores_have_the_bits_of_the_exact_search(shared_index):
    found = shared_index.search(QUERIES, 10)
    assert found.scores.dtype == np.float32
    assert found.ids.dtype == np.int64
    assert_scored_exactly(found)


def test_a_smaller_k_gives_a_prefix(shared_index):
    longest = shared_index.search(QUERIES, shared_index.ef_search)
    for k in (1, 7, 63):
        found = shared_index.search(QUERIES, k)
        assert_same(found, (longest.scores[:, :k], longest.ids[:, :k]))


def test_threads_and_batches_change_nothing(shared_index):
    together = shared_index.search(QUERIES, 10, num_threads=2)
    alone = [shared_index.search(query, 10, num_threads=1) for query in QUERIES]
    assert_same(together, (np.stack([a.scores for a in alone]), np.stack([a.ids for a in alone])))


def test_a_large_k_searches_in_many_blocks(shared_index):
    done = []
    found = shared_index.search(
        QUERIES, 1500, progress=lambda now, total: done.append((now, total))
    )
    assert_scored_exactly(found)
    assert len(done) > 3
    assert done[-1] == (len(QUERIES), len(QUERIES))
    assert done == sorted(done)


def test_a_query_that_is_not_finite_is_padded_when_asked(shared_index):
    queries = QUERIES.copy()
    queries[3, 1] = np.nan
    found = shared_index.search(queries, 5, nonfinite="exclude")
    expected = shared_index.search(QUERIES, 5)
    assert (found.ids[3] == -1).all()
    assert (found.scores[3] == -np.inf).all()
    others = np.arange(len(QUERIES)) != 3
    assert_same([part[others] for part in found], [part[others] for part in expected])


def test_few_documents_are_answered_exactly(shared_index):
    n = shared_index.ef_search
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:n])
    for k in (1, n, n + 5):
        assert_same(index.search(QUERIES, k), exact(k, DOCUMENTS[:n]))


@pytest.mark.parametrize("k", [2000, 2500])
def test_k_up_to_everything_is_answered_exactly_and_padded(shared_index, k):
    assert_same(shared_index.search(QUERIES, k), exact(k))


def test_equal_scores_are_ordered_by_id():
    index = HnswIndex(4, ef_search=100)
    index.add(np.ones((300, 4), np.float32), ids=np.arange(300)[::-1])
    found = index.search(np.ones((3, 4), np.float32), 50)
    assert (found.scores == 4).all()
    assert (np.diff(found.ids) > 0).all()


def test_an_empty_index_pads():
    found = HnswIndex(DIM).search(QUERIES, 3)
    assert (found.ids == -1).all()
    assert (found.scores == -np.inf).all()
    assert found.ids.shape == (len(QUERIES), 3)


@pytest.mark.parametrize("queries", [QUERIES[:0], np.zeros((0, DIM), np.float32)])
def test_no_queries_give_no_answers(shared_index, queries):
    for k in (3, 2500):
        found = shared_index.search(queries, k)
        assert found.scores.shape == found.ids.shape == (0, k)


def test_adding_and_removing_nothing_changes_nothing(index):
    index.add(np.zeros((0, DIM), np.float32))
    index.add(DOCUMENTS[:0], ids=[])
    index.remove([])
    assert len(index) == len(DOCUMENTS)
    assert_scored_exactly(index.search(QUERIES, 5))


def test_one_query_gives_one_answer(shared_index):
    found = shared_index.search(QUERIES[0], 3)
    assert found.scores.shape == found.ids.shape == (3,)
    assert_same(found, [part[0] for part in shared_index.search(QUERIES[:1], 3)])


@pytest.mark.parametrize("form", ["ids", "mask"])
@pytest.mark.parametrize("n_allowed", [0, 3, 64, 500, 2000])
def test_only_allowed_documents_are_found(shared_index, form, n_allowed):
    mask = np.zeros(len(DOCUMENTS), bool)
    mask[np.random.default_rng(3).permutation(len(mask))[:n_allowed]] = True
    allowed = mask if form == "mask" else np.flatnonzero(mask)
    found = shared_index.search(QUERIES, 10, allowed=allowed)
    assert mask[found.ids[found.ids >= 0]].all()
    assert_scored_exactly(found)
    np.testing.assert_array_equal((found.ids >= 0).sum(1), min(10, n_allowed))
    if n_allowed <= shared_index.ef_search:
        assert_same(found, exact(10, allowed=mask))


def test_queries_out_of_the_graphs_reach_are_answered_exactly(index, monkeypatch):
    """hnswlib raises for the whole batch when one query meets fewer rows than asked for."""
    unlucky = {QUERIES[0].tobytes(), QUERIES[7].tobytes(), QUERIES[8].tobytes()}
    graph = index._graph

    class ShortOfRows:
        def knn_query(self, queries, **options):
            if any(query.tobytes() in unlucky for query in queries):
                raise RuntimeError("Cannot return the results in a contiguous 2D array.")
            return graph.knn_query(queries, **options)

    before = index.search(QUERIES, 10)
    monkeypatch.setattr(index, "_graph", ShortOfRows())
    found = index.search(QUERIES, 10)
    truth = exact(10)
    for i in range(len(QUERIES)):
        assert_same(
            [part[i] for part in found],
            [part[i] for part in (truth if i in (0, 7, 8) else before)],
        )


def test_other_failures_of_hnswlib_are_not_hidden(index, monkeypatch):
    class Broken:
        def knn_query(self, queries, **options):
            raise RuntimeError("cand error")

    monkeypatch.setattr(index, "_graph", Broken())
    with pytest.raises(RuntimeError, match="cand error"):
        index.search(QUERIES, 10)


@pytest.mark.parametrize(
    "option",
    [
        {"exclude": [[1]] * 50},
        {"min_score": 0.5},
        {"max_score": np.zeros(50)},
        {"return_certificate": True},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_hnswlib_cannot_do_is_refused_with_an_alternative(shared_index, option):
    with pytest.raises(NotImplementedError, match="FlatIndex"):
        shared_index.search(QUERIES, 10, **option)


def test_a_larger_ef_search_finds_more():
    documents, queries = gaussian(3000, 64, seed=5), gaussian(50, 64, seed=6)
    flat = tilefold.FlatIndex(64)
    flat.add(documents)
    index = HnswIndex(64, m=4, ef_construction=20, ef_search=1)
    index.add(documents)
    low = index.recall(flat, queries, 1)
    index.ef_search = 1000
    assert index.ef_search == 1000
    assert index.recall(flat, queries, 1) > low
    index.ef_search = len(documents)
    assert index.recall(flat, queries, 1) == 1


def test_ties_at_the_cut_count_as_found():
    index = HnswIndex(2, ef_search=1)
    index.add(np.ones((200, 2), np.float32))
    flat = tilefold.FlatIndex(2)
    flat.add(np.ones((200, 2), np.float32), ids=np.arange(200) + 1000)
    assert index.recall(flat, np.ones((3, 2), np.float32), 10) == 1


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e18, 1e30])
def test_extreme_norms_are_scored_exactly(scale):
    documents = DOCUMENTS[:500] * np.float32(scale)
    index = HnswIndex(DIM)
    index.add(documents)
    found = index.search(QUERIES * np.float32(scale), 5)
    truth = reference.canonical_scores(QUERIES * np.float32(scale), documents)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(truth, found.ids, axis=1))


# ---- dtypes and libraries ------------------------------------------------------------------------


def test_float16_scores_like_the_exact_search():
    documents, queries = DOCUMENTS.astype(np.float16), QUERIES.astype(np.float16)
    index = HnswIndex(DIM, ef_search=2000)
    index.add(documents)
    assert_same(index.search(queries, 10), reference.search(queries, documents, 10))


def test_int8_is_refused(shared_index):
    with pytest.raises(TypeError, match="int8"):
        shared_index.search(QUERIES.astype(np.int8), 3)
    with pytest.raises(TypeError, match="int8"):
        HnswIndex(DIM).add(DOCUMENTS.astype(np.int8))


def test_torch_in_gives_torch_out(shared_index):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    found = shared_index.search(torch.from_numpy(QUERIES), 5)
    assert isinstance(found.scores, torch.Tensor)
    assert isinstance(found.ids, torch.Tensor)
    assert_same([part.numpy() for part in found], shared_index.search(QUERIES, 5))
    rounded = torch.from_numpy(QUERIES).bfloat16()
    assert_same(
        [part.numpy() for part in shared_index.search(rounded, 5)],
        shared_index.search(rounded.float().numpy(), 5),
    )


def test_torch_vectors_can_be_added():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    index = HnswIndex(DIM)
    index.add(torch.from_numpy(DOCUMENTS[:50]).bfloat16(), ids=torch.arange(50))
    expected = torch.from_numpy(DOCUMENTS[:50]).bfloat16().float().numpy()
    np.testing.assert_array_equal(index.reconstruct([3, 1]), expected[[3, 1]])


# ---- add and remove ------------------------------------------------------------------------------


def test_ids_are_kept_and_continued():
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:3], ids=[7, 5, 2**62])
    index.add(DOCUMENTS[3:5])
    assert index.ids.tolist() == [7, 5, 2**62, 2**62 + 1, 2**62 + 2]
    assert len(index) == 5
    assert 5 in index
    assert np.int64(7) in index
    assert 6 not in index
    assert "7" not in index
    assert index.search(DOCUMENTS[2], 1).ids.tolist() == [2**62]


def test_vectors_come_back_as_they_were_given(shared_index):
    np.testing.assert_array_equal(shared_index.reconstruct([3, 1999]), DOCUMENTS[[3, 1999]])
    np.testing.assert_array_equal(shared_index.reconstruct(3), DOCUMENTS[3])
    assert shared_index.reconstruct([]).shape == (0, DIM)


def test_removed_documents_are_never_found(index):
    gone = np.arange(0, 2000, 2)
    index.remove(gone)
    assert len(index) == 1000
    assert 0 not in index
    found = index.search(QUERIES, 1200)
    assert (np.sort(found.ids)[:, 200:] % 2 == 1).all()
    assert (found.ids[:, 1000:] == -1).all()
    mask = np.arange(2000) % 2 == 1
    hits = index.search(QUERIES, 10).ids == exact(10, allowed=mask)[1]
    assert hits.mean() > 0.9


def test_a_removed_id_may_come_back_with_another_vector(index):
    index.remove([4, 9])
    index.add(DOCUMENTS[[9]] * 2, ids=[4])
    np.testing.assert_array_equal(index.reconstruct(4), DOCUMENTS[9] * 2)
    assert index.ids.tolist()[-1] == 4
    assert len(index) == 1999


def test_automatic_ids_do_not_wrap_around():
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:1], ids=[2**63 - 1])
    with pytest.raises(ValueError, match=r"below 2\^63"):
        index.add(DOCUMENTS[:1])
    assert index.ids.tolist() == [2**63 - 1]


def test_automatic_ids_are_never_used_again():
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:3])
    index.remove([1, 2])
    index.add(DOCUMENTS[:1])
    assert index.ids.tolist() == [0, 3]


def test_an_emptied_index_can_be_filled_again(index):
    index.remove(index.ids)
    assert len(index) == 0
    assert (index.search(QUERIES, 2).ids == -1).all()
    index.add(DOCUMENTS[:100], ids=np.arange(100))
    assert_same(index.search(QUERIES, 5), exact(5, DOCUMENTS[:100]))


@pytest.mark.parametrize("m", [2, 3, 16])
def test_churn_neither_crashes_nor_shortens_answers(m):
    """hnswlib alone dies of a segmentation fault here: rows are linked near removed rows only."""
    rng = np.random.default_rng(m)
    index = HnswIndex(4, m=m, ef_construction=4, ef_search=2)
    vectors: dict[int, np.ndarray] = {}
    for step in range(100):
        batch = np.round(rng.standard_normal((int(rng.integers(1, 30)), 4)), 1).astype(np.float32)
        first = max(vectors, default=-1) + 1
        index.add(batch, ids=np.arange(first, first + len(batch)))
        assert index._table.n_rows <= 2 * len(index)  # removed rows do not pile up
        vectors |= zip(range(first, first + len(batch)), batch, strict=True)
        live = np.array(list(vectors))
        keep = len(live) - 3 if step % 3 else max(0, len(live) // 10)
        gone = live[: len(live) - keep] if step % 2 else rng.permutation(live)[keep:]
        index.remove(gone)
        for id in gone.tolist():
            del vectors[id]
        assert index.ids.tolist() == list(vectors)
        if vectors:
            found = index.search(batch[0], 5)
            assert (found.ids >= 0).sum() == min(5, len(vectors))
            stored = np.stack([vectors[id] for id in found.ids[found.ids >= 0].tolist()])
            truth = reference.canonical_scores(batch[:1], stored)[0]
            np.testing.assert_array_equal(found.scores[: len(truth)], truth)


def test_one_thread_builds_the_same_graph_twice():
    answers = []
    for _ in range(2):
        index = HnswIndex(DIM, m=4, ef_construction=10, ef_search=5)
        index.add(DOCUMENTS[:900], num_threads=1)
        index.add(DOCUMENTS[900:], num_threads=1)
        answers.append(index.search(QUERIES, 5))
    assert_same(*answers)


# ---- bad input -----------------------------------------------------------------------------------

NAN_ROW = DOCUMENTS[:5].copy()
NAN_ROW[3, 1] = np.nan
INFINITE_ROW = DOCUMENTS[:5].copy()
INFINITE_ROW[2, 0] = -np.inf


@pytest.mark.parametrize(
    ("vectors", "ids", "error", "message"),
    [
        (gaussian(5, DIM + 1), None, ValueError, f"dim {DIM + 1}.*{DIM}"),
        (gaussian(5).reshape(5, 2, -1), None, ValueError, "dimension"),
        (NAN_ROW, None, ValueError, "3"),
        (INFINITE_ROW, None, ValueError, "2"),
        (DOCUMENTS[:3], [1, 2], ValueError, "3 ids.*got 2"),
        (DOCUMENTS[:3], [10_000, -4, 10_001], ValueError, "-4"),
        (DOCUMENTS[:3], [10_000, 10_001, 10_000], ValueError, "10000"),
        (DOCUMENTS[:3], [10_000, 10_001, 77], ValueError, "77"),
        (DOCUMENTS[:3], [0.5, 1.5, 2.5], TypeError, "integer"),
        (DOCUMENTS[:3], ["a", "b", "c"], TypeError, "integer"),
        ([["a"] * DIM], None, TypeError, "vectors"),
        (None, None, TypeError, "vectors"),
        (DOCUMENTS[:3] * 1j, None, TypeError, "complex"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_added(index, vectors, ids, error, message):
    before = index.search(QUERIES, 10)
    with pytest.raises(error, match=rf"HnswIndex\.add: .*{message}"):
        index.add(vectors, ids)
    assert len(index) == len(DOCUMENTS)
    assert_same(index.search(QUERIES, 10), before)


@pytest.mark.parametrize("ids", [[1, 2, 9999], [1, 2, 1], [-1]])
def test_bad_removals_are_refused_and_nothing_is_removed(index, ids):
    with pytest.raises(ValueError, match=r"HnswIndex\.remove: "):
        index.remove(ids)
    assert len(index) == len(DOCUMENTS)


def test_reconstructing_an_unknown_id_is_refused(shared_index):
    with pytest.raises(ValueError, match=r"HnswIndex\.reconstruct: .*9999"):
        shared_index.reconstruct([1, 9999])


@pytest.mark.parametrize(
    ("queries", "k", "options", "error"),
    [
        (gaussian(5, DIM + 1), 3, {}, ValueError),
        (gaussian(1, DIM + 1)[0], 3, {}, ValueError),
        (NAN_ROW, 3, {}, ValueError),
        (QUERIES, 0, {}, ValueError),
        (QUERIES, 2.5, {}, TypeError),
        (QUERIES, None, {}, TypeError),
        (QUERIES, 3, {"num_threads": 0}, ValueError),
        (QUERIES, 3, {"allowed": [0.5]}, TypeError),
        ("text", 3, {}, TypeError),
    ],
)
def test_bad_searches_are_refused(shared_index, queries, k, options, error):
    with pytest.raises(error, match=r"HnswIndex\.search: "):
        shared_index.search(queries, k, **options)


@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (0, {}),
        (-3, {}),
        (4, {"m": 1}),
        (4, {"m": 10_001}),
        (4, {"ef_construction": 0}),
        (4, {"ef_search": 0}),
        (4, {"seed": -1}),
    ],
)
def test_bad_settings_are_refused(dim, options):
    with pytest.raises(ValueError, match="HnswIndex: "):
        HnswIndex(dim, **options)


def test_without_hnswlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(ImportError, match=r'pip install "tilefold\[hnsw\]"'):
        HnswIndex(4)


# ---- failures halfway ----------------------------------------------------------------------------


class FailsToLink:
    """An hnswlib.Index that runs out of memory while it links."""

    def __init__(self, graph) -> None:
        self._graph = graph

    def __getattr__(self, name: str):
        return getattr(self._graph, name)

    def add_items(self, *_, **__) -> None:
        raise RuntimeError("Not enough memory")


def test_an_add_that_fails_halfway_adds_nothing(index):
    index._graph = FailsToLink(index._graph)
    with pytest.raises(RuntimeError, match="Not enough memory"):
        index.add(gaussian(5, seed=9), ids=np.arange(5000, 5005))
    assert len(index) == len(DOCUMENTS)
    assert 5000 not in index
    assert_same(index.search(QUERIES, 10), exact(10))  # without the graph: by scoring all rows
    index.add(QUERIES[:5] * 100, ids=np.arange(5000, 5005))
    assert index._graph is not None
    np.testing.assert_array_equal(index.search(QUERIES[:5], 1).ids[:, 0] // 1000, 5)
    assert_scored_exactly(index.search(QUERIES, 10, allowed=np.arange(2000)))


def test_an_interrupted_add_adds_nothing(index, monkeypatch):
    link, calls = HnswIndex._link, []

    def interrupted(self, block, threads):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(block))
        link(self, block, threads)

    before = index.search(QUERIES, 10)
    monkeypatch.setattr(HnswIndex, "_link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(gaussian(1500, seed=9))
    monkeypatch.undo()
    assert len(index) == len(DOCUMENTS)
    assert (index.search(QUERIES, 2500).ids < 2000).all()
    assert_scored_exactly(index.search(QUERIES, 10))
    hits = index.search(QUERIES, 10).ids == before.ids
    assert hits.mean() > 0.9
    index.add(QUERIES[:1] * 100)
    assert index.search(QUERIES[0], 1).ids.tolist() == [2000]


def test_ctrl_c_waits_for_the_end_of_a_change(index):
    steps = []

    def write() -> None:
        signal.raise_signal(signal.SIGINT)
        steps.append("done")

    with pytest.raises(KeyboardInterrupt):
        index._lock.changing(lambda: index._lock.writing(write))
    assert steps == ["done"]
    assert index.search(QUERIES, 1).ids.shape == (50, 1)


# ---- several threads, several processes ----------------------------------------------------------


def test_searches_run_beside_additions_and_see_whole_batches(index):
    """Each batch holds the best answer of every query; a search finds none of it or all."""
    batches = 6
    loud = QUERIES[:4] * 100
    seen, errors = [], []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                found = index.search(QUERIES[:4], 1)
                seen.append(found.ids[:, 0].copy())
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for batch in range(batches):
        rows = np.concatenate([loud * (batch + 1), gaussian(1100, seed=batch)])
        index.add(rows, ids=(batch + 1) * 10_000 + np.arange(len(rows)))
    stop.set()
    for reader in readers:
        reader.join(30)
    assert not errors
    for ids in seen:
        batch = ids // 10_000
        assert (batch == batch[0]).all() or (batch == 0).all()
    assert len({int(ids[0] // 10_000) for ids in seen}) > 2, "searches ran beside additions"


def test_many_threads_add_and_remove_without_losing_anything():
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:200])
    errors = []

    def work(worker: int) -> None:
        try:
            for step in range(10):
                ids = 1000 * (worker + 1) + 10 * step + np.arange(10)
                index.add(DOCUMENTS[:10], ids)
                index.search(QUERIES[:3], 5)
                index.remove(ids[:5])
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not errors
    assert len(index) == 200 + 4 * 10 * 5


def test_a_progress_callback_may_search_but_not_change(index):
    answers = []
    index.search(QUERIES, 5, progress=lambda *_: answers.append(index.search(QUERIES[0], 1).ids[0]))
    assert len(answers) == 1
    with pytest.raises(RuntimeError, match="progress"):
        index.search(QUERIES, 5, progress=lambda *_: index.remove([0]))
    index.remove([0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_searches_and_adds(index):
    """Even when another thread of the parent was in the middle of a change."""
    before = index.search(QUERIES, 5)

    def fork() -> int:
        child = os.fork()
        if child == 0:
            try:
                ids = index.search(QUERIES, 5).ids
                index.add(QUERIES[:1] * 100)
                found = index.search(QUERIES[0], 1).ids.tolist() == [2000]
                os._exit(0 if found and (ids == before.ids).mean() > 0.9 else 1)
            except BaseException:
                os._exit(2)
        return child

    assert os.waitpid(index._lock.changing(fork), 0)[1] == 0
    assert_same(index.search(QUERIES, 5), before)
    assert len(index) == len(DOCUMENTS)


# ---- pickles and folders -------------------------------------------------------------------------


def test_a_pickled_index_answers_the_same(index):
    index.remove(np.arange(0, 2000, 3))
    index.ef_search = 80
    twin = pickle.loads(pickle.dumps(index))
    assert twin.ef_search == 80
    np.testing.assert_array_equal(twin.ids, index.ids)
    assert_same(twin.search(QUERIES, 10), index.search(QUERIES, 10))
    twin.add(DOCUMENTS[:3])
    assert twin.ids[-3:].tolist() == [2000, 2001, 2002]
    assert len(index) == len(twin) - 3


def test_an_empty_index_can_be_pickled():
    assert len(pickle.loads(pickle.dumps(HnswIndex(4, m=7)))) == 0


@pytest.mark.parametrize("mmap", [True, False])
def test_a_loaded_index_answers_the_same_and_goes_on(index, tmp_path, mmap):
    index.remove(np.arange(0, 2000, 3))
    index.ef_search = 80
    index.save(tmp_path / "index")
    twin = HnswIndex.load(tmp_path / "index", mmap=mmap)
    assert repr(twin) == repr(index)
    np.testing.assert_array_equal(twin.ids, index.ids)
    assert_same(twin.search(QUERIES, 10), index.search(QUERIES, 10))
    twin.remove([1])
    twin.add(QUERIES[:3] * 100)
    assert twin.ids[-3:].tolist() == [2000, 2001, 2002]
    assert twin.search(QUERIES[0], 1).ids.tolist() == [2000]
    assert 1 in HnswIndex.load(tmp_path / "index")


def test_an_empty_index_can_be_saved(tmp_path):
    HnswIndex(4, m=7).save(tmp_path)
    index = HnswIndex.load(tmp_path)
    assert (index.dim, index.m, len(index)) == (4, 7, 0)
    index.add(np.eye(4, dtype=np.float32))
    assert len(index) == 4


def test_saving_again_replaces_the_index_and_leaves_nothing_behind(index, tmp_path):
    index.save(tmp_path)
    mapped = HnswIndex.load(tmp_path)
    before = len(list(tmp_path.iterdir()))
    index.remove(np.arange(1000))
    index.save(tmp_path)
    assert len(HnswIndex.load(tmp_path)) == 1000
    assert len(list(tmp_path.iterdir())) == before
    assert_scored_exactly(mapped.search(QUERIES, 10))  # still mapped to the old file


@pytest.mark.parametrize("place", ["replace", "fsync", "write"])
def test_a_save_that_is_killed_leaves_the_old_index_whole(index, tmp_path, monkeypatch, place):
    index.save(tmp_path)
    before = index.search(QUERIES, 10)
    index.remove(np.arange(1000))

    def killed(*_, **__):
        raise KeyboardInterrupt

    if place == "write":
        monkeypatch.setattr(hnsw_index, "write_graph", killed)
    else:
        monkeypatch.setattr(os, place, killed)
    with pytest.raises(KeyboardInterrupt):
        index.save(tmp_path)
    monkeypatch.undo()
    assert_same(HnswIndex.load(tmp_path).search(QUERIES, 10), before)


def test_a_full_disk_is_noticed(index, tmp_path, monkeypatch):
    """hnswlib writes what fits and says nothing."""

    class FullDisk(FailsToLink):
        def save_index(self, path: str) -> None:
            self._graph.save_index(path)
            os.truncate(path, 1000)

    index.save(tmp_path)
    monkeypatch.setattr(index, "_graph", FullDisk(index._graph))
    with pytest.raises(OSError, match="1000 of"):
        index.save(tmp_path)
    assert len(HnswIndex.load(tmp_path)) == len(DOCUMENTS)


def saved_file(folder: Path, suffix: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.endswith(suffix))


@pytest.mark.parametrize("suffix", ["graph.bin", "rows.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "a bit flipped", "missing", "empty"])
def test_a_damaged_folder_is_refused(shared_index, tmp_path, suffix, damage):
    shared_index.save(tmp_path)
    path = saved_file(tmp_path, suffix)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "a bit flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(ValueError, match=suffix):
        HnswIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2.*upgrade"),
        ({"kind": "tilefold.FlatIndex"}, "FlatIndex"),
        ({"dim": 31}, "shape"),
        ({"dim": "x"}, "dim must be an integer"),
        ({"dim": True}, "dim must be an integer, got bool"),
        ({"m": None}, "'m'"),
        ({"m": 1}, "m must be"),
        ({"next_id": None}, "next_id"),
        ({"files": {}}, r"rows\.safetensors"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(shared_index, tmp_path, change, message):
    shared_index.save(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = {
        name: value
        for name, value in (json.loads(path.read_text()) | change).items()
        if value is not None
    }
    manifest["checksum"] = storage._checksum(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        HnswIndex.load(tmp_path)


def test_another_graph_is_refused(shared_index, tmp_path):
    shared_index.save(tmp_path)
    index = HnswIndex(DIM)
    index.add(DOCUMENTS[:100])
    graph = saved_file(tmp_path, "graph.bin")
    with pytest.raises(ValueError, match="links 2000 rows, expected 100"):
        read_graph(graph, index._settings, len(index))
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ValueError, match="hnswlib cannot read"):
        read_graph(graph, index._settings, len(index))
    assert len(index.search(QUERIES[0], 5).ids) == 5


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        HnswIndex.load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="choose another folder"):
        HnswIndex(4).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
