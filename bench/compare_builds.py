"""Times the searches of two builds of tilefold in alternation: which of them is faster, and where.

    make bench-compare OLD=main                    the checkout against a commit
    make bench-compare OLD=HEAD ARGS="--isa avx2 --case real"

Each build answers in a process of its own, over the same vectors. Calls alternate, so that a change
of the machine's clock or load meets both. Without --old and --new the installed build meets itself,
which shows the noise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent


class Case(NamedTuple):
    """Queries over documents, both in a folder of .npy files."""

    corpus: str
    n: int
    k: int

    @property
    def name(self) -> str:
        return f"{self.corpus}, {self.n} {'query' if self.n == 1 else 'queries'}, k = {self.k:,}"


def cases(corpora: list[str]) -> list[Case]:
    return [Case(c, n, k) for c in corpora for n in (512, 64, 1) for k in (10, 100, 1000)]


# ---- a process of one build ----------------------------------------------------------------------


def serve(folder: Path, package: Path | None, threads: int) -> None:
    """Answers lines "corpus n k" on standard input by the seconds and a digest of the answer."""
    if package is not None:
        # The finder of an editable install, an object among classes, would find that one first.
        sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
        sys.path.insert(0, str(package))
    import tilefold

    tilefold.set_num_threads(threads)
    loaded: dict[str, tuple[tilefold.FlatIndex, np.ndarray]] = {}
    print(tilefold.__file__, flush=True)
    for line in sys.stdin:
        corpus, n, k = line.split()
        if corpus not in loaded:
            loaded.clear()
            documents = np.load(folder / f"{corpus}-documents.npy")
            index = tilefold.FlatIndex(documents.shape[1])
            index.add(documents, copy=False)
            loaded[corpus] = index, np.load(folder / f"{corpus}-queries.npy")
        index, queries = loaded[corpus]
        begin = time.perf_counter()
        found = index.search(queries[: int(n)], int(k))
        seconds = time.perf_counter() - begin
        digest = hashlib.sha256(found.scores.tobytes() + found.ids.tobytes()).hexdigest()[:16]
        print(seconds, digest, flush=True)


class Build:
    """A process in which one build answers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout
        self.place = self._out.readline().strip()

    def seconds(self, case: Case) -> tuple[float, str]:
        self._in.write(f"{case.corpus} {case.n} {case.k}\n")
        self._in.flush()
        answer = self._out.readline().split()
        if len(answer) != 2:
            raise SystemExit(f"compare_builds: the build in {self.place} stopped at {case.name}")
        return float(answer[0]), answer[1]


@contextmanager
def running(package: Path | None, folder: Path, threads: int) -> Iterator[Build]:
    """Starts a build: the package in a folder, or the installed one."""
    command = [sys.executable, __file__, "--serve", str(folder), "--threads", str(threads)]
    if package is not None:
        command += ["--package", str(package.resolve())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Build(process)
    finally:
        process.kill()
        process.wait()


# ---- the comparison ------------------------------------------------------------------------------


def compare(old: Build, new: Build, case: Case, seconds: float) -> tuple[float, float, bool]:
    """Returns the median seconds of both, and whether they gave the same answer."""
    (first, digest), (_, other) = old.seconds(case), new.seconds(case)  # also warms up
    times: tuple[list[float], list[float]] = ([], [])
    rounds = int(np.clip(seconds / (2 * first), 5, 40))
    for turn in range(rounds):
        pair = (old, times[0]), (new, times[1])
        for build, kept in pair if turn % 2 else reversed(pair):
            kept.append(build.seconds(case)[0])
    return float(np.median(times[0])), float(np.median(times[1])), digest == other


def write_corpora(folder: Path, wanted: str, rows: int | None) -> list[str]:
    """Writes the vectors of the bench's corpora whose names contain a text; returns the names."""
    sys.path.insert(0, str(HERE))
    from corpora import CORPORA

    names = []
    for name in CORPORA:
        if wanted not in name:
            continue
        try:
            documents, queries = CORPORA[name]() if rows is None else CORPORA[name](rows)
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
            continue
        print(f"{name}: {len(documents):,} documents, d = {documents.shape[1]}")
        np.save(folder / f"{name}-documents.npy", documents)
        np.save(folder / f"{name}-queries.npy", queries)
        names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--old",
        type=Path,
        help="folder that holds the package of the old build; default: installed",
    )
    parser.add_argument("--new", type=Path, help="the same of the new one")
    parser.add_argument("--case", default="", help="corpora whose name contains this")
    parser.add_argument("--rows", type=int, help="documents of each corpus, in place of its own")
    parser.add_argument("--isa", help="row of the ISA table, for both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of timing per case")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--package", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.package, options.threads)
    if options.isa:
        os.environ["TILEFOLD_ISA"] = options.isa
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = write_corpora(folder, options.case, options.rows)
        if not corpora:
            parser.error(f"no corpus has {options.case!r} in its name")
        with (
            running(options.old, folder, options.threads) as old,
            running(options.new, folder, options.threads) as new,
        ):
            print(f"old: {old.place}\nnew: {new.place}")
            print(f"{'case':44} {'old ms':>9} {'new ms':>9} {'old / new':>9}  answers")
            for case in cases(corpora):
                before, after, same = compare(old, new, case, options.seconds)
                differing += not same
                print(
                    f"{case.name:44} {1e3 * before:9.2f} {1e3 * after:9.2f} {before / after:9.2f}  "
                    f"{'the same' if same else 'DIFFER'}",
                    flush=True,
                )
    if differing:
        raise SystemExit(f"compare_builds: answers differ in {differing} cases")


if __name__ == "__main__":
    main()
