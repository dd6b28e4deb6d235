"""Fuzzes everything on disk that is read back: a changed file is refused, or changes no answer.

    python tests/fuzz_files.py --seconds 120

Each case changes one kind of state: a flipped bit, a truncated file, a run of zeros, two files
exchanged, a file deleted, or one taken from the same kind of state with other contents. Then the
state is read. It must give what was kept, or raise ValueError or OSError. Every run draws a new
seed and prints it; `--seed S --case C` repeats one case.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from state_kinds import KINDS, Kind

Generator = np.random.Generator
Files = dict[Path, bytes]  # contents by the path within a folder
Changes = dict[Path, bytes | None]  # None for a file that is deleted


@dataclass(frozen=True)
class State:
    """One kind of state on disk, with what reading it gives."""

    kind: Kind
    folder: Path
    files: Files
    others: Files  # of the same kind with other contents
    answer: Any


def prepare(kind: Kind, root: Path) -> State:
    """Writes the state that is changed, and one with other contents."""
    folders = [root / kind.name / name for name in ("state", "other")]
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        kind.write(folder, seed)
    files, others = (contents(folder) for folder in folders)
    answer = kind.read(folders[0])
    restore(folders[0], files)
    return State(kind, folders[0], files, others, answer)


def contents(folder: Path) -> Files:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def restore(folder: Path, files: Files) -> None:
    """Makes the files of a folder what they were."""
    for name, data in contents(folder).items():
        if name not in files:
            (folder / name).unlink()
        elif data != files[name]:
            (folder / name).write_bytes(files[name])
    for name in files.keys() - contents(folder).keys():
        (folder / name).write_bytes(files[name])


# ---- changes -------------------------------------------------------------------------------------


def flip(rng: Generator, state: State) -> Changes:
    name, data = draw_file(rng, state)
    changed = bytearray(data)
    # Headers are short beside the tensors, and every bit of them counts.
    last = len(data) if rng.random() < 0.5 else min(len(data), 512)
    changed[rng.integers(last)] ^= 1 << int(rng.integers(8))
    return {name: bytes(changed)}


def truncate(rng: Generator, state: State) -> Changes:
    name, data = draw_file(rng, state)
    return {name: data[: rng.integers(len(data))]}


def zero(rng: Generator, state: State) -> Changes:
    """A page that a file system lost."""
    name, data = draw_file(rng, state)
    begin, size = int(rng.integers(len(data))), int(rng.choice([1, 16, 4096]))
    end = min(begin + size, len(data))
    return {name: data[:begin] + bytes(end - begin) + data[end:]}


def exchange(rng: Generator, state: State) -> Changes:
    (one, first), (other, second) = draw_file(rng, state), draw_file(rng, state)
    return {one: second, other: first}


def delete(rng: Generator, state: State) -> Changes:
    return {draw_file(rng, state)[0]: None}


def foreign(rng: Generator, state: State) -> Changes:
    """A file of another state, whose own checksums are right."""
    if not state.kind.bound:
        return {}
    name, _ = draw_file(rng, state)
    names = [other for other in state.others if other.suffix == name.suffix]
    return {name: state.others[names[rng.integers(len(names))]]} if names else {}


def draw_file(rng: Generator, state: State) -> tuple[Path, bytes]:
    names = sorted(name for name, data in state.files.items() if data)
    name = names[rng.integers(len(names))]
    return name, state.files[name]


CHANGES: list[Callable[[Generator, State], Changes]] = [
    *[flip] * 6,
    truncate,
    zero,
    exchange,
    delete,
    foreign,
]


def check(rng: Generator, state: State) -> str:
    """Changes a file, reads the state, and returns what became of it: refused or harmless."""
    change = CHANGES[rng.integers(len(CHANGES))]
    for name, data in change(rng, state).items():
        path = state.folder / name
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)
    try:
        found = state.kind.read(state.folder)
    except (ValueError, OSError) as error:
        if not str(error):
            raise AssertionError(f"{change.__name__}: an error without a message") from error
        return "refused"
    except Exception as error:
        raise AssertionError(f"{change.__name__}: {type(error).__name__}: {error}") from error
    finally:
        restore(state.folder, state.files)
    if found != state.answer:
        raise AssertionError(f"{change.__name__} gave another answer, and no error")
    return "harmless"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--cases", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    parser.add_argument("--case", type=int, default=None, help="run this case alone")
    parser.add_argument("--kind", action="append", help="such as 'row store' (default: all)")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as root:
        named = [kind for kind in KINDS if not arguments.kind or kind.name in arguments.kind]
        there = [kind for kind in named if all(map(importlib.util.find_spec, kind.needs))]
        states = [prepare(kind, Path(root)) for kind in there]
        warnings.simplefilter("error")
        names = ", ".join(state.kind.name for state in states)
        print(f"fuzz_files: seed {seed}, kinds {names}", flush=True)
        return fuzz(states, seed, arguments)


def fuzz(states: list[State], seed: int, arguments: argparse.Namespace) -> int:
    counts: collections.Counter[str] = collections.Counter()
    end, case = time.monotonic() + arguments.seconds, arguments.case or 0
    while time.monotonic() < end and counts.total() < arguments.cases:
        rng = np.random.default_rng([seed, case])
        state = states[case % len(states)]
        try:
            counts[check(rng, state)] += 1
        except AssertionError as error:
            print(f"fuzz_files: seed {seed}, case {case}, {state.kind.name}: {error}")
            return 1
        case += 1
        if arguments.case is not None:
            break
    print(
        f"fuzz_files: of {counts.total():,} changed files {counts['refused']:,} were refused and "
        f"{counts['harmless']:,} changed no answer"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
