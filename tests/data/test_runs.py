"""Runs and judgments: read as trec_eval reads them, written so that no tool sees a tie."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.data import read_collection, read_qrels, read_run, write_run
from tilefold.evaluate import evaluate, mean

RUN = "q2 Q0 d1 1 0.5 tag\nq1 Q0 d1 1 2 tag\nq1 Q0 d3 2 2.0 tag\nq1 Q0 d2 3 9e0 tag\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


def test_a_run_is_ordered_by_score_and_then_by_document_both_descending(path: Path):
    path.write_text(RUN)
    run = read_run(path)
    assert (run.query_ids, run.document_ids, run.tag) == (["q2", "q1"], ["d1", "d3", "d2"], "tag")
    assert run.offsets.tolist() == [0, 1, 4]
    assert run.ids.tolist() == [0, 2, 1, 0]
    assert run.scores.dtype == np.float32
    assert run.scores.tolist() == [0.5, 9, 2, 2]


def test_a_run_gives_the_ranking_that_evaluate_takes(path: Path):
    path.write_text(RUN)
    ranking = read_run(path).ranking(["q1", "q3", "q2"], ["d0", "d1", "d2"])
    assert ranking.tolist() == [[2, 3, 1], [-1, -1, -1], [1, -1, -1]]
    assert read_run(path).ranking(["q1"], ["d2"], k=2).tolist() == [[0, 2]]
    assert read_run(path).ranking(["q2"], [], k=2).tolist() == [[0, -1]]


def test_comments_blank_lines_a_long_tag_and_a_packed_file_are_accepted(path: Path):
    text = "# comment\n\nq\tQ0\td#1\t1\t 0.5\tthe rest of the line\n"
    path.write_bytes(gzip.compress(text.encode()))
    run = read_run(path)
    assert (run.document_ids, run.tag) == (["d#1"], "the rest of the line")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "file.txt: no results"),
        ("q Q0 d 1 0.5\n", "file.txt:1: expected query, Q0, document, rank, score and tag"),
        ("\nq Q0 d 1 high t\n", "file.txt:2: the score must be a number, got 'high'"),
        ("q Q0 d 1 nan t\n", "file.txt:1: the score is NaN"),
        (RUN + "\nq1 Q0 d3 4 1 t\n", "file.txt:6: document 'd3' is found twice for query 'q1'"),
    ],
)
def test_a_bad_line_of_a_run_is_an_error_with_its_number(path: Path, text: str, complaint: str):
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_run(path)


@pytest.mark.parametrize(
    "text",
    [
        "q1 0 d7 1\nq1\tQ0\td9 -2\n# comment\nq2 0 d7 0\n",
        "query-id\tcorpus-id\tscore\nq1\td7\t1\nq1\td9\t-2\nq2\td7\t0\n",
        "q1\td7\t1\nq1\td9\t-2\nq2\td7\t0\n",
    ],
    ids=["trec", "beir", "beir without header"],
)
def test_judgments_of_trec_and_of_beir_are_told_apart(path: Path, text: str):
    path.write_text(text)
    judgments = read_qrels(path)
    assert (judgments.query_ids, judgments.document_ids) == (["q1", "q2"], ["d7", "d9"])
    assert [part.tolist() for part in judgments.qrels] == [[0, 2, 3], [0, 1, 0], [1, -2, 0]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "file.txt: the file is empty"),
        ("q1 d7\n", r"file.txt: found text whose first line is 'q1 d7', which is none of:\s+trec"),
        ("q1 0 d7 1\nq1 0 d8\n", "file.txt:2: expected query, iteration, document and gain"),
        ("q1 0 d7 1\nq1 0 d8 0.5\n", "file.txt:2: the gain must be an integer, got '0.5'"),
        ("q1 0 d7 1\nq1 1 d7 0\n", "file.txt:2: document 'd7' is judged twice for query 'q1'"),
    ],
)
def test_bad_judgments_are_an_error_with_their_line(path: Path, text: str, complaint: str):
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_qrels(path)


def test_an_unknown_format_is_an_error_that_lists_those_of_judgments(path: Path):
    path.write_text("q1 0 d7 1\n")
    with pytest.raises(
        ValueError, match=r"one of \['trec-qrels', 'beir-qrels', 'mteb-qrels'\], got 'dpr'"
    ):
        read_qrels(path, format="dpr")


def test_a_run_falls_strictly_even_in_fp32_where_scores_are_tied(tmp_path: Path):
    path = tmp_path / "dense.trec"
    tied = np.float32([[1, 1, 1, 0.5], [0, 0, -np.inf, -np.inf]])
    write_run(path, ["q1", "q2"], list("abcd"), tied, [[2, 0, 1, 3], [3, 1, -1, -1]])
    rows = [line.split() for line in path.read_text().splitlines()]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        *(("q1", name, str(rank)) for rank, name in enumerate("cabd", 1)),
        ("q2", "d", "1"),
        ("q2", "b", "2"),
    ]
    for query in ("q1", "q2"):
        scores = np.array([row[4] for row in rows if row[0] == query], np.float32)
        assert (np.diff(scores) < 0).all()
    assert {(row[1], row[5]) for row in rows} == {("Q0", "tilefold")}


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "dense.trec"
    path.write_text("old")
    with pytest.raises(ValueError, match="ids must be below 1, the number of documents, got 5"):
        write_run(path, ["q1"], ["a"], [[1.0, 0.5]], [[0, 5]])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["dense.trec"]


def test_a_name_with_white_space_cannot_stand_in_a_run(tmp_path: Path):
    with pytest.raises(ValueError, match="'two words' cannot stand in a run"):
        write_run(tmp_path / "x", ["q"], ["two words"], [[1.0]], [[0]])


def test_a_run_that_is_written_is_read_back_in_the_same_order(tmp_path: Path):
    scores = np.float32([[3, 1, 1, -np.inf], [1e-30, 0, -2, -np.inf]])
    ids = [[2, 0, 3, -1], [1, 3, 0, -1]]
    write_run(tmp_path / "dense.trec", ["q1", "q2"], list("abcd"), scores, ids)
    assert read_run(tmp_path / "dense.trec").ranking(["q1", "q2"], list("abcd")).tolist() == [
        row[:3] for row in ids
    ]


NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=5).filter(
    lambda name: not name.startswith("#")
)


@given(st.data())
def test_every_run_that_is_written_is_read_back(tmp_path: Path, data: st.DataObject):
    queries, documents = (
        data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)) for _ in range(2)
    )
    n, m = len(queries), len(documents)
    ids = np.array([data.draw(st.permutations(range(m))) for _ in range(n)])
    floats = st.floats(-9, 9, width=32)
    scores = np.sort(
        np.float32([data.draw(st.lists(floats, min_size=m, max_size=m)) for _ in range(n)])
    )[:, ::-1]
    kept = np.array([[data.draw(st.integers(1, m))] for _ in range(n)])  # lists end early
    ids = np.where(np.arange(m) < kept, ids, -1)
    write_run(tmp_path / "run.trec", queries, documents, scores, ids)
    back = read_run(tmp_path / "run.trec")
    assert back.query_ids == queries
    np.testing.assert_array_equal(back.ranking(queries, documents, m), ids)


# ---- real runs -----------------------------------------------------------------------------------

RUNS = {
    "results.test": (3, 1500),
    "results-302.test": (1, 500),
    "results.comment.test": (301, 30100),
    "results.trunc": (2, 584),
    "prefs.results.test": (24, 480),
}
JUDGED = {
    "qrels.test": 3681,
    "qrels-302.test": 1061,
    "qrels.rel_level": 3681,
    "qrels.comment.test": 5890,
    "qrels.test.with-comments": 3681,
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_of_trec_eval_load(data_folder: Path, name: str):
    run = read_run(data_folder / "trec_eval_tests" / "orig" / name)
    assert (len(run.query_ids), len(run.ids)) == RUNS[name]


@pytest.mark.parametrize("name", JUDGED)
def test_judgments_of_trec_eval_load(data_folder: Path, name: str):
    judgments = read_qrels(data_folder / "trec_eval_tests" / "orig" / name)
    assert len(judgments.qrels.ids) == JUDGED[name]


def test_judgments_of_several_assessors_are_refused(data_folder: Path):
    path = data_folder / "trec_eval_tests" / "orig" / "qrels.123"
    with pytest.raises(ValueError, match=r"qrels.123:3682: document .* is judged twice"):
        read_qrels(path)


@pytest.mark.parametrize(
    ("run", "qrels", "out", "k"),
    [
        ("results.test", "qrels.test", "out.test.aq", 1000),
        ("results.comment.test", "qrels.comment.test", "out.comment.test", 100),
    ],
)
def test_a_run_that_is_read_scores_what_trec_eval_says(
    data_folder: Path, run: str, qrels: str, out: str, k: int
):
    folder = data_folder / "trec_eval_tests" / "orig"
    found, judged = read_run(folder / run), read_qrels(folder / qrels)
    said = [line.split() for line in (folder / out).read_text().splitlines()]
    expected = {name: value for name, query, value in said if query == "all"}
    ranking = found.ranking(judged.query_ids, judged.document_ids, k)
    ran = np.isin(judged.query_ids, found.query_ids)  # trec_eval leaves the others out
    for name in ("map", "recip_rank", "P_5", "P_100"):
        (values,) = evaluate(ranking, judged.qrels, [name]).values()
        assert f"{mean(values[ran]):.4f}" == expected[name], name


def test_a_run_is_scored_on_a_collection_by_its_names(data_folder: Path, tmp_path: Path):
    collection = read_collection(data_folder / "time" / "beir")
    numbers = np.random.default_rng(0).permuted(
        np.tile(np.arange(len(collection.documents)), (len(collection.queries), 1)), axis=1
    )[:, :50]
    scores = np.linspace(1, 0, 50, dtype=np.float32)[None].repeat(len(numbers), 0)
    path = tmp_path / "random.trec"
    write_run(path, collection.query_ids, collection.document_ids, scores, numbers)
    names = [*collection.document_ids, *collection.absent]
    assert (read_run(path).ranking(collection.query_ids, names) == numbers).all()
