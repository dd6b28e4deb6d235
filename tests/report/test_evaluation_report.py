"""Reports of evaluations: numbers as computed, texts escaped, pages of bounded size."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from file_size_limit import file_size_limit
from page_parser import Page
from tilefold import search
from tilefold.data import Collection, Qrels, read_run, write_run
from tilefold.evaluate import bootstrap, evaluate, holm, mean, paired_test
from tilefold.ragged_lists import Lists
from tilefold.report.evaluation import (
    EvaluatedSystems,
    RankedSystem,
    evaluation_report,
    scores_of_run,
)
from tilefold.report.evaluation.principal_plane import principal_plane
from tilefold.report.number_format import interval, number

MEASURES = ("nDCG@3", "R@5")
SCRIPT = "<script>alert('x')</script>"


def a_collection(n: int = 12, m: int = 40, texts: str = "") -> Collection:
    judged = [{row: 1.0, (row + n) % m: 2.0} for row in range(n)]
    return Collection(
        [f"d{row}" for row in range(m)],
        [f"{texts}document {row}" for row in range(m)],
        [f"q{row}" for row in range(n)],
        [f"{texts}query {row}" for row in range(n)],
        Qrels.pack(judged),
    )


def a_system(texts: Collection, seed: int, k: int = 5, dim: int = 8, noise: float = 1.0):
    """Embeddings near those of the first relevant document, and what a search finds."""
    rng = np.random.default_rng(seed)
    documents = rng.standard_normal((len(texts.documents), dim)).astype(np.float32)
    queries = documents[: len(texts.queries)] + noise * rng.standard_normal(
        (len(texts.queries), dim)
    ).astype(np.float32)
    found = search(queries, documents, k)
    measures = [name for name in MEASURES if int(name.partition("@")[2]) <= k] or ["RR"]
    values = evaluate(found.ids, texts.qrels, measures)
    return RankedSystem(found.ids, found.scores, values, queries, documents)


def a_report(**options) -> EvaluatedSystems:
    texts = a_collection(**options)
    systems = {"dense": a_system(texts, 0), "other": a_system(texts, 1, noise=2.0)}
    systems["words"] = replace(systems["other"], queries=None, documents=None)
    return EvaluatedSystems(texts, systems, "An evaluation")


def page_of(found: EvaluatedSystems) -> Page:
    return Page(evaluation_report(found).html())


def test_measures_and_intervals_are_those_that_are_computed():
    found = a_report()
    page = page_of(found)
    cells = page.table("ranking")
    for name, system in found.systems.items():
        assert cells[name][:-1] == [interval(bootstrap(v)) for v in system.values.values()]
    rows = page.files()["measures.csv"]
    assert rows[1][:3] == ["dense", "nDCG@3", repr(mean(found.systems["dense"].values["nDCG@3"]))]


def test_the_curve_of_recall_has_the_values_of_evaluate():
    found = a_report()
    rows = page_of(found).files()["recall.csv"][1:]
    assert [row[1] for row in rows if row[0] == "dense"] == ["1", "2", "3", "5"]
    for name, k, *values in rows:
        measured = evaluate(found.systems[name].ids, found.collection.qrels, [f"R@{k}"])
        assert list(map(float, values)) == list(bootstrap(measured[f"R@{k}"]))


def test_wins_ties_and_losses_add_up_and_tested_gains_are_shown():
    found = a_report()
    ours, theirs = (found.systems[name].values for name in ("dense", "other"))
    p = holm([paired_test(ours[name], theirs[name]).p_value for name in ours])
    gains = {
        name: (*bootstrap(ours[name] - theirs[name]), float(value))
        for name, value in zip(ours, p, strict=True)
    }
    cells = page_of(replace(found, gains=gains)).table("dense against")
    for name in ours:
        wins, ties, losses, gain, p_value = cells[f"other, {name}"]
        difference = ours[name] - theirs[name]
        assert (int(wins), int(losses)) == ((difference > 0).sum(), (difference < 0).sum())
        assert int(wins) + int(ties) + int(losses) == len(difference)
        assert (gain, p_value) == (
            interval(gains[name][:3], 4, signed=True),
            number(gains[name][3], 4),
        )
    assert cells["words, R@5"][-1] == ""
    assert len(page_of(found).table("dense against")["other, R@5"]) == 4  # no p values


def test_the_table_of_queries_has_values_and_ranks_of_both_systems():
    found = a_report()
    page = page_of(found)
    cells = page.table("query")
    first, second = (found.systems[name] for name in ("dense", "other"))
    for row in range(12):
        key, ours, theirs, gap, ranks, _, n = cells[f"query {row}"]
        assert (key, n) == (f"q{row}", "2")
        assert ours == f"{first.values['nDCG@3'][row]:.3f}"
        assert theirs == f"{second.values['nDCG@3'][row]:.3f}"
        assert gap == f"{first.values['nDCG@3'][row] - second.values['nDCG@3'][row]:+.3f}"
        hits = [rank for rank, one in enumerate(first.ids[row], 1) if one in (row, row + 12)]
        missed = 2 - len(hits)
        words = ", ".join(map(str, hits)) + (f" ({missed} missed)" if missed else "")
        assert ranks == (words if hits else "all missed")
    gaps = [abs(float(row[4])) for row in page.files()["queries.csv"][1:]]
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) == 12


def test_the_worst_queries_come_worst_first():
    found = a_report()
    values = found.systems["dense"].values["nDCG@3"]
    page = page_of(found)
    shown = [line for line in page.text.splitlines() if line.startswith("nDCG@3 ")]
    numbers = [float(line.split()[1].rstrip(":")) for line in shown]
    assert numbers == [round(value, 3) for value in sorted(values[values < 1])]


def test_counts_of_histograms_are_those_of_the_scores():
    found = a_report()
    files = page_of(found).files()
    words = np.array([row[2:] for row in files["scores of words.csv"][1:]], int).sum(0)
    hits = sum(map(len, found.ranks(found.systems["words"])))
    assert words.tolist() == [hits, 12 * 5 - hits]
    dense = np.array([row[2:] for row in files["scores of dense.csv"][1:]], int).sum(0)
    assert dense[0] == 24  # also those that were not retrieved
    assert 0 < dense[2] <= 120  # random ones, without those that are relevant


def test_nothing_is_fetched_and_no_other_script_can_run():
    page = page_of(a_report())
    assert page.fetched == []
    assert len(page.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none';")


def test_headings_are_in_order_and_pictures_have_words_and_data():
    page = page_of(a_report())
    assert page.headings[0] == ("h1", "An evaluation")
    assert [text for level, text in page.headings if level == "h2"] == [
        "Measures",
        "Comparison by query",
        "Worst queries of dense",
        "Scores",
        "Embedding map",
        "Data and settings",
    ]
    assert len(page.pictures) == 7
    assert all(len(words) > 20 for words in page.pictures)
    names = [name for name, _ in page.links]
    assert len(names) == len(set(names)) == 7 + 3  # and of three tables


def test_texts_ids_and_options_are_escaped():
    found = a_report(texts=f'{SCRIPT}" & ')
    texts = replace(
        found.collection,
        query_ids=[f"{name}{SCRIPT}" for name in found.collection.query_ids],
        titles=[f"{SCRIPT} title"] * 40,
    )
    systems = {f"{name} <b>": system for name, system in found.systems.items()}
    settings = {"model": SCRIPT, "hub_token": "abc"}
    found = EvaluatedSystems(texts, systems, SCRIPT, settings=settings)
    page = page_of(found)
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert page.headings[0] == ("h1", SCRIPT)
    assert f'{SCRIPT}" & query 0' in page.table("query")
    assert page.table("query")[f'{SCRIPT}" & query 0'][0] == f"q0{SCRIPT}"
    assert f'query: {SCRIPT}" & query 0' in page.titles
    assert page.table("option") == {
        "option": ["value"],
        "model": [SCRIPT],
        "hub-token": ["${HUB_TOKEN}"],
    }


def test_files_hide_tokens_and_start_no_formulas():
    found = a_report()
    token = "hf_" + 34 * "a"
    queries = ['=HYPERLINK("x")', f"who has {token}?", "+1", "a,b\nc", *[""] * 8]
    found = replace(found, collection=replace(found.collection, queries=queries))
    html = evaluation_report(found).html()
    assert token not in html
    rows = {row[0]: row[1] for row in Page(html).files()["queries.csv"]}
    assert rows["q0"] == '\'=HYPERLINK("x")'
    assert rows["q1"] == "who has [redacted]?"
    assert rows["q2"] == "+1"
    assert rows["q3"] == "a,b c"


def test_points_of_the_map_have_texts_and_the_axes_their_variance():
    found = a_report()
    page = page_of(found)
    assert len(page.titles) == 2 * (12 + 24 + 16)
    assert (
        "Shown are 12 of 12 queries, 24 of their relevant documents and 16 of 16 doc" in page.text
    )
    assert page.text.count("it has no embeddings") == 1
    rows = page.files()["map of dense.csv"][1:]
    at = np.array([row[2:] for row in rows], float)
    shown = np.concatenate(
        [found.systems["dense"].documents, found.systems["dense"].queries]
    ).astype(float)
    total = ((shown - shown.mean(0)) ** 2).sum()
    shares = (at**2).sum(0) / total
    for axis, share in enumerate(shares, 1):
        assert f"component {axis} ({share:.1%} of the variance)" in page.text


def test_other_documents_of_the_map_are_relevant_to_no_query():
    n = 400
    texts = a_collection(n, 1000)
    found = EvaluatedSystems(texts, {"dense": a_system(texts, 0)}, "Many")
    rows = page_of(found).files()["map of dense.csv"][1:]
    numbers: dict[str, list[int]] = {}
    for kind, text, *_ in rows:
        numbers.setdefault(kind, []).append(int(text.split()[-1]))
    assert {kind: len(own) for kind, own in numbers.items()} == {
        "queries": 150,
        "relevant documents": 300,
        "other documents": 200,
    }
    assert set(numbers["other documents"]) == set(range(2 * n, 1000))
    relevant = {row + shift for row in numbers["queries"] for shift in (0, n)}
    assert set(numbers["relevant documents"]) == relevant


def test_the_plane_is_that_of_scikit_learn():
    pca = pytest.importorskip("sklearn.decomposition").PCA(2, svd_solver="full")
    vectors = np.random.default_rng(0).standard_normal((30, 6)) * np.arange(1, 7)
    expected = pca.fit_transform(vectors)
    plane = principal_plane(vectors)
    signs = np.sign((plane.at * expected).sum(0))
    np.testing.assert_allclose(plane.at * signs, expected, atol=1e-9)
    np.testing.assert_allclose(plane.explained, pca.explained_variance_ratio_)
    assert principal_plane(np.ones((3, 4))) is None
    assert principal_plane(np.ones((1, 4))) is None


def test_the_same_systems_give_the_same_bytes():
    assert evaluation_report(a_report()).html() == evaluation_report(a_report()).html()
    code = (
        "import hashlib, sys; from test_evaluation_report import *\n"
        "html = evaluation_report(a_report()).html()\n"
        "print(hashlib.sha256(html.encode()).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert child.returncode == 0, child.stderr
        digests.add(child.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("k", [1, 40])
def test_one_query_and_one_rank_are_enough(n, k):
    texts = a_collection(n)
    systems = {"dense": a_system(texts, 0, k), "other": a_system(texts, 1, k)}
    page = page_of(EvaluatedSystems(texts, systems, "Small"))
    assert len(page.table("query")) == n + 1
    assert page.files()["recall.csv"][1][1] == "1"


def test_one_system_has_no_comparison():
    found = a_report()
    alone = replace(found, systems={"dense": found.systems["dense"]})
    page = page_of(alone)
    assert "There is one system only." in page.text
    assert [table[0][0] for table in page.tables] == ["ranking", "data", "option"]


def test_without_a_relevant_document_everything_scores_0():
    found = a_report()
    offsets, ids, gains = found.collection.qrels
    texts = replace(found.collection, qrels=Qrels(offsets, ids, 0 * gains))
    values = {
        name: evaluate(system.ids, texts.qrels, MEASURES) for name, system in found.systems.items()
    }
    systems = {n: replace(system, values=values[n]) for n, system in found.systems.items()}
    page = page_of(EvaluatedSystems(texts, systems, "None"))
    assert page.table("ranking")["dense"][0] == "0.000 [0.000, 0.000]"
    assert page.table("query")["query 0"][-3:] == ["none", "none", "0"]
    assert "no document is judged relevant" in page.text
    assert "relevant" not in page.files()["scores of dense.csv"][0]
    assert "0 of their relevant documents" in page.text


def test_without_judgments_nothing_is_measured():
    found = a_report()
    texts = replace(found.collection, qrels=Qrels.pack([{}] * 12))
    systems = {
        name: replace(system, values=evaluate(system.ids, texts.qrels, MEASURES))
        for name, system in found.systems.items()
    }
    page = page_of(EvaluatedSystems(texts, systems, "None"))
    assert page.table("ranking")["dense"][:2] == ["none", "none"]
    assert page.table("query")["query 0"][1:4] == ["none", "none", "none"]


def test_queries_that_a_system_lacks_are_counted(tmp_path):
    found = a_report()
    dense = found.systems["dense"]
    ids = dense.ids.copy()
    ids[3:5] = -1
    path = tmp_path / "run"
    write_run(path, found.collection.query_ids, found.collection.document_ids, dense.scores, ids)
    scores, read = scores_of_run(read_run(path), found.collection, 5)
    assert read.tolist() == ids.tolist()
    np.testing.assert_array_equal(scores[ids >= 0], dense.scores[ids >= 0])
    assert np.isnan(scores[3:5]).all()
    values = evaluate(read, found.collection.qrels, MEASURES)
    run = RankedSystem(read, scores, values)
    page = page_of(replace(found, systems={"run": run, "dense": dense}))
    assert page.table("ranking")["run"][-1] == "2"
    assert page.table("query")["query 3"][4] == "all missed"
    assert "NaN or infinite" not in page.text  # what was not retrieved has no score


def test_scores_that_are_not_finite_are_left_out_and_counted():
    found = a_report()
    words = found.systems["words"]
    scores = words.scores.copy()
    scores[0], scores[1, 0] = np.nan, np.inf
    systems = found.systems | {"words": replace(words, scores=scores)}
    systems["nothing"] = replace(words, scores=np.full_like(scores, np.nan))
    documents = systems["other"].documents.copy()
    documents[0] = np.nan
    systems["other"] = replace(systems["other"], documents=documents)
    page = page_of(replace(found, systems=systems))
    assert "words: 6 scores are NaN or infinite, and are left out." in page.text
    assert "nothing has no scores to show." in page.text
    assert "There is no map of other: an embedding has NaN or infinity." in page.text
    assert len(page.table("query")) == 13


def test_documents_that_are_the_query_take_no_part():
    found = a_report()
    removed = Lists.pack([[row] for row in range(12)])  # one of two relevant documents
    page = page_of(replace(found, removed=removed))
    dense = np.array([row[2:] for row in page.files()["scores of dense.csv"][1:]], int).sum(0)
    assert dense[0] == 12
    assert page.table("data")["documents left out as they are the query"] == ["12"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"ids": np.zeros((12, 4), int)},
            r"ids and scores of dense must be \[12, 5\], got \[12, 4\]",
        ),
        ({"scores": np.zeros((11, 5))}, r"got \[12, 5\] and \[11, 5\]"),
        ({"values": {"RR": np.zeros(12)}}, r"must have the measures"),
    ],
)
def test_systems_of_another_shape_are_refused(change, complaint):
    found = a_report()
    other = {"words": found.systems["words"], "dense": replace(found.systems["dense"], **change)}
    with pytest.raises(ValueError, match=complaint):
        replace(found, systems=other)
    with pytest.raises(ValueError, match="expected one system or more"):
        replace(found, systems={})


def test_ten_thousand_queries_give_a_page_of_bounded_size():
    # The longest texts that escaping makes of what is shown: six characters for one.
    n = 10_000
    long = a_collection(n, n + 10, texts=600 * '"\x01')
    systems = {"dense": a_system(long, 0, k=5, dim=4), "other": a_system(long, 1, k=5, dim=4)}
    found = EvaluatedSystems(long, systems, "Large")
    html = evaluation_report(found).html()
    assert len(html.encode()) < 5_000_000
    page = Page(html)
    assert len(next(rows for rows in page.tables if rows[0][0] == "query")) == 501
    assert "500 queries with the largest difference are shown; 9,500 of 10,000" in page.text
    assert "Shown are 150 of 10,000 queries" in page.text


def test_a_full_disk_leaves_the_page_that_was_there(tmp_path):
    path, report = tmp_path / "report.html", evaluation_report(a_report())
    report.write(path)
    before = path.read_bytes()
    with file_size_limit(8192), pytest.raises(OSError, match=re.escape(str(path))):
        report.write(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
