"""trec_eval's own test files: the same four decimals, query by query and on average."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tilefold.data import Qrels
from tilefold.evaluate import Measure, evaluate, mean

DEPTH = 2000  # the deepest cutoff in the files


class Case(NamedTuple):
    """A call of trec_eval."""

    expected: str
    values: int  # lines of it that are measures of ours
    qrels: str = "qrels.test"
    results: str = "results.test"
    rel: int = 1  # -l
    complete: bool = False  # -c: queries without results count as well
    deepest: int = DEPTH  # -M


CASES = [
    Case("out.test", 12),
    Case("out.test.a", 46),
    Case("out.test.aq", 4 * 46),
    Case("out.test.aq", 4 * 46, qrels="qrels.test.with-comments"),
    Case("out.test.aqc", 4 * 46, results="results.trunc", complete=True),
    Case("out.test.aqcM", 4 * 46, results="results.trunc", complete=True, deepest=100),
    Case("out.test.aql", 4 * 46, qrels="qrels.rel_level", rel=2),
    Case("out.test.meas_params", 4 * 11),
    Case("out.comment.test", 12, qrels="qrels.comment.test", results="results.comment.test"),
]


@pytest.fixture
def folder(data_folder: Path) -> Path:
    return data_folder / "trec_eval_tests" / "orig"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.expected}, {case.qrels}")
def test_trec_eval_prints_the_same_four_decimals(folder: Path, case: Case):
    queries, ids, qrels = read(folder, case)
    n_compared = 0
    for name, query, printed in fields(folder / case.expected, 3):
        if (values := ours(name, ids, qrels, case.rel)) is None:
            continue
        value = mean(values) if query == "all" else values[queries.index(query)]
        assert f"{value:.4f}" == printed, (name, query)
        n_compared += 1
    assert n_compared == case.values


def ours(name: str, ids: np.ndarray, qrels: Qrels, rel: int) -> np.ndarray | None:
    """The values of a measure that trec_eval calls so; None where we have no such measure."""
    if found := re.fullmatch(r"unj_(\d+)", name):
        (judged,) = evaluate(ids, qrels, [f"Judged@{found[1]}"]).values()
        return np.where((ids >= 0).any(1), 1 - judged, 0)
    if not re.fullmatch("map|recip_rank|Rprec|ndcg|(map_cut|P|recall|ndcg_cut|success)_\\d+", name):
        return None
    measure = Measure.parse(name)
    if measure.name != "nDCG":
        measure = dataclasses.replace(measure, rel=rel)
    (values,) = evaluate(ids, qrels, [measure]).values()
    return values


def read(folder: Path, case: Case) -> tuple[list[str], np.ndarray, Qrels]:
    judged: dict[str, dict[str, int]] = {}
    for query, _, document, gain in fields(folder / case.qrels, 4):
        if gain != "-1":  # trec_eval's own way to say that a document is not judged
            judged.setdefault(query, {})[document] = int(gain)
    run: dict[str, list[tuple[np.float32, str]]] = {}
    for query, _, document, _, score, _ in fields(folder / case.results, 6):
        run.setdefault(query, []).append((np.float32(score), document))
    queries = sorted(judged if case.complete else judged.keys() & run)
    number: dict[str, int] = {}
    ids = np.full((len(queries), DEPTH), -1)
    for row, query in enumerate(queries):
        # trec_eval reads scores as fp32 and orders equal ones by document name, descending
        for rank, (_, document) in enumerate(sorted(run.get(query, []), reverse=True)):
            if rank < case.deepest:
                ids[row, rank] = number.setdefault(document, len(number))
    numbered = [
        {number.setdefault(document, len(number)): gain for document, gain in judged[query].items()}
        for query in queries
    ]
    return queries, ids, Qrels.pack(numbered)


def fields(path: Path, n: int) -> Iterator[list[str]]:
    """The first n fields of every line that is no comment; runs may go on with anything."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            yield line.split()[:n]
