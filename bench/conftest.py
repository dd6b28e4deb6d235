"""A bench session: options, data, two threads for everybody, and the table at the end.

    make bench-data                    encodes the real texts, once, in ten minutes or more
    pytest bench                       every case: half an hour
    pytest bench -k 64_queries         one case; --collect-only -q lists them
    pytest bench --quick               tiny shapes: that everything runs, not how fast

A case says what contends; `Comparison` checks, times and reports it.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import threadpoolctl
from embeddings import CACHE, CORPUS, QUERIES, Embeddings, embed
from history import record
from numpy.typing import NDArray
from table import Line, Table, describe, milliseconds

import tilefold
from tilefold.testing import PeakMemory, Timing, machine, measure, peak_memory

collect_ignore = ["gpu.py"]  # a program, which needs torch
ROOT = Path(__file__).resolve().parents[1]
THREADS = 2  # of everybody; what the figures of the specification were measured with
_DATA = bytes(16 << 20)  # takes some milliseconds to hash
_SECONDS = 20.0  # of timing per case, unless five rounds take longer
_TABLE = pytest.StashKey[Table]()

Contenders = Mapping[str, Callable[[], Any]]
Targets = Mapping[str, float | None]


class Sizes(NamedTuple):
    """Shapes of the random corpus, unless a case says otherwise."""

    documents: int
    dim: int


class Outcome(NamedTuple):
    """Seconds and peak memory of each contender."""

    timings: dict[str, Timing]
    memory: dict[str, PeakMemory]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tilefold bench")
    quick = os.environ.get("TILEFOLD_BENCH_QUICK", "") not in ("", "0")
    group.addoption(
        "--quick",
        action="store_true",
        default=quick,
        help="tiny shapes, one round: a smoke test (also TILEFOLD_BENCH_QUICK=1)",
    )
    group.addoption(
        "--corpus",
        type=Path,
        default=CORPUS,
        help="BEIR folder of the cases with real embeddings",
    )
    group.addoption(
        "--encode-seconds",
        type=float,
        default=240.0,
        help="how long one run may encode; `make bench-data` encodes everything, once",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Table(quick=config.getoption("--quick"))
    config.option.benchmark_quiet = True  # our own times without the peers': not what we promise


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash[_TABLE]
    for outcome in ("skipped", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            table.lines.append(Line(report.nodeid.rpartition("::")[2], verdict=outcome))
    if not table.lines:
        return
    terminalreporter.section("tilefold and its peers: medians of runs in turn, milliseconds")
    for line in table.render():
        terminalreporter.write_line(line)
    terminalreporter.write_line(describe(machine() | {"threads": THREADS}))
    if not config.getoption("--quick"):
        ran = machine() | {"threads": THREADS}
        path = record(ROOT / "build" / "bench-history", table.lines, ran)
        terminalreporter.write_line(f"history: {path.relative_to(ROOT)}")
    else:
        terminalreporter.write_line("quick: tiny shapes and one round, the figures mean nothing")


def _settle() -> None:
    """Waits until no thread of libgomp spins, then wakes every core.

    A core that sleeps when a call begins can take milliseconds to wake in a virtual machine, more
    than most searches take. In programs an encoder has run just before.
    """
    time.sleep(0.1)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda data: hashlib.sha256(data).digest(), [_DATA] * THREADS))


class Comparison:
    """Ours against its peers: same process, same data, in turn."""

    def __init__(self, benchmark: Any, table: Table, *, quick: bool) -> None:
        self.table = table
        self.extra_info: dict[str, Any] = benchmark.extra_info
        self._benchmark = benchmark
        self._quick = quick

    def run(
        self,
        case: str,
        contenders: Contenders,
        targets: Targets,
        *,
        work: Mapping[str, float],
        check: Callable[[str, Any, Any], int] | None = None,
        missing: tuple[str, ...] = (),
    ) -> Outcome:
        """Checks, times and reports one case.

        Args:
            case: how the table names it.
            contenders: "tilefold" and the peers; "torch whole" and "torch chunked" count as torch,
                the faster of them.
            targets: {"faiss and torch": how many times faster than the faster of them ours must
                be, or None if nothing was promised}.
            work: {rate: amount per call}, such as {"gop_per_s": operations / 1e9}.
            check: called as ``check(name, our answer, their answer)``; raises if they disagree
                beyond rounding, returns the number of ids that differ.
            missing: peers that could not be imported.
        """
        memory, differing, first = self._try_out(contenders, check)
        repeats = 1 if self._quick else int(np.clip(_SECONDS / first, 5, 30))
        timings = measure(contenders, repeats=repeats, warmup=0, before=_settle)
        self._benchmark.pedantic(contenders["tilefold"], rounds=repeats)
        self.extra_info |= {
            "case": case,
            "machine": machine(),
            "ms": {name: 1e3 * timing.median for name, timing in timings.items()},
            "rounds": repeats,
            "peak_mb": {name: peak.bytes / 1e6 for name, peak in memory.items()},
            "peak_by": next(iter(memory.values())).method,
            "differing_ids": differing,
            "missing": list(missing),
        }
        for rate, amount in work.items():
            self.extra_info[rate] = {n: amount / timing.median for n, timing in timings.items()}
        off = max(differing.values(), default=None)
        self._report(case, timings, targets, off, missing)
        return Outcome(timings, memory)

    def _try_out(
        self, contenders: Contenders, check: Callable[[str, Any, Any], int] | None
    ) -> tuple[dict[str, PeakMemory], dict[str, int], float]:
        """Runs everybody once: warms up, compares answers, measures memory and rough time."""
        memory, differing, seconds = {}, {}, 0.0
        ours = None
        for name, call in contenders.items():
            begin = time.perf_counter()
            with peak_memory() as peak:
                answer = call()
            seconds += time.perf_counter() - begin
            memory[name] = peak
            if name == "tilefold":
                ours = answer
            elif check is not None:
                differing[name] = check(name, ours, answer)
        return memory, differing, seconds

    def _report(
        self,
        case: str,
        timings: dict[str, Timing],
        targets: Targets,
        differing: int | None,
        missing: tuple[str, ...],
    ) -> None:
        best: dict[str, float] = {}
        for contender, timing in timings.items():
            name = contender.split()[0]
            best[name] = min(best.get(name, np.inf), timing.median)
        ours = best.pop("tilefold")
        shown = [f"{name} {milliseconds(seconds)}" for name, seconds in best.items()]
        peers = ", ".join([*shown, *(f"{name} missing" for name in missing)])
        self.extra_info["targets"] = []
        for against, target in targets.items():
            named = against.split(" and ")
            theirs = [best[name] for name in named if name in best]
            ratio = min(theirs) / ours if theirs else None
            line = self.table.add(
                case,
                f"{milliseconds(ours)} ms",
                ratio,
                target=target,
                against=f"x {against}",
                peers=peers,
                differing=differing,
                missing=[name for name in missing if name in named],
            )
            self.extra_info["targets"].append({**line._asdict(), "ratio": ratio})


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> Iterator[None]:
    """The same number of threads for everybody, whatever pool they bring."""
    before = tilefold.get_num_threads()
    tilefold.set_num_threads(THREADS)
    gc.freeze()  # the modules of torch, which every collection would visit for a tenth of a second
    with threadpoolctl.threadpool_limits(THREADS):
        yield
    gc.unfreeze()
    tilefold.set_num_threads(before)


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--quick"))


@pytest.fixture
def compare(benchmark: Any, pytestconfig: pytest.Config, quick: bool) -> Comparison:
    return Comparison(benchmark, pytestconfig.stash[_TABLE], quick=quick)


@pytest.fixture(scope="session")
def sizes(quick: bool) -> Sizes:
    return Sizes(5_000, 64) if quick else Sizes(200_000, 768)


@pytest.fixture(scope="session")
def random_vectors(sizes: Sizes) -> Callable[[int], NDArray[np.float32]]:
    """Makes unit vectors in random directions, the same in every run."""
    rng = np.random.default_rng(0)

    def make(n: int) -> NDArray[np.float32]:
        vectors = rng.standard_normal((n, sizes.dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    return make


@pytest.fixture(scope="session")
def real_embeddings(
    pytestconfig: pytest.Config, quick: bool, tmp_path_factory: pytest.TempPathFactory
) -> Embeddings:
    corpus: Path = pytestconfig.getoption("--corpus")
    if not corpus.is_dir():
        pytest.skip(f"no corpus in {corpus}: name one with --corpus")
    try:
        if quick:
            cache = tmp_path_factory.mktemp("embeddings")
            return embed(corpus, cache, queries=64, seconds=0, limit=256)
        seconds = pytestconfig.getoption("--encode-seconds")
        return embed(corpus, CACHE, queries=QUERIES, seconds=seconds)
    except ImportError as error:
        pytest.skip(str(error))
