"""Exact search against faiss, torch, numpy and usearch: one case per promise of speed or memory.

Every peer answers the same queries over the same vectors, and must find the same ids up to the
rounding of its fp32 arithmetic.
"""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import clustered_vectors, spread_rows
from peers import optional

import tilefold
from tilefold import _native
from tilefold.testing import assert_same_up_to_rounding, machine, measure

PEERS = ("faiss", "torch", "usearch")  # beside numpy, which is always there
FASTEST = "faiss and torch"
TORCH_CHUNK = 16_384  # documents
NO_TARGET: dict[str, float | None] = {FASTEST: None}
USEARCH_QUERIES = 8  # usearch has no matrix product: with more queries it would only cost minutes
SHARDS = 4
# What each row of the ISA table is to reach against the faster of faiss and torch, for k = 10, 100
# and 1,000. Rows that are not named have no target.
_K = (10, 100, 1000)
_TARGETS = {
    "random": {512: {"avx512": (3.5, 2.8, 2.0), "avx2": (2.5, 2.0, 1.5)}},
    "real": {
        512: {"avx512": (3.5, 2.5, None), "avx2": (2.1, 1.9, 1.8)},
        64: {"avx2": (5.0, 3.8, 2.7)},
    },
    "common mean": {512: {"avx2": (2.4, 2.3, 1.8)}},
}


faiss, torch = optional("faiss"), optional("torch")
usearch = optional("usearch.index")
MISSING = tuple(n for n, m in zip(PEERS, (faiss, torch, usearch), strict=True) if m is None)


# ---- the contenders ------------------------------------------------------------------------------


def search_numpy(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[Any, Any]:
    scores = queries @ documents.T
    ids = np.argpartition(scores, -k, axis=1)[:, -k:]
    best = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)


def search_torch(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[Any, Any]:
    scores, ids = torch.topk(torch.from_numpy(queries) @ torch.from_numpy(documents).T, k)
    return scores.numpy(), ids.numpy()


def search_torch_in_chunks(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[Any, Any]:
    tensor, wanted = torch.from_numpy(documents), torch.from_numpy(queries)
    found = []
    for begin in range(0, len(tensor), TORCH_CHUNK):
        chunk = tensor[begin : begin + TORCH_CHUNK]
        scores, ids = torch.topk(wanted @ chunk.T, min(k, len(chunk)))
        found.append((scores, ids + begin))
    all_scores, all_ids = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    scores, places = torch.topk(all_scores, k)
    return scores.numpy(), all_ids.gather(1, places).numpy()


def search_usearch(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[Any, Any]:
    found = usearch.search(
        documents, queries, k, usearch.MetricKind.IP, exact=True, threads=tilefold.get_num_threads()
    )
    return 1 - found.distances.reshape(-1, k), found.keys.reshape(-1, k)


class Corpus:
    """Documents and queries, with an index of everybody who has one."""

    def __init__(self, documents: np.ndarray, queries: np.ndarray, name: str = "") -> None:
        self.documents, self.queries, self.name = documents, queries, name
        self.index = tilefold.FlatIndex(documents.shape[1])
        self.index.add(documents, copy=False)

    @cached_property
    def faiss_index(self) -> Any:
        index = faiss.IndexFlatIP(self.documents.shape[1])
        index.add(self.loaded)
        return index

    @cached_property
    def loaded(self) -> np.ndarray:
        """The documents in memory, where peers have them."""
        return self.documents if self.documents.flags.writeable else np.array(self.documents)

    def contenders(self, queries: np.ndarray, k: int) -> dict[str, Callable[[], Any]]:
        """Every search that is installed, ours first."""
        found: dict[str, Callable[[], Any]] = {
            "tilefold": partial(self.index.search, queries, k),
        }
        if faiss:
            found["faiss"] = partial(self.faiss_index.search, queries, k)
        if torch:
            found["torch whole"] = partial(search_torch, self.loaded, queries, k)
            found["torch chunked"] = partial(search_torch_in_chunks, self.loaded, queries, k)
        found["numpy"] = partial(search_numpy, self.loaded, queries, k)
        if usearch and len(queries) <= USEARCH_QUERIES:
            found["usearch"] = partial(search_usearch, self.loaded, queries, k)
        return found

    def check(self, queries: np.ndarray, name: str, ours: Any, theirs: Any) -> int:
        """Ids that differ from a peer's, all of them ties or near-ties."""
        return assert_same_up_to_rounding(ours, theirs[1], queries, self.documents, name=name)

    def work(self, n_queries: int) -> dict[str, float]:
        """Per call: operations of the inner products, and the documents as fp32, read once."""
        return {
            "gop_per_s": 2 * n_queries * self.documents.size / 1e9,
            "gb_per_s": self.documents.nbytes / 1e9,
        }


@pytest.fixture(scope="module")
def corpus(random_vectors, sizes) -> Corpus:
    return Corpus(random_vectors(sizes.documents), random_vectors(512))


@pytest.fixture(scope="module")
def real_corpus(real_embeddings) -> Corpus:
    documents, queries, total = real_embeddings
    return Corpus(documents, spread_rows(queries), f"{_real_name(documents, total)}: ")


@pytest.fixture(scope="module")
def mining_corpus(real_embeddings) -> Corpus:
    documents, queries, total = real_embeddings
    return Corpus(documents, queries, f"mining, {_real_name(documents, total)}: ")


def _real_name(documents: np.ndarray, total: int) -> str:
    return f"real, {len(documents):,} of {total:,}, d = {documents.shape[1]}"


@pytest.fixture(scope="module")
def common_mean_corpus(sizes) -> Corpus:
    """Vectors of mean cosine 0.7 whose spectrum is a power law, as embeddings of e5 and bge are."""
    documents, queries = clustered_vectors(sizes.documents // 2, sizes.dim)
    return Corpus(documents, queries, f"mean cosine 0.7, {len(documents):,}, d = {sizes.dim}: ")


@pytest.fixture(scope="module")
def mapped_corpus(quick, tmp_path_factory) -> Iterator[Corpus]:
    """A million documents in a memory map."""
    place = tmp_path_factory.mktemp("mapped")
    rows, dim = (5_000, 64) if quick else (1_000_000, 384)
    documents, queries = clustered_vectors(rows, dim, mean_cosine=0.1)
    np.save(place / "documents.npy", documents)
    del documents
    yield Corpus(np.load(place / "documents.npy", mmap_mode="r"), queries, f"{rows:,}, d = {dim}: ")
    shutil.rmtree(place)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """A place for large files, gone afterwards."""
    yield tmp_path
    shutil.rmtree(tmp_path)


# ---- speed of search -----------------------------------------------------------------------------


def target(corpus: str, n: int, k: int) -> dict[str, float | None]:
    """What the row in use is to reach for n queries."""
    row = next(row["name"] for row in _native.rows() if row["in_use"]).removesuffix("_bf16")
    of_row = _TARGETS[corpus].get(n, {}).get(row)
    return {FASTEST: of_row[_K.index(k)] if of_row else None}


def compare_searches(
    compare, corpus: Corpus, n: int, k: int, targets, only=None, prefix=""
) -> None:
    queries = corpus.queries[:n]
    k = min(k, len(corpus.documents))  # quick corpora are small
    contenders = corpus.contenders(queries, k)
    compare.run(
        f"{prefix}{corpus.name}{len(queries)} {'query' if n == 1 else 'queries'}, k = {k:,}",
        {name: contenders[name] for name in only or contenders if name in contenders},
        targets,
        work=corpus.work(len(queries)),
        check=partial(corpus.check, queries),
        missing=tuple(name for name in MISSING if name in (only or PEERS)),
    )


@pytest.mark.parametrize(
    ("n", "k", "targets"),
    [
        pytest.param(512, 10, None, id="512_queries-k_10"),
        pytest.param(64, 10, {FASTEST: 5.5}, id="64_queries-k_10"),
        pytest.param(8, 10, {FASTEST: None}, id="8_queries-k_10"),
        pytest.param(1, 10, {"numpy": 3.5, "faiss": 6}, id="1_query-k_10"),
        pytest.param(512, 100, None, id="512_queries-k_100"),
        pytest.param(512, 1000, None, id="512_queries-k_1000"),
    ],
)
def test_random_vectors(compare, corpus, n, k, targets):
    compare_searches(compare, corpus, n, k, targets or target("random", n, k))


def range_search_numpy(documents: np.ndarray, queries: np.ndarray, limits: np.ndarray) -> Any:
    found, scores = [], []
    for query, limit in zip(queries, limits, strict=True):
        of_query = documents @ query
        found.append(np.flatnonzero(of_query >= limit))
        scores.append(of_query[found[-1]])
    return found, scores


def same_hits(limits: np.ndarray, name: str, ours: Any, theirs: Any) -> int:
    """Hits that one side alone has, all of them within the rounding of fp32 of the limit."""
    differing = 0
    for query, limit in enumerate(limits):
        own = slice(*ours.offsets[query : query + 2])
        ids, scores = theirs[0][query], theirs[1][query]
        only_ours = ours.scores[own][~np.isin(ours.ids[own], ids)]
        only_theirs = scores[~np.isin(ids, ours.ids[own])]
        for score in (*only_ours, *only_theirs):
            assert abs(score - limit) <= 1e-4 * max(1, abs(limit)), (name, query)
        differing += len(only_ours) + len(only_theirs)
    return differing


@pytest.mark.parametrize(
    "share", [pytest.param(1e-4, id="few_hits"), pytest.param(0.05, id="many_hits")]
)
def test_range_search(compare, corpus, share):
    queries = corpus.queries[:64]
    rank = max(1, int(share * len(corpus.documents)))
    # The scores at one rank, so that every query has as many hits.
    limits = corpus.index.search(queries, rank).scores[:, -1].copy()
    contenders: dict[str, Callable[[], Any]] = {
        "tilefold": partial(corpus.index.range_search, queries, limits),
        "numpy": partial(range_search_numpy, corpus.documents, queries, limits),
    }
    if faiss:  # one threshold for all queries, so it searches them one by one
        contenders["faiss"] = partial(range_search_faiss, corpus.faiss_index, queries, limits)
    compare.run(
        f"range search, {len(queries)} queries, {rank:,} hits each",
        contenders,
        {"faiss": None},
        work=corpus.work(len(queries)),
        check=partial(same_hits, limits),
        missing=() if faiss else ("faiss",),
    )


def range_search_faiss(index: Any, queries: np.ndarray, limits: np.ndarray) -> Any:
    """Hits above limits; faiss leaves out scores equal to a limit."""
    ids, scores = [], []
    for query, limit in zip(queries, limits, strict=True):
        _, found, names = index.range_search(query[None], float(limit))
        ids.append(names)
        scores.append(found)
    return ids, scores


every_k = pytest.mark.parametrize("k", _K, ids=[f"k_{k}" for k in _K])
every_n = pytest.mark.parametrize("n", [512, 64, 1], ids=["512_queries", "64_queries", "1_query"])


@every_k
@every_n
def test_real_embeddings(compare, real_corpus, n, k):
    compare_searches(compare, real_corpus, n, k, target("real", n, k))


@every_k
@every_n
def test_embeddings_with_a_common_mean(compare, common_mean_corpus, n, k):
    compare_searches(compare, common_mean_corpus, n, k, target("common mean", n, k))


def test_mining_of_real_embeddings(compare, mining_corpus):
    """As many answers for as many queries as a search for hard negatives wants."""
    n = len(mining_corpus.queries)
    only = ("tilefold", "faiss", "torch chunked")  # others keep a matrix of several gigabytes
    compare_searches(compare, mining_corpus, n, 200, NO_TARGET, only)


@pytest.mark.parametrize("share", [0.5, 0.95], ids=["half", "nearly_all"])
def test_many_of_the_documents(compare, corpus, share):
    """Half or nearly all of the documents are answers, so that no filter pays."""
    few = Corpus(corpus.documents[:20_000], corpus.queries[:64])
    k = int(share * len(few.documents))
    compare_searches(compare, few, 64, k, NO_TARGET, prefix=f"{len(few.documents):,} documents: ")


def test_mapped_vectors(compare, mapped_corpus):
    compare_searches(compare, mapped_corpus, 64, 10, NO_TARGET, prefix="mapped: ")


def test_bytes(compare, sizes):
    """int8 vectors, which few libraries take."""
    rng = np.random.default_rng(4)
    shape = sizes.documents, sizes.dim
    documents = rng.integers(-127, 128, shape, np.int8)
    queries = rng.integers(-127, 128, (USEARCH_QUERIES, sizes.dim), np.int8)
    index = tilefold.FlatIndex(sizes.dim)
    index.add(documents, copy=False)
    contenders: dict[str, Callable[[], Any]] = {"tilefold": partial(index.search, queries, 10)}
    if usearch:
        contenders["usearch"] = partial(search_usearch, documents, queries, 10)
    compare.run(
        f"int8, {len(queries)} queries, k = 10",
        contenders,
        {"usearch": None},
        check=lambda name, ours, theirs: same_scores(documents, queries, ours, theirs[1]),
        work={"gop_per_s": 2 * len(queries) * documents.size / 1e9},
        missing=() if usearch else ("usearch",),
    )


def same_scores(documents: np.ndarray, queries: np.ndarray, ours: Any, ids: np.ndarray) -> int:
    """Compares integer scores, which are exact on both sides; returns how many ids differ."""
    for query, found, theirs in zip(queries, ours.ids, ids, strict=True):
        scores = [
            documents[ids].astype(np.int64) @ query.astype(np.int64) for ids in (found, theirs)
        ]
        np.testing.assert_array_equal(*scores)
    return int((ours.ids != ids).sum())


def test_avx2_row(compare, corpus, monkeypatch):
    row = next((row for row in _native.rows() if row["name"] == "avx2"), None)
    if row is None or not row["supported"]:
        pytest.skip("this machine cannot run the row avx2")
    monkeypatch.setenv("TILEFOLD_ISA", "avx2")
    only = ("tilefold", "faiss")
    compare_searches(compare, corpus, 512, 10, {"faiss": 1.7}, only, "avx2 row: ")


def test_int8_tile(compare, benchmark, sizes, quick):
    row = next(row for row in _native.rows() if row["in_use"])
    n, steps, rounds = row["query_tile"], sizes.dim // 4, 100 if quick else 50_000
    rng = np.random.default_rng(0)
    codes = rng.integers(28, 229, (steps, _native.BLOCK_ROWS, 4), np.uint8)  # as of embeddings
    levels = row["max_group_sum"] // 4 or 127
    queries = rng.integers(-levels, levels + 1, (steps, n, 4), np.int8)
    products = np.empty((n, _native.BLOCK_ROWS), np.int32)
    run_tile = partial(_native.tile, codes, queries, products, rounds)
    peaks: list[float] = []
    timing = measure(
        {"tile": run_tile, "peak": lambda: peaks.append(_native.peak("int8"))},
        repeats=1 if quick else 11,
    )["tile"]
    benchmark.pedantic(run_tile, rounds=1 if quick else 5)
    rate = 2 * n * _native.BLOCK_ROWS * sizes.dim * rounds / timing.median
    peak, fp32_peak = float(np.median(peaks)), _native.peak("fp32") / 1e9
    rates = {"gop_per_s": rate / 1e9, "int8_peak": peak / 1e9, "fp32_peak": fp32_peak}
    line = compare.table.add(
        f"int8 tile alone, row {row['name']}, one core",
        f"{rate / 1e9:,.0f} GOP/s",
        rate / peak,
        target=0.9,
        against="of the peak",
        peers=f"int8 peak {peak / 1e9:,.0f}, fp32 peak {fp32_peak:,.0f} GFLOP/s",
    )
    compare.extra_info.update(rates, machine=machine(), targets=[line._asdict()])


# ---- packing and memory --------------------------------------------------------------------------


def add_to(index: Any, documents: np.ndarray) -> Any:
    index.add(documents)
    return index


def test_packing(compare, corpus):
    documents = corpus.documents
    rows, dim = documents.shape
    contenders = {"tilefold": lambda: add_to(tilefold.FlatIndex(dim), documents)}
    if faiss:
        contenders["faiss"] = lambda: add_to(faiss.IndexFlatIP(dim), documents)
    case = f"add {rows:,} documents"
    seconds = compare.run(case, contenders, {}, work={"gb_per_s": documents.nbytes / 1e9}).timings
    allowed = 2 * seconds["faiss"].median + 1e-6 * rows if faiss else None
    compare.table.add(
        case,
        f"{1e3 * seconds['tilefold'].median:,.0f} ms",
        seconds["tilefold"].median / allowed if allowed else None,
        target=1,
        at_most=True,
        against="x (2 faiss + 1 s per million)",
        peers=f"faiss {1e3 * seconds['faiss'].median:,.0f}" if faiss else "faiss missing",
        missing=[] if faiss else ["faiss"],
    )


@pytest.mark.parametrize(
    ("mapped", "target"),
    [pytest.param(False, 1.3, id="whole"), pytest.param(True, 0.3, id="mapped")],
)
def test_memory_of_an_index(compare, benchmark, corpus, folder, mapped, target):
    documents = corpus.documents
    if mapped:
        np.save(folder / "documents.npy", documents)
        documents = np.load(folder / "documents.npy", mmap_mode="r")
    tracemalloc.start()  # sees what NumPy allocates, not what is mapped
    index = benchmark.pedantic(
        lambda: add_to(tilefold.FlatIndex(documents.shape[1]), documents), rounds=1
    )
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == len(documents)
    line = compare.table.add(
        "memory of an index" + (", vectors in a memory map" if mapped else ""),
        f"{kept / 1e6:,.1f} MB",
        kept / documents.nbytes,
        target=target,
        at_most=True,
        against="x the fp32 vectors",
        peers=f"vectors {documents.nbytes / 1e6:,.1f} MB, at most {peak / 1e6:,.1f} during add",
    )
    compare.extra_info.update(
        kept_mb=kept / 1e6,
        peak_mb=peak / 1e6,
        nbytes=index.nbytes,
        machine=machine(),
        targets=[line._asdict()],
    )


# ---- larger than memory --------------------------------------------------------------------------


def save_shards(documents: np.ndarray, folder: Path) -> list[Path]:
    paths = []
    for number, ids in enumerate(np.array_split(np.arange(len(documents)), SHARDS)):
        index = tilefold.FlatIndex(documents.shape[1])
        index.add(documents[ids[0] : ids[-1] + 1], ids, copy=False)
        paths.append(folder / f"shard-{number}")
        index.save(paths[-1])
    return paths


def same_bits(name: str, ours: Any, theirs: Any) -> int:
    assert ours.ids.tobytes() == theirs.ids.tobytes()
    assert ours.scores.tobytes() == theirs.scores.tobytes()
    return 0


def test_shards_larger_than_memory(compare, corpus, folder, quick):
    shards = save_shards(corpus.documents, folder)
    cap = 64 << 20 if quick else corpus.index.nbytes // 4
    queries = corpus.queries
    case = f"{SHARDS} mapped shards, {corpus.index.nbytes / cap:.1f} x a cap of {cap / 1e6:,.0f} MB"
    outcome = compare.run(
        case,
        {
            "tilefold": lambda: tilefold.search_shards(queries, shards, 10, memory_limit=cap),
            "memory": lambda: corpus.index.search(queries, 10),
        },
        {"memory": 0.7},
        work=corpus.work(len(queries)),
        check=same_bits,
    )
    peak = outcome.memory["tilefold"]
    compare.table.add(
        "resident memory of that",
        f"{peak.bytes / 1e6:,.1f} MB",
        peak.bytes / cap,
        target=1,
        at_most=True,
        against="x the cap",
        peers=peak.method,
    )
