"""evaluate(): the same numbers as trec_eval and ir_measures, without their tie rules."""

import functools
import itertools
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.data import Qrels, document_texts, read_beir, write_run
from tilefold.evaluate import Measure, bootstrap, evaluate, mean

MEASURES = (
    *("nDCG@10", "nDCG", "RR@10", "RR", "R@5", "P@5", "AP", "AP@5", "Success@3", "P(rel=2)@5"),
    *("Rprec", "Rprec(rel=2)", "Judged@5", "Judged"),
)
COLLECTIONS = ("adi", "cisi", "codebase_chunks", "cranfield", "medline", "stackfaq", "time")
LARGER = ("cacm", "lama_trex", "lisa", "npl_vaswani", "scifact", "trecqa", "wiki_mix", "xquad_r")

Judgments = Sequence[dict[int, int]]


def pack(judged: Judgments) -> tuple[list[int], list[int], list[int]]:
    offsets = np.cumsum([0, *map(len, judged)]).tolist()
    return offsets, [i for row in judged for i in row], [g for row in judged for g in row.values()]


def one(measure: str, ids: list[int], judged: dict[int, int]) -> float:
    """The value of a single query."""
    return evaluate([ids], pack([judged]), [measure])[str(Measure.parse(measure))].item()


def by_ir_measures(ids: np.ndarray, judged: Judgments, measures: Sequence[Any]) -> np.ndarray:
    """[measures, queries] by ir_measures, given names or its own measures; NaN where no value."""
    ir_measures = pytest.importorskip("ir_measures", reason="pip install tilefold[eval]")
    parsed = [ir_measures.parse_measure(m) if isinstance(m, str) else m for m in measures]
    names = {measure: row for row, measure in enumerate(parsed)}
    qrels = {str(q): {str(d): g for d, g in row.items()} for q, row in enumerate(judged) if row}
    run = {
        str(q): {str(d): -float(rank) for rank, d in enumerate(row) if d >= 0}
        for q, row in enumerate(ids)
        if (row >= 0).any()  # Judged divides by the number of results
    }
    values = np.full((len(measures), len(ids)), np.nan)
    for found in ir_measures.iter_calc(list(names), qrels, run):
        values[names[found.measure], int(found.query_id)] = found.value
    return values


# ---- by hand -------------------------------------------------------------------------------------


def test_ndcg_discounts_linear_gains_by_log2_and_divides_by_the_ideal():
    found = 3 / math.log2(2) + 1 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert one("nDCG@3", [5, 9, 7], {5: 3, 6: 2, 7: 1}) == pytest.approx(found / ideal)
    assert one("nDCG@1", [7, 5, 6], {5: 3, 6: 2, 7: 1}) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("RR", 1 / 2),
        ("RR@1", 0),
        ("R@2", 1 / 3),
        ("R@4", 2 / 3),
        ("P@4", 2 / 4),
        ("AP", (1 / 2 + 2 / 4) / 3),
        ("AP@3", 1 / 2 / 3),
        ("Success@1", 0),
        ("Success@2", 1),
        ("P(rel=2)@4", 1 / 4),
        ("R(rel=2)@4", 1),
        ("Rprec", 1 / 3),
        ("Rprec(rel=2)", 0),
        ("Judged@3", 2 / 3),
        ("Judged", 3 / 4),
        ("nDCG(dcg='exp-log2')@2", (1 / math.log2(3)) / (3 + 1 / math.log2(3))),
    ],
)
def test_measures_count_as_by_hand(measure: str, value: float):
    assert one(measure, [1, 2, 3, 4], {2: 1, 4: 2, 8: 1, 1: 0}) == pytest.approx(value)


def test_a_judged_document_that_nobody_can_find_counts_as_missed():
    assert one("R@2", [0, 1], {0: 1, 99: 1}) == 0.5


def test_a_judged_query_without_relevant_document_scores_zero_and_an_unjudged_one_nothing():
    found = evaluate([[1, 2]] * 3, pack([{1: 1}, {1: 0}, {}]), ["nDCG@2", "RR"])
    for values in found.values():
        assert values[:2].tolist() == [1, 0]
        assert np.isnan(values[2])
        assert mean(values) == 0.5


def test_negative_gains_are_not_relevant_and_take_nothing_away():
    assert one("nDCG@2", [1, 2], {1: -1, 2: 2}) == pytest.approx(1 / math.log2(3))
    assert one("nDCG@2", [1, 2], {1: -1, 3: -2}) == 0


def test_fewer_results_than_the_cutoff_are_judged_among_themselves():
    assert one("Judged@4", [3, 5, -1, -1], {3: 0, 9: 1}) == 0.5
    assert one("Judged@2", [-1, -1], {3: 0}) == 0


def test_exponential_gains_of_documents_that_are_not_relevant_are_zero():
    assert one("nDCG(dcg='exp-log2')", [1, 2], {1: -3, 2: 2}) == pytest.approx(1 / math.log2(3))


def test_without_a_cutoff_the_ideal_ranking_is_not_cut_where_the_results_end():
    ideal = sum(1 / math.log2(rank + 1) for rank in (1, 2, 3))
    assert one("nDCG", [0, 1], {0: 1, 2: 1, 3: 1}) == pytest.approx(1 / ideal)
    assert one("nDCG@2", [0, 1], {0: 1, 2: 1, 3: 1}) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_r_precision_counts_ranks_beyond_the_results_as_missed():
    assert one("Rprec", [0, 1], {0: 1, 1: 1, 2: 1, 3: 1}) == 0.5


def test_padding_is_no_document():
    assert one("P@4", [3, -1, -1, -1], {3: 1}) == 0.25
    assert one("Success@2", [-1, -1], {3: 1}) == 0


def test_huge_ids_are_looked_up_exactly():
    large = 2**62
    assert one("Success@1", [large + 1], {large: 1, large + 2: 1}) == 0
    assert one("Success@1", [large], {large: 1}) == 1


def test_no_queries_give_empty_arrays_and_no_mean():
    values = evaluate(np.empty((0, 10), np.int64), ([0], [], []), ["nDCG@10"])["nDCG@10"]
    assert values.shape == (0,)
    assert math.isnan(mean(values))
    assert math.isnan(bootstrap(values).low)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nDCG@10", "nDCG@10"),
        ("ndcg_cut_10", "nDCG@10"),
        ("NDCG@10", "nDCG@10"),
        ("MRR@10", "RR@10"),
        ("mrr@10", "RR@10"),
        ("recip_rank", "RR"),
        ("recall_100", "R@100"),
        ("Recall@100", "R@100"),
        ("P_5", "P@5"),
        ("map", "AP"),
        ("map_cut_100", "AP@100"),
        ("success_20", "Success@20"),
        ("P(rel=2)@10", "P(rel=2)@10"),
        ("AP(rel=1)", "AP"),
        ("Rprec", "Rprec"),
        ("RPrec(rel=2)", "Rprec(rel=2)"),
        ("judged@10", "Judged@10"),
        ("nDCG(dcg='log2')@10", "nDCG@10"),
        ("nDCG(dcg='exp-log2')@10", "nDCG(dcg='exp-log2')@10"),
        ('NDCG(dcg="exp-log2")', "nDCG(dcg='exp-log2')"),
    ],
)
def test_aliases_are_read_and_the_canonical_name_is_printed(text: str, name: str):
    assert str(Measure.parse(text)) == name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bpref", "cannot read 'bpref'"),
        ("nDCG@", "cannot read"),
        ("R", "R needs a cutoff"),
        ("P@0", "at least 1"),
        ("nDCG(rel=2)@10", "does not take rel=2"),
        ("Judged(rel=2)@10", "does not take rel=2"),
        ("Rprec@10", "Rprec does not take a cutoff, got 10"),
        ("P(dcg='exp-log2')@10", "P does not take dcg='exp-log2'"),
        ("nDCG(dcg='ln')@10", "nDCG does not take dcg='ln'"),
    ],
)
def test_an_unknown_measure_is_an_error_that_says_how_to_write_one(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Measure.parse(text)


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "qrels", "complaint"),
    [
        ([[1, 2]], ([0, 1], [1], [1]), "nDCG@10 needs 10 ids per query but ids has 2"),
        ([[1.0] * 10], ([0, 1], [1], [1]), "must be \\[n, k\\] integers"),
        ([1] * 10, ([0, 1], [1], [1]), "must be \\[n, k\\] integers"),
        ([[7, *range(8), 7]], ([0, 1], [1], [1]), "row 0 of ids names a document twice"),
        ([list(range(10))], ([0, 2], [1, 1], [1, 0]), "judges a document twice for query 0"),
        ([list(range(10))], ([0, 1, 1], [1], [1]), "2 queries but ids has 1 rows"),
        ([list(range(10))], ([0, 2], [1], [1]), "must rise from 0 to 1"),
        ([list(range(10))], ([0, 1], [1], [1, 2]), "1 documents but 2 gains"),
    ],
)
def test_wrong_arrays_are_errors(ids, qrels, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        evaluate(ids, qrels, ["nDCG@10"])


# ---- against the references ----------------------------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> tuple[np.ndarray, Judgments]:
    k = draw(st.integers(10, 14))
    n = draw(st.integers(1, 4))
    row = st.permutations(range(20)).map(lambda order: order[:k])
    kept = st.lists(row, min_size=n, max_size=n)
    ids = np.array(draw(kept))
    for query in range(n):
        ids[query, draw(st.integers(0, k)) :] = -1
    gains = st.dictionaries(st.integers(0, 24), st.integers(-1, 3), max_size=8)
    # pytrec-eval-terrier 0.5.11 loops for ever on a query with negative judgments only
    gains = gains.filter(lambda judged: not judged or max(judged.values()) >= 0)
    return ids, draw(st.lists(gains, min_size=n, max_size=n))


@given(runs())
def test_every_measure_equals_ir_measures(run: tuple[np.ndarray, Judgments]):
    ids, judged = run
    ours = np.array(list(evaluate(ids, pack(judged), MEASURES).values()))
    np.testing.assert_allclose(ours, by_ir_measures(ids, judged, MEASURES), atol=1e-12)


@given(runs())
def test_exponential_gains_equal_ir_measures_with_gains_mapped(run: tuple[np.ndarray, Judgments]):
    ir_measures = pytest.importorskip("ir_measures", reason="pip install tilefold[eval]")
    ids, judged = run
    mapped = ir_measures.nDCG(gains={2: 3, 3: 7})
    ours = evaluate(ids, pack(judged), ["nDCG(dcg='exp-log2')@5", "nDCG(dcg='exp-log2')"])
    theirs = by_ir_measures(ids, judged, [mapped @ 5, mapped])
    np.testing.assert_allclose(np.array(list(ours.values())), theirs, atol=1e-12)


def test_exponential_gains_equal_gdeval(data_folder: Path):
    """The program of TREC's Web track, which ir_measures runs for this name; it prints 5 digits."""
    if shutil.which("perl") is None:
        pytest.skip("gdeval needs perl")
    pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
    ids, qrels = by_bm25(data_folder / "cranfield" / "beir", "test")
    name = "nDCG(dcg='exp-log2')@10"
    theirs = by_ir_measures(ids, unpack(qrels), [name])[0]
    np.testing.assert_allclose(evaluate(ids, qrels, [name])[name], theirs, atol=5.1e-6)


@pytest.mark.parametrize(
    "name", [*COLLECTIONS, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)]
)
def test_real_collections_equal_ir_measures(data_folder: Path, name: str):
    pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
    measures = ("nDCG@10", "nDCG", "RR@10", "RR", "R@100", "P@5", "AP", "AP@100", "Success@20")
    measures += ("Rprec", "Judged@10")
    folder = data_folder / name / "beir"
    for split in sorted(path.stem for path in (folder / "qrels").glob("*.tsv")):
        ids, qrels = by_bm25(folder, split)
        judged = unpack(qrels)
        # As above: pytrec-eval-terrier loops for ever on negative judgments only.
        kept = [row for row, gains in enumerate(judged) if max(gains.values()) >= 0]
        ours = np.array(list(evaluate(ids, qrels, measures).values()))
        theirs = by_ir_measures(ids[kept], [judged[row] for row in kept], measures)
        np.testing.assert_allclose(ours[:, kept], theirs, atol=1e-12, err_msg=split)


def test_a_written_run_is_ranked_alike_though_scores_were_tied(data_folder: Path, tmp_path: Path):
    ir_measures = pytest.importorskip("ir_measures", reason="pip install tilefold[eval]")
    pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
    ids, qrels = by_bm25(data_folder / "cranfield" / "beir", "test")
    tied = np.repeat(np.arange(20, 0, -1), 5) * np.ones((len(ids), 1))  # five of each score
    queries = [str(query) for query in range(len(ids))]
    path = tmp_path / "tied.trec"
    write_run(path, queries, [str(number) for number in range(ids.max() + 1)], tied, ids)
    measures = {ir_measures.parse_measure(name): name for name in ("nDCG@3", "RR", "P@1", "AP")}
    values = evaluate(ids, qrels, measures.values())
    judged = {
        str(query): {str(document): gain for document, gain in gains.items()}
        for query, gains in enumerate(unpack(qrels))
    }
    n_compared = 0
    run = ir_measures.read_trec_run(str(path))
    for found in ir_measures.iter_calc(list(measures), judged, run):
        ours = values[measures[found.measure]][int(found.query_id)]
        assert found.value == pytest.approx(ours, abs=1e-12)
        n_compared += 1
    assert n_compared == len(measures) * len(queries)


def test_every_collection_is_compared(data_folder: Path):
    folders = {path.parent.name for path in data_folder.glob("*/beir")}
    assert folders == {*COLLECTIONS, *LARGER}


def by_bm25(folder: Path, split: str) -> tuple[np.ndarray, Qrels]:
    collection = read_beir(folder, split)
    ids = (
        index(tuple(document_texts(collection.documents, collection.titles)))
        .search(collection.queries, 100, warn=False)
        .ids
    )
    return ids, collection.qrels


@functools.lru_cache(maxsize=1)
def index(documents: tuple[str, ...]) -> Any:
    from tilefold.retrieval.bm25 import Bm25

    return Bm25(documents)


def unpack(qrels: Qrels) -> Judgments:
    offsets, documents, gains = qrels
    return [
        dict(zip(documents[a:b].tolist(), gains[a:b].astype(int).tolist(), strict=True))
        for a, b in itertools.pairwise(offsets)
    ]


# ---- intervals -----------------------------------------------------------------------------------


def test_the_bootstrap_is_that_of_a_plain_loop():
    values = np.random.default_rng(1).random(50)
    rng = np.random.default_rng(7)
    means = [values[rng.integers(50, size=50)].mean() for _ in range(400)]
    interval = bootstrap(values, resamples=400, seed=7)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_the_interval_approaches_the_normal_one_and_shrinks_with_queries():
    rng = np.random.default_rng(2)
    widths = []
    for n in (100, 10_000):
        values = rng.random(n)
        low, high = bootstrap(values)[1:]
        widths.append(high - low)
        assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(n), rel=0.1)
    assert widths[1] < widths[0] / 5


def test_large_samples_are_drawn_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(3).random(3000)
    whole = bootstrap(values, resamples=500)
    assert whole == bootstrap(values, resamples=500)
    assert whole != bootstrap(values, resamples=500, seed=1)


def test_queries_without_judgments_do_not_enter_the_interval():
    assert bootstrap([0.25, math.nan, 0.75]) == bootstrap([0.25, 0.75])
