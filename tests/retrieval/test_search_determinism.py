"""Answers depend on the inputs alone: not on rows, threads, batches, layout or other calls."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import (
    DATA,
    WAYS,
    assert_same,
    by_array,
    by_index,
    gaussian,
    inherited_environment,
    make,
    outlier_dimension,
)

import tilefold
from tilefold import reference
from tilefold.retrieval.packing import pack_as
from tilefold.retrieval.running_search import RunningSearch
from tilefold.retrieval.search_options import SearchOptions

SHAPES = st.tuples(
    st.integers(0, 40), st.integers(0, 400), st.integers(1, 20), st.sampled_from(sorted(DATA))
)


@WAYS
@settings(max_examples=30)
@given(shape=SHAPES, k=st.integers(1, 50), j=st.integers(1, 50))
def test_fewer_answers_are_the_first_of_more(way, shape, k, j):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    more, fewer = (way(queries, documents, size) for size in (max(k, j), min(k, j)))
    assert_same(fewer, [part[:, : min(k, j)] for part in more])


@WAYS
@settings(max_examples=30)
@given(shape=SHAPES, batch=st.integers(1, 20))
def test_batches_give_the_answers_of_the_whole(way, shape, batch):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    whole = way(queries, documents, 7)
    for start in range(0, n, batch):
        part = slice(start, start + batch)
        assert_same(way(queries[part], documents, 7), [answer[part] for answer in whole])


@settings(max_examples=40)
@given(shape=SHAPES, seed=st.integers(0, 99), parts=st.integers(1, 5))
def test_the_order_of_documents_does_not_matter(shape, seed, parts):
    """Nor do the pieces in which they are added."""
    n, m, dim, kind = shape
    rng = np.random.default_rng(seed)
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    names = rng.permutation(3 * m)[:m]
    order = rng.permutation(m)
    index = tilefold.FlatIndex(dim)
    for rows in np.array_split(order, parts):
        index.add(documents[rows], ids=names[rows])
    assert_same(index.search(queries, 9), reference.search(queries, documents, 9, ids=names))


@WAYS
@settings(max_examples=25)
@given(shape=SHAPES)
def test_the_number_of_threads_does_not_matter_for_small_corpora(way, shape):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    one = way(queries, documents, 7, num_threads=1)
    for threads in (2, 5):
        assert_same(way(queries, documents, 7, num_threads=threads), one)


@WAYS
@pytest.mark.parametrize("kind", ["random", "clusters", "all equal", "mixed magnitudes", "ties"])
@pytest.mark.parametrize("n", [1, 20, 90], ids=["by ranges", "by ranges, packed", "by groups"])
def test_the_number_of_threads_does_not_matter(isa, way, kind, n):
    """Enough work for the threads to share, by ranges of documents or by groups of queries."""
    queries, documents = make(kind, n, 24, 1), make(kind, 100_000 // min(n, 8), 24)
    one = way(queries, documents, 20, num_threads=1)
    scores, ids = reference.search(queries[:1], documents, 20)
    assert_same([answer[:1] for answer in one], (scores, ids))
    for threads in (2, 5):
        found = way(queries, documents, 20, num_threads=threads, return_certificate=True)
        assert_same(found, one)
        assert found.certificate.holds


def test_documents_packed_by_one_row_are_searched_by_another(table, monkeypatch):
    """As happens to an index that moves to another machine."""
    queries, documents = gaussian(20, 48, 1), outlier_dimension(np.random.default_rng(2), (900, 48))
    documents = documents.astype(np.float32)
    expected = reference.search(queries, documents, 8)
    supported = [name for name, row in table.items() if row["supported"]]
    for packer in supported:
        for rotated, direction in ((False, None), (True, None), (True, queries[0])):
            if direction is not None:
                direction = direction / np.linalg.norm(direction)
            monkeypatch.setenv("TILEFOLD_ISA", packer)
            packed, *_ = pack_as(documents, rotated, direction)
            for searcher in supported:
                monkeypatch.setenv("TILEFOLD_ISA", searcher)
                running = RunningSearch(
                    queries, 8, SearchOptions(op="test", return_certificate=True)
                )
                running.fold(documents, packed=packed)
                assert_same(running.result(), expected)
                assert running.result().certificate.holds


DIGESTS = Path(__file__).resolve().parents[1] / "digests.py"


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the imports of this one and none of our variables."""
    return subprocess.run(
        [sys.executable, "-P", *map(str, arguments)],
        env=inherited_environment() | environment,
        capture_output=True,
        text=True,
    )


def test_every_row_has_the_digests_of_all_machines(table):
    """And TILEFOLD_ISA selects what it says."""
    for name, row in table.items():
        if row["supported"]:
            child = process(DIGESTS, TILEFOLD_ISA=name)
            assert (child.returncode, child.stderr) == (0, ""), child.stdout
            assert child.stdout == f"digests: row {name}: 16 of 16 as expected\n"


IN_USE = "from tilefold import _native; print(*[r['name'] for r in _native.rows() if r['in_use']])"
USE = "import numpy as np, tilefold; x = np.ones((1, 2), 'f4'); tilefold.search(x, x, 1)"


def test_the_best_supported_row_is_in_use_unless_another_is_named(table):
    best = next(name for name, row in table.items() if row["supported"])
    for unnamed in ({}, {"TILEFOLD_ISA": ""}):
        assert process("-c", IN_USE, **unnamed).stdout.split() == [best]
    assert process("-c", IN_USE, TILEFOLD_ISA="scalar").stdout.split() == ["scalar"]


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 ", "scalar,avx2"])
def test_an_unknown_row_is_an_error_that_names_the_choices(table, name):
    child = process("-c", USE, TILEFOLD_ISA=name)
    message = child.stderr.strip().splitlines()[-1]
    assert message == f"ValueError: TILEFOLD_ISA: expected one of {', '.join(table)}; got '{name}'"


def test_a_row_that_the_machine_lacks_is_an_error_that_says_so(table):
    lacking = [row for row in table.values() if not row["supported"]]
    if not lacking:
        pytest.skip("this machine can run every row that is compiled")
    for row in lacking:
        message = process("-c", USE, TILEFOLD_ISA=row["name"]).stderr.strip().splitlines()[-1]
        assert f"TILEFOLD_ISA: this machine cannot run the row '{row['name']}'" in message
        assert row["needs"] in message


@pytest.mark.parametrize("kind", ["subnormal", "underflowing", "mixed magnitudes"])
def test_flush_to_zero_changes_no_bit(isa, kind):
    """A caller's floating-point mode (torch can set it) must not reach the kernels."""
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.set_flush_denormal(False):
        pytest.skip("this machine has no flush-to-zero mode")
    documents = make(kind, 9000, 16)
    queries = np.concatenate([make(kind, 20, 16, 1), gaussian(20, 16)])
    expected = reference.search(queries, documents, 10)
    try:
        for way in (by_array, by_index):
            for part in (slice(0, 1), slice(12, 28), slice(0, 40)):
                for threads in (1, 2):
                    torch.set_flush_denormal(True)
                    found = way(queries[part], documents, 10, num_threads=threads)
                    torch.set_flush_denormal(False)
                    assert_same(found, [answer[part] for answer in expected])
    finally:
        torch.set_flush_denormal(False)


def test_calls_at_the_same_time_do_not_disturb_each_other(isa):
    queries, documents = gaussian(64, 32, 1), gaussian(4000, 32, 2)
    expected = [reference.search(queries, documents, k) for k in (1, 5, 9, 13)]
    found: list[Any] = [None] * 8

    def work(i: int) -> None:
        for _ in range(3):
            found[i] = tilefold.search(queries, documents, (1, 5, 9, 13)[i % 4], num_threads=3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in enumerate(found):
        assert_same(answer, expected[i % 4])
