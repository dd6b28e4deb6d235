"""What C++ reads cannot change under it; nothing missing, misaligned or huge is read."""

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import _native

torch: Any = pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")

QUERIES = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
DOCUMENTS = np.random.default_rng(2).standard_normal((40, 8)).astype(np.float32)


def python(code: str) -> str:
    """Runs a program in a process of its own, which a crash ends."""
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    child = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=400,  # under a sanitizer, on a busy machine
    )
    assert child.returncode == 0, f"exit status {child.returncode}\n{child.stderr[-2000:]}"
    return child.stdout


# ---- memory that changes -------------------------------------------------------------------------

# Writes places far outside into an array, and its values back, while a call reads it.
SPOILER = """
import threading
import numpy as np

def spoiled(array, call, seconds=1.0):
    right, end = array.copy(), threading.Event()

    def spoil():
        while not end.is_set():
            array[:] = 2**40
            array[:] = right

    thread = threading.Thread(target=spoil)
    thread.start()
    timer = threading.Timer(seconds, end.set)
    timer.start()
    try:
        while not end.is_set():
            try:
                call()
            except ValueError:
                pass
    finally:
        end.set()
        thread.join()
        timer.cancel()
"""


def test_exclude_may_change_during_a_search():
    """The progress callback runs between two segments of the same search."""
    python("""
        import numpy as np, tilefold
        documents = np.random.default_rng(0).standard_normal((140_000, 16)).astype(np.float32)
        queries = documents[:50]
        offsets, ids = np.arange(51), np.arange(50)
        index = tilefold.FlatIndex(16)
        index.add(documents[:70_000])
        index.add(documents[70_000:])
        expected = index.search(queries, 3, exclude=(offsets, ids))
        called = []

        def spoil(*_):
            called.append(None)
            offsets[1:] = 2**40
            ids[:] = 7

        found = index.search(queries, 3, exclude=(offsets, ids), progress=spoil, num_threads=1)
        assert len(called) > 1 and (offsets[1:] == 2**40).all()
        assert (found.ids == expected.ids).all()
        assert (found.ids[:, 0] != np.arange(50)).all()
    """)


@pytest.mark.parametrize(
    "call",
    [
        "_native.score(x[:8], x, rows, np.zeros(rows.shape, 'f4'))",
        "_native.second_moment(x, rows.ravel(), np.zeros((32, 32)))",
        "_native.examples(x, rows.ravel(), np.arange(9) * 500, np.arange(8), "
        "np.full((32, 2), -np.inf, 'f4'), np.full((32, 2), -1))",
    ],
    ids=["score", "second_moment", "examples"],
)
def test_rows_may_change_during_a_call(call):
    python(f"""
        {textwrap.indent(SPOILER, " " * 8).strip()}
        import numpy as np
        from tilefold import _native
        x = np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32)
        rows = np.random.default_rng(1).integers(0, 4000, (8, 500))
        spoiled(rows, lambda: {call})
    """)


@pytest.mark.parametrize("which", ["positives", "exclude", "offsets"])
def test_lists_may_change_during_a_loss(which):
    python(f"""
        {textwrap.indent(SPOILER, " " * 8).strip()}
        import numpy as np, torch
        from tilefold.losses import contrastive_loss
        q, d = torch.randn(600, 32).requires_grad_(), torch.randn(3000, 32)
        positives, exclude, offsets = np.arange(600), np.arange(600) + 1000, np.arange(601)
        lists = dict(exclude=(torch.from_numpy(offsets), torch.from_numpy(exclude)))
        call = lambda: contrastive_loss(q, d, torch.from_numpy(positives), **lists)
        spoiled({which}, call)
        assert torch.isfinite(call())
    """)


def test_vectors_may_become_nan_during_a_search():
    """Their scores cannot be sorted; what is found then is unspecified, but nothing crashes."""
    python("""
        import threading
        import numpy as np, tilefold
        documents = np.random.default_rng(0).standard_normal((20_000, 32)).astype(np.float32)
        queries, right = documents[:40].copy(), documents.copy()
        index = tilefold.FlatIndex(32)
        index.add(documents, copy=False)
        end = threading.Event()

        def spoil():
            while not end.is_set():
                documents[::3] = np.nan
                documents[:] = right

        thread = threading.Thread(target=spoil)
        thread.start()
        for k in (1, 10, 300, 2000) * 8:
            index.search(queries, k)
        end.set()
        thread.join()
    """)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -1.0]))
def test_packed_documents_may_hold_anything(seed, value):
    """A mapped index whose file somebody else has written to."""
    rng = np.random.default_rng(seed)
    documents = rng.standard_normal((700, 8)).astype(np.float32)
    blocks = -(-len(documents) // _native.BLOCK_ROWS)
    codes = rng.integers(0, 256, (blocks, 2, 32, 4)).astype(np.uint8)
    bounds = np.abs(rng.standard_normal((blocks, 4, 32))).astype(np.float32)
    bounds[rng.random(bounds.shape) < rng.choice([0.01, 0.3])] = value
    if rng.random() < 0.5:
        documents[rng.random(700) < 0.2] = np.nan
    k = int(rng.choice([1, 7, 150]))
    scores, ids = np.full((5, k), -np.inf, "f4"), np.full((5, k), -1)
    _native.search(documents[-5:], documents, scores, ids, k, codes=codes, bounds=bounds)
    assert ((ids >= -1) & (ids < 700)).all()


# ---- missing arrays ------------------------------------------------------------------------------

N, M, DIM, K = 3, 40, 8, 2
PACKED = {
    "codes": np.zeros((2, 2, 32, 4), np.uint8),
    "bounds": np.zeros((2, 4, 32), np.float32),
}
CALLS: dict[str, tuple[Any, list[str]]] = {
    "search": (
        lambda: {
            "queries": QUERIES,
            "documents": DOCUMENTS,
            "scores": np.full((N, K), -np.inf, "f4"),
            "ids": np.full((N, K), -1),
            "k": K,
            **PACKED,
            "document_ids": np.arange(M),
            "allowed": np.full(2, 2**32 - 1, np.uint32),
            "exclude_offsets": np.zeros(N + 1, int),
            "exclude_ids": np.zeros(0, int),
            "min_score": np.full(N, -1e30, "f4"),
            "max_score": np.full(N, 1e30, "f4"),
            "refined": np.zeros(N, int),
            "pruned_bound": np.full(N, -np.inf, "f4"),
        },
        ["document_ids", "allowed", "min_score", "max_score", "refined", "pruned_bound"],
    ),
    "pack": (
        lambda: {
            "documents": DOCUMENTS,
            "codes": PACKED["codes"].copy(),
            "bounds": PACKED["bounds"].copy(),
            "finite": np.zeros(2, np.uint32),
            "radius_sum": np.zeros(2),
        },
        ["radius_sum"],
    ),
    "finite_rows": (lambda: {"vectors": DOCUMENTS, "finite": np.zeros(M, np.uint8)}, []),
    "score": (
        lambda: {
            "queries": QUERIES,
            "documents": DOCUMENTS,
            "rows": np.zeros((N, 4), int),
            "scores": np.zeros((N, 4), "f4"),
        },
        [],
    ),
    "statistics": (
        lambda: {
            "x": DOCUMENTS,
            "rows": np.arange(M),
            "count": np.zeros(1, int),
            "mean": np.zeros(DIM),
            "m2": np.zeros(DIM),
            "least": np.full(DIM, np.inf, "f4"),
            "most": np.full(DIM, -np.inf, "f4"),
            "thresholds": np.zeros(1, "f4"),
            "above": np.zeros((1, DIM), int),
            "histogram": np.zeros((DIM, 513), int),
        },
        ["histogram"],
    ),
    "examples": (
        lambda: {
            "x": DOCUMENTS,
            "rows": np.arange(M),
            "offsets": np.array([0, 20, M]),
            "numbers": np.arange(2),
            "values": np.full((DIM, K), -np.inf, "f4"),
            "examples": np.full((DIM, K), -1),
        },
        [],
    ),
    "second_moment": (
        lambda: {"x": DOCUMENTS, "rows": np.arange(M), "sums": np.zeros((DIM, DIM))},
        [],
    ),
    "contrastive": (
        lambda: {
            "queries": QUERIES,
            "documents": DOCUMENTS,
            "positive_offsets": np.arange(N + 1),
            "positives": np.arange(N),
            "query_losses": np.zeros(N),
            "scale": 1.0,
            "exclude_offsets": np.zeros(N + 1, int),
            "excluded": np.zeros(0, int),
            "query_weights": np.ones(N),
            "document_weights": np.ones(M),
            "document_losses": np.zeros(M),
            "grad_queries": np.zeros((N, DIM), "f4"),
            "grad_documents": np.zeros((M, DIM), "f4"),
            "gate_queries": QUERIES,
            "gate_documents": DOCUMENTS,
            "groups": np.zeros(N, int),
            "group_offsets": np.array([0, 1]),
            "group_ids": np.zeros(1, int),
            "document_ids": np.arange(M),
        },
        ["grad_queries", "grad_documents", "document_weights", "groups"],
    ),
}


@pytest.mark.parametrize(
    ("op", "argument"),
    [
        (op, name)
        for op, (make, _) in CALLS.items()
        for name, value in make().items()
        if isinstance(value, np.ndarray)
    ],
)
def test_an_array_that_is_none_is_optional_or_named(op, argument):
    make, optional = CALLS[op]
    call = getattr(_native, op)
    call(**make())
    if argument in optional:
        call(**make() | {argument: None})
        return
    with pytest.raises((TypeError, ValueError)) as caught:
        call(**make() | {argument: None})
    words = argument.replace("_", " ").replace("excluded", "exclude").split()
    assert any(word.rstrip("s") in str(caught.value) for word in words)


@pytest.mark.parametrize("part", range(6))
def test_a_part_of_a_view_that_is_none_is_named(part):
    view: list[Any] = [QUERIES, DOCUMENTS, np.zeros((N, DIM), "f4"), np.zeros((M, DIM), "f4"), 1.0]
    view.append(" of the view")

    def call(view: Any, **options: Any) -> None:
        out = np.zeros((1, N)), np.zeros(N), np.zeros(N)
        _native.divergence("op", [tuple(view)], *out, **options)

    call(view, weights=np.ones((1, N)))
    with pytest.raises(ValueError, match="op: gradients need weights"):
        call(view)
    view[part] = None
    if part in (2, 3):
        call(view, weights=np.ones((1, N)))
        return
    with pytest.raises(TypeError, match=r"op: .*(queries|documents|scale|name)"):
        call(view, weights=np.ones((1, N)))


# ---- alignment -----------------------------------------------------------------------------------


def misaligned(array: np.ndarray) -> np.ndarray:
    """A copy whose elements begin one byte beside their places."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    begin = (-memory.ctypes.data) % 64 + 1
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert copy.ctypes.data % array.itemsize or array.itemsize == 1
    return copy


@pytest.mark.parametrize(
    ("op", "argument"),
    [
        (op, name)
        for op, (make, _) in CALLS.items()
        for name, value in make().items()
        if isinstance(value, np.ndarray) and value.itemsize > 1 and value.size
    ],
)
def test_a_misaligned_array_is_copied_or_refused(op, argument):
    """Lists of places are copied in any case; what C++ reads in place must be aligned."""
    make, _ = CALLS[op]
    arguments = make()
    arguments[argument] = misaligned(arguments[argument])
    in_place = ("ids", "document_ids", "exclude_ids", "group_ids", "numbers", "count", "above")
    in_place += ("refined", "histogram", "examples")
    if arguments[argument].dtype == np.int64 and argument not in in_place:
        getattr(_native, op)(**arguments)
        return
    with pytest.raises(ValueError, match=f"{argument} is not aligned; pass a copy$"):
        getattr(_native, op)(**arguments)


def test_misaligned_ids_and_lists_of_callers_work():
    ids = misaligned(np.arange(100, 140))
    index = tilefold.FlatIndex(8)
    index.add(DOCUMENTS, ids=ids)
    assert (index.ids == ids).all()
    exclude = misaligned(np.arange(4)), misaligned(index.search(QUERIES, 1).ids[:, 0])
    found = index.search(QUERIES, 1, exclude=exclude, allowed=misaligned(np.arange(100, 140)))
    assert (found.ids[:, 0] == index.search(QUERIES, 2).ids[:, 1]).all()
    low = misaligned(np.full(3, -1e3, np.float32))
    assert (index.search(QUERIES, 1, min_score=low).ids == index.search(QUERIES, 1).ids).all()


# ---- devices and shapes that libraries report ----------------------------------------------------


class Reporting:
    """An array of DLPack with a device of its own."""

    def __init__(self, place: Any) -> None:
        self.place = place

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for a capsule before the device")

    def __dlpack_device__(self) -> Any:
        return self.place


@pytest.mark.parametrize("place", [None, (1,), (1, 0, 0), ("cpu", 0), 1, (2**40, "x"), (1.5, 0)])
def test_a_malformed_device_names_operation_and_argument(place):
    with pytest.raises(TypeError, match=r"^search: documents must have a __dlpack_device__"):
        tilefold.search(QUERIES, Reporting(place), 2)
    with pytest.raises(TypeError, match=r"^finite_rows: vectors must have a __dlpack_device__"):
        _native.finite_rows(Reporting(place), np.zeros(40, np.uint8))


def test_ids_beyond_int64_are_refused():
    scores, ids = np.full((N, K), -np.inf, "f4"), np.full((N, K), -1)
    with pytest.raises(ValueError, match="first_id must be 0 or more and ids below"):
        _native.search(QUERIES, DOCUMENTS, scores, ids, K, first_id=2**63 - 39)
    with pytest.raises(ValueError, match="first_id must be 0 or more"):
        _native.search(QUERIES, DOCUMENTS, scores, ids, K, first_id=-1)
    _native.search(QUERIES, DOCUMENTS, scores, ids, K, first_id=2**63 - 40)
    assert ids.max() <= 2**63 - 1
    assert (ids >= 2**63 - 40).all()


def test_sizes_whose_product_overflows_are_refused():
    """2^33 queries, all in one byte, times 2^30 answers."""
    many = np.broadcast_to(np.int8(1), (2**33, 1))
    out = np.zeros((1, 1), "f4"), np.zeros((1, 1), int)
    with pytest.raises(ValueError, match="scores must have 9223372036854775807 elements, got 1"):
        _native.search(many, many[:1], *out, 2**30)


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits on threads")
def test_fewer_threads_work_where_the_system_gives_no_more():
    """A user other than root may have 12 threads; one who runs other programs gets no more."""
    python("""
        import os, resource
        import numpy as np, tilefold
        documents = np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float32)
        queries = documents[:500]
        expected = tilefold.search(queries, documents, 5, num_threads=1)
        root = os.geteuid() == 0
        if root:
            user = 100_000 + os.getpid()
            os.setresuid(user, user, user)
        limit = 12 if root else 1
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        for _ in range(3):
            found = tilefold.search(queries, documents, 5, num_threads=500)
            assert (found.ids == expected.ids).all()
        threads = [line for line in open("/proc/self/status") if line.startswith("Threads:")]
        assert (int(threads[0].split()[1]) == 12) or not root, threads
    """)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the affinity of threads from /proc")
def test_threads_may_use_the_cpus_that_they_were_given():
    """A thread that left the CPU of its caller may go back."""
    python("""
        import os, time
        import numpy as np, tilefold

        vectors = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
        before = len(os.listdir("/proc/self/task"))
        for _ in range(20):
            tilefold.search(vectors[:64], vectors, 2, num_threads=2)
            time.sleep(0.005)
        tasks = os.listdir("/proc/self/task")
        assert len(tasks) > before
        assert all(os.sched_getaffinity(int(t)) == os.sched_getaffinity(0) for t in tasks)
    """)
