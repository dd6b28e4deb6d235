"""Encoding and search on workers of Ray: the bytes of one process, also where workers die."""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray")

from local_cluster import dying, killer, local_cluster

from tilefold import search_shards
from tilefold.retrieval.encode_shards import encode_shards, shards_of
from tilefold.scale import (
    ShardedSearch,
    WorkerPool,
    Workers,
    encode_on_workers,
    shard_encoding,
    sharded_search,
)
from tilefold.scale.worker_pool import ATTEMPTS

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
# Few values, so that scores are equal within and between shards.
VECTORS = RNG.integers(-2, 3, (203, 16)).astype(np.float32)
QUERIES = RNG.integers(-2, 3, (20, 16)).astype(np.float32)
QUERIES[3] = 0  # all documents are equal
TEXTS = [str(i) for i in range(len(VECTORS))]
NAMES = [f"döc {i}" for i in range(len(VECTORS))]


@pytest.fixture(scope="module", autouse=True)
def ray():
    with local_cluster() as connected:
        yield connected


def opened(vectors: np.ndarray, log: Path | None = None, broken: str = ""):
    """Returns `open_encoder`; a nested function is sent by value, not by the name of this file."""

    def open_encoder():
        def encode(texts):
            if broken in texts:
                raise ValueError(f"the model cannot read {broken}")
            if log is not None:
                with log.open("a") as file:
                    file.write(f"{texts[0]}\n")
            return vectors[[int(text) for text in texts]]

        return encode

    return open_encoder


def on_workers(folder: Path, *, vectors=VECTORS, log=None, broken="", wrap=None, number=2):
    open_encoder = opened(vectors, log, broken)
    if wrap is not None:
        open_encoder = wrap(open_encoder)
    workers = Workers(number=number)
    return list(
        encode_on_workers(open_encoder, TEXTS, NAMES, folder, num_shards=5, workers=workers)
    )


def in_one_process(folder: Path, n: int = 5, shard: int | None = None) -> list[Path]:
    encode = opened(VECTORS)()
    return list(encode_shards(encode, TEXTS, NAMES, folder, num_shards=n, shard=shard))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- encoding ------------------------------------------------------------------------------------


def test_workers_write_the_bytes_of_one_process(tmp_path):
    in_one_process(tmp_path / "one")
    paths = on_workers(tmp_path / "two")
    assert sorted(paths) == shards_of(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_killed_workers_shard_is_encoded_by_another(tmp_path):
    log, begun = tmp_path / "log", tmp_path / "begun"
    with killer(begun) as killed:
        on_workers(tmp_path / "two", log=log, wrap=functools.partial(dying, begun=begun))
    assert len(killed) == 1
    in_one_process(tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(log.read_text().split()) == 5  # each shard once


def test_finished_shards_are_never_encoded_again(tmp_path):
    folder, log = tmp_path / "shards", tmp_path / "log"
    in_one_process(folder, shard=1)
    on_workers(folder, log=log)
    assert sorted(log.read_text().split()) == sorted(
        TEXTS[len(TEXTS) * i // 5] for i in (0, 2, 3, 4)
    )
    assert len(in_one_process(folder)) == 5  # and the other way round
    on_workers(folder, broken="0")  # nothing is left to encode
    assert len(log.read_text().split()) == 4


def test_an_error_of_the_model_is_raised_at_once_and_finished_shards_stay(tmp_path):
    folder, log = tmp_path / "shards", tmp_path / "log"
    with pytest.raises(ValueError, match="the model cannot read 100") as raised:
        on_workers(folder, log=log, broken="100", number=1)
    assert str(raised.value) == "the model cannot read 100"
    assert "raised by a worker" in raised.value.__notes__[0]
    assert log.read_text().split() == ["0", "40"]
    on_workers(folder, log=log)
    assert len(log.read_text().split()) == 5
    assert len(shards_of(folder)) == 5


def test_an_encoder_that_cannot_be_opened_says_why(tmp_path):
    def open_encoder():
        raise OSError("no such model")

    with pytest.raises(OSError, match="no such model"):
        list(encode_on_workers(open_encoder, TEXTS, NAMES, tmp_path))


def test_a_folder_that_workers_do_not_see_is_an_error(tmp_path, monkeypatch):
    """A worker that looks elsewhere stands for a machine without the shared storage."""
    real = shard_encoding.check_shared

    def elsewhere(root, plan):
        real(root / "elsewhere", plan)

    monkeypatch.setattr(shard_encoding, "check_shared", elsewhere)
    with pytest.raises(ValueError, match="must be on storage that all machines share"):
        on_workers(tmp_path)


# ---- the pool ------------------------------------------------------------------------------------


def open_multiply():
    return lambda shared, task: shared * task


def test_a_task_that_kills_every_worker_is_given_up(tmp_path):
    begun = tmp_path / "begun"
    deadly = dying(lambda: lambda shared, task: shared * task, begun, deaths=ATTEMPTS)
    with (
        killer(begun, ATTEMPTS) as killed,
        WorkerPool("multiply", deadly, Workers(number=1)) as pool,
        pytest.raises(ChildProcessError, match="multiply: task 0 killed 3 processes"),
    ):
        list(pool.run([1], shared=2))
    assert len(killed) == ATTEMPTS


def test_a_worker_that_dies_whenever_it_starts_is_given_up():
    def open_work():
        import os

        os._exit(7)

    with (
        WorkerPool("multiply", open_work, Workers(number=1)) as pool,
        pytest.raises(ChildProcessError, match="a worker that starts killed 3 processes"),
    ):
        list(pool.run([1]))


def test_a_pool_that_raised_runs_again_without_results_of_before():
    def open_work():
        def divide(shared, task):
            return shared / task

        return divide

    with WorkerPool("divide", open_work, Workers(number=2)) as pool:
        with pytest.raises(ZeroDivisionError):
            list(pool.run([0, 1, 2, 4], shared=1))
        assert sorted(pool.run([1, 2, 4], shared=8)) == [(0, 8), (1, 4), (2, 2)]
        assert list(pool.run([])) == []


def test_an_error_of_a_run_that_ended_is_not_raised_in_the_next():
    def open_work():
        def work(shared, task):
            if shared == "wrong":
                raise ValueError(f"task {task} is wrong")
            return shared, task

        return work

    with WorkerPool("pool", open_work, Workers(number=2)) as pool:
        assert len(list(pool.run([0, 1, 2], "right"))) == 3  # both workers have opened
        for _ in range(3):
            with pytest.raises(ValueError, match="is wrong"):
                list(pool.run([0, 1, 2], "wrong"))
            found = sorted(pool.run([0, 1, 2], "right"))
            assert found == [(i, ("right", i)) for i in range(3)]


def test_runs_of_threads_take_turns_and_one_inside_another_is_refused():
    def open_work():
        return lambda shared, task: (shared, task)

    with WorkerPool("pool", open_work, Workers(number=2)) as pool:
        outer = pool.run([1, 2, 3], "outer")
        assert next(outer)[1][0] == "outer"
        with pytest.raises(RuntimeError, match="pool: another run of this thread has not ended"):
            list(pool.run([4], "inner"))
        assert {answer[0] for _, answer in outer} == {"outer"}

        def answers(name: str) -> list[tuple[int, tuple[str, int]]]:
            return [sorted(pool.run([0, 1, 2], name)) for _ in range(5)]

        with ThreadPoolExecutor(3) as threads:
            for name, found in zip("abc", threads.map(answers, "abc"), strict=True):
                assert found == [[(i, (name, i)) for i in range(3)]] * 5


def test_a_pool_runs_inside_a_with_block_alone():
    pool = WorkerPool("multiply", open_multiply, Workers(number=1))
    with pytest.raises(ValueError, match="multiply: workers run inside a `with` block"):
        list(pool.run([1]))


def test_more_workers_than_the_cluster_has_room_for_wait_for_nothing():
    """The second worker is never placed, and the first one does it all."""
    workers = Workers(number=2, threads=2)
    with WorkerPool("multiply", lambda: lambda a, b: a * b, workers) as pool:
        assert sorted(pool.run([1, 2, 3], shared=2)) == [(0, 2), (1, 4), (2, 6)]


@pytest.mark.parametrize("needs", [{"threads": 3}, {"gpus": 1}], ids=["threads", "gpus"])
def test_a_worker_that_fits_on_no_machine_is_an_error(needs):
    pool = WorkerPool("multiply", open_multiply, Workers(**needs))
    with pytest.raises(ValueError, match="but the machines of the cluster have 2 CPUs and 0 GPUs"):
        pool.__enter__()


def test_another_version_of_a_package_is_an_error(monkeypatch):
    monkeypatch.setattr("tilefold.scale.worker_process.__version__", "9.9")
    pool = WorkerPool("multiply", lambda: lambda a, b: a * b, Workers(number=1))
    with pool, pytest.raises(ValueError, match=r"has tilefold \S+, expected 9.9"):
        list(pool.run([1], shared=1))


def test_a_second_address_is_an_error():
    pool = WorkerPool("multiply", open_multiply, Workers(address="127.0.0.1:1"))
    with pytest.raises(ValueError, match="connected to a Ray cluster already"):
        pool.__enter__()


# ---- search --------------------------------------------------------------------------------------


FILTERS = [
    {},
    {"k": 300},
    {"exclude": [[i, 2 * i] for i in range(len(QUERIES))]},
    {"allowed": np.arange(5, 90)},
    {"min_score": -3.0, "max_score": 8.0},
]
UNFIT = [
    (
        QUERIES.astype(np.float64),
        TypeError,
        "queries must be a float32 array of NumPy, got float64",
    ),
    ([[1.0]], TypeError, "queries must be a float32 array of NumPy, got list"),
    (QUERIES[:, :3], ValueError, "queries have dim 3 but documents have dim 16"),
    (np.ma.masked_array(QUERIES, QUERIES > 1), TypeError, "queries is a masked array"),
    (QUERIES[None], ValueError, r"queries must be \[n, dim\] or \[dim\]"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    in_one_process(folder, 7)
    return folder


def assert_same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.scores.tobytes() == expected.scores.tobytes()


def expected_of(folder: Path, queries: np.ndarray, k: int, **options):
    return search_shards(queries, shards_of(folder), k, **options)


@pytest.mark.parametrize("number", [1, 2])
def test_workers_find_the_bits_of_one_process(folder, number):
    with ShardedSearch(folder, workers=Workers(number=number)) as search:
        for filters in FILTERS:
            options = {"k": 9, "return_certificate": True, **filters}
            found, expected = (
                search.search(QUERIES, **options),
                expected_of(folder, QUERIES, **options),
            )
            assert_same(found, expected)
            assert found.certificate.holds
            thresholds = found.certificate.threshold, expected.certificate.threshold
            np.testing.assert_array_equal(*thresholds)
            assert found.certificate.refined.max() >= 1
        single = search.search(QUERIES[0], 3)
        assert single.ids.shape == (3,)
        assert_same(single, expected_of(folder, QUERIES[0], 3))


def test_queries_that_cannot_be_searched_are_refused_and_the_workers_stay(folder):
    broken = QUERIES.copy()
    broken[2, 1] = np.nan
    options = {"nonfinite": "exclude", "return_certificate": True}
    with ShardedSearch(folder, workers=Workers(number=1)) as search:
        with pytest.raises(ValueError, match="row 2 of queries has a NaN"):
            search.search(broken, 4)
        for queries, error, message in UNFIT:
            with pytest.raises(error, match=f"ShardedSearch: {message}"):
                search.search(queries, 3)
        found = search.search(broken, 4, **options)
    assert_same(found, expected_of(folder, broken, 4, **options))
    assert found.certificate.nonfinite_queries == 1


def test_a_killed_workers_shard_is_searched_by_another(folder, tmp_path, monkeypatch):
    begun, seen = tmp_path / "begun", []
    deadly = dying(sharded_search.open_shard_search, begun)
    monkeypatch.setattr(sharded_search, "open_shard_search", deadly)
    with killer(begun) as killed, ShardedSearch(folder, workers=Workers(number=2)) as search:
        options = {"k": 9, "return_certificate": True}
        found = search.search(QUERIES, progress=lambda *counts: seen.append(counts), **options)
        again = search.search(QUERIES, **options)
    assert len(killed) == 1
    assert_same(found, search_shards(QUERIES, shards_of(folder), 9))
    assert_same(again, found)
    np.testing.assert_array_equal(found.certificate.refined, again.certificate.refined)
    assert len(seen) == 7
    assert seen[-1] == (len(VECTORS), len(VECTORS))


def test_a_shard_that_was_changed_is_refused_by_its_worker(tmp_path):
    shard = in_one_process(tmp_path, 3)[1]
    content = bytearray(shard.read_bytes())
    content[content.find(VECTORS[70].tobytes())] ^= 1
    shard.write_bytes(content)
    with (
        ShardedSearch(tmp_path, workers=Workers(number=1)) as search,
        pytest.raises(ValueError, match=f"{shard.name} does not match its checksum"),
    ):
        search.search(QUERIES, 3)


def test_more_workers_than_shards_are_fine(tmp_path):
    paths = in_one_process(tmp_path, 1)
    with ShardedSearch(tmp_path, workers=Workers(number=2)) as search:
        assert_same(search.search(QUERIES, 3), search_shards(QUERIES, paths, 3))
