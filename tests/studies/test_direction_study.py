"""The study of directions: its measures by hand, its references, and resumed runs."""

import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.evaluate import expected_calibration_error, risk_coverage
from tilefold.files.steps import Steps
from tilefold.models import BiEncoder
from tilefold.ragged_lists import Lists
from tilefold.studies.directions import DIRECTIONS, DirectionSettings
from tilefold.studies.directions.direction_subject import (
    AskedQuestions,
    world_retrieval,
    world_subject,
)
from tilefold.studies.directions.direction_values import DirectionValues, kept_values
from tilefold.studies.directions.estimator_statistics import estimator_statistics
from tilefold.studies.directions.exposure_direction import (
    labelled,
    left_out,
    made_questions,
    training_batches,
)
from tilefold.studies.directions.injection_direction import METHODS, injected
from tilefold.studies.study_file import read_result
from tilefold.world import make_world
from tilefold.world.retrieval_data import write_beir

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = [
    "mechanisms",
    "directions",
    "--world",
    "tiny",
    "--seeds",
    "0",
    "--n-facts",
    "4",
    "--members",
    "2",
    "--passes",
    "3",
    "--retriever-epochs",
    "1",
]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("directions") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def result(studied):
    return read_result(studied / "directions.json", DIRECTIONS)


def settings(**changed) -> DirectionSettings:
    options = {"world": "tiny", "seeds": (0,), "retriever_epochs": 1, "members": 2, "passes": 3}
    return DirectionSettings(**{**options, "n_facts": 4, **changed})


def test_every_direction_is_compared_with_its_reference(result):
    rows = {(row.direction, row.method, row.measure): row for row in result.measures}
    assert {row.direction for row in result.measures} == {
        "exposure",
        "injection",
        "uncertainty",
        "maps",
    }
    compared = 0
    for row in result.measures:
        if row.comparison is None:
            assert row.reference == ""
            continue
        reference = rows[row.direction, row.reference, row.measure]
        compared += 1
        if row.comparison.n < max(row.n, reference.n):  # of facts that both have values of
            assert row.measure.startswith("survives")
            continue
        difference = row.value.mean - reference.value.mean
        assert row.comparison.difference.mean == pytest.approx(difference, abs=1e-9)
    assert compared > 20
    references = {(row.method, row.reference) for row in result.measures if row.reference}
    assert ("MEMIT, three blocks", "MEMIT, one block") in references
    assert ("patches, three blocks", "patches, last block") in references
    assert ("linked neurons knocked out", "unlinked neurons knocked out") in references
    assert ("fusion with BM25", "dense") in references
    assert rows["injection", "MEMIT, one block", "stated"].n == 4
    assert rows["exposure", "plain DPR", "RR@10, wording in no training"].n == 108
    assert not result.left_out


def test_plain_measures_are_those_of_rankings_by_hand(small, studied, result):
    subject = world_subject(settings(), 0)
    retrieval = world_retrieval(settings(), subject)
    model = BiEncoder.from_pretrained(subject.plain)
    passages = model.encode_documents(retrieval.documents, retrieval.titles, progress=False)
    found = {"RR@10": [], "R@10": []}
    for rows in retrieval.test.groups:
        own = {"RR@10": [], "R@10": []}
        for row in rows:
            query = model.encode_queries([retrieval.test.texts[row]], progress=False)[0]
            order = np.argsort(-(passages @ query), kind="stable")[:10].tolist()
            relevant = set(retrieval.test.relevant.of(row).tolist())
            ranks = [rank for rank, one in enumerate(order, 1) if one in relevant]
            own["RR@10"].append(1 / ranks[0] if ranks else 0.0)
            own["R@10"].append(len(ranks) / len(relevant))
        for name, values in own.items():
            found[name].append(np.mean(values))
    measures = {(r.direction, r.method, r.measure): r.value.mean for r in result.measures}
    for name, values in found.items():
        assert measures["maps", "dense", name] == pytest.approx(np.mean(values), abs=0.01)
        assert measures["uncertainty", "dense", name] == pytest.approx(np.mean(values), abs=0.01)


def test_fitting_and_test_share_no_fact(small, studied):
    subject = world_subject(settings(), 0)
    retrieval = world_retrieval(settings(), subject)
    texts = [set(part.texts) for part in (retrieval.train, retrieval.fit, retrieval.test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
    assert len(retrieval.fit.groups) == len(retrieval.test.groups) == 54
    assert len({own.query_encoder.fingerprint() for own in retrieval.members}) == 2


@pytest.mark.parametrize("method", ["crops of passages", "synthetic questions"])
def test_exposure_is_as_much_training_and_asks_in_no_evaluated_wording(small, method):
    from tilefold.exposure import exposed_training_set, order_by_knowledge

    subject = world_subject(settings(), 0)
    data, world = labelled(subject), subject.bound.world
    made = made_questions(subject, method)
    assert 0 < len(made) <= len(data)
    new = {world.questions(n)[3] for n in range(len(world.facts))}
    untouched = left_out(subject)
    assert len(untouched) == 36
    assert untouched < set(subject.held_out)
    refused = {question for n in untouched for question in world.questions(n)}
    assert not set(made.questions) & (new | refused | set(data.queries))
    joined = exposed_training_set(data, made)
    total = 2 * (len(data) // 64)
    plain, first = (
        training_batches(subject, joined, made, total, unknown_first=unknown)
        for unknown in (False, True)
    )
    assert len(plain) == len(first) == total
    n = len(joined) - len(made)
    one_epoch = np.concatenate(first[: len(joined) // 64])
    asked = [row - n for row in one_epoch if row >= n]
    assert asked == order_by_knowledge(made, subject.bound.model).tolist()[: len(asked)]


def test_each_method_edits_the_blocks_of_its_name(small):
    subject = world_subject(settings(), 0)
    facts = subject.bound.groups["added"][:2]
    blocks, neurons = {}, {}
    for method in METHODS:
        delta = injected(subject, method, facts)
        blocks[method] = sorted({*delta.neurons, *(layer for layer, _ in delta.factors)})
        neurons[method] = sum(len(own.keys) for own in delta.neurons.values())
    assert blocks == {
        "MEMIT, one block": [1],
        "MEMIT, three blocks": [0, 1, 2],
        "patches, last block": [3],
        "patches, three blocks": [1, 2, 3],
        "patches, three blocks, dropout": [1, 2, 3],
    }
    assert set(neurons.values()) == {0, 2 * 3}


def test_confidence_is_that_of_all_questions(result):
    assert [row.estimator for row in result.confidence] == [
        "largest probability",
        "margin of the first two",
        "Monte Carlo dropout",
        "variance over rewrites",
        "Gaussian embeddings",
        "probe of the query",
        "ensemble",
        "knowledge of the base",
    ]
    for row in result.confidence:
        assert 0 <= row.auroc.low <= row.auroc.mean <= row.auroc.high <= 1
        assert 0 <= row.risk_area.low <= row.risk_area.mean <= row.risk_area.high <= 1
        assert 0 <= row.calibration_error.low <= row.calibration_error.high <= 1
        assert (row.gain is None) == (row.estimator == "largest probability")
    covered = [row for row in result.measures if row.measure == "sets with a relevant passage"]
    assert covered[0].value.mean > 0.7


def clustered(seed: int = 0, n: int = 40, size: int = 4):
    """Questions whose confidence and outcome are those of their fact."""
    rng = np.random.default_rng(seed)
    correct = (rng.random(n) < 0.5).astype(float)
    raw = correct + rng.normal(0, 1.5, n)
    parts = raw, 1 / (1 + np.exp(-raw)), correct
    return (*(np.repeat(part, size) for part in parts), np.repeat(np.arange(n), size))


def test_statistics_are_those_of_all_questions():
    raw, calibrated, correct, facts = clustered()
    auroc, error, area = estimator_statistics(raw, calibrated, correct, facts).intervals()
    pairs = [(a > b) + 0.5 * (a == b) for a in raw[correct == 1] for b in raw[correct == 0]]
    assert auroc.mean == pytest.approx(np.mean(pairs))
    assert error.mean == expected_calibration_error(calibrated, correct)
    assert area.mean == risk_coverage(raw, correct).area
    assert estimator_statistics(raw, calibrated, correct * 0, facts) is None


def test_intervals_draw_facts_and_not_questions():
    raw, calibrated, correct, facts = clustered()
    auroc, _, _ = estimator_statistics(raw, calibrated, correct, facts).intervals()
    alone, _, _ = estimator_statistics(raw, calibrated, correct, np.arange(len(raw))).intervals()
    assert auroc.high - auroc.low > 1.5 * (alone.high - alone.low)


def test_the_interval_of_a_calibration_error_is_not_above_it():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(8):
        p = rng.random(400)
        correct = (rng.random(400) < p).astype(float)
        _, error, _ = estimator_statistics(p, p, correct, np.arange(400)).intervals()
        inside += error.low <= 0.02  # an estimator that is calibrated
    assert inside >= 7


def test_a_gain_is_over_the_same_draws():
    raw, calibrated, correct, facts = clustered()
    first = estimator_statistics(raw, calibrated, correct, facts)
    same = estimator_statistics(raw * 3 + 1, calibrated, correct, facts)
    assert same.gain(first) == (0, 0, 0)


def test_values_costs_and_notes_are_kept_in_order(tmp_path):
    made = DirectionValues()
    made.add("b", {"z": [1.0, np.nan], "a": [2.0]}, some_seconds=3)
    made.add("a", {"z": [0.5, 0.5]})
    made.notes["c"] = "no dropout: caf\u00e9"
    one = kept_values(Steps(tmp_path), "x", [1], lambda: made)
    two = kept_values(Steps(tmp_path), "x", [1], lambda: pytest.fail("computed again"))
    for found in (one, two):
        assert list(found.values) == [("b", "z"), ("b", "a"), ("a", "z")]
        assert found.costs == {("b", "some seconds"): 3.0}
        assert found.notes == made.notes
        np.testing.assert_array_equal(found.values["b", "z"], [1.0, np.nan])


def test_questions_of_a_fact_are_one_sample():
    asked = AskedQuestions(["a", "b", "c"], Lists.pack([[0], [0], [1]]), [[0, 1], [2]])
    padding = np.full((3, 7), -1)
    ids = np.concatenate([[[0, 5, 6], [5, 6, 7], [3, 1, 0]], padding], 1)
    found = asked.measures(ids)
    assert found["RR@10"].tolist() == [0.5, 0.5]
    assert found["R@10"].tolist() == [0.5, 1.0]


def test_a_run_goes_on_where_it_stopped(small, studied, result, capsys):
    kept = sorted((studied / "steps").glob("maps-*.safetensors"))
    assert len(kept) == 1
    kept[0].unlink()
    assert main([*WORDS, "--out", str(studied)]) == 0
    assert re.search(r"\d+ steps were kept from an earlier run", capsys.readouterr().out)
    again = read_result(studied / "directions.json", DIRECTIONS)
    assert again.measures == result.measures


def test_the_report_has_a_section_for_each_direction(studied):
    html = (studied / "report.html").read_text()
    for number in range(1, 5):
        assert f">Direction {number}: " in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"world": None}, "expected world, or model and data; got none of them"),
        ({"model": "m"}, "expected world, or model and data; got world, model"),
        ({"members": 1}, "members: expected 2 or more, got 1"),
        ({"alpha": 1.0}, "alpha: expected above 0 and below 1, got 1.0"),
        ({"directions": ("maps",)}, "n_facts: has no effect without injection"),
        ({"directions": ("maps", "maps")}, "directions: expected one or more different values"),
        ({"knock_out": ()}, "knock_out: expected one or more different values, got ()"),
        ({"dropout": 0.0}, "dropout: expected above 0 and below 1, got 0.0"),
        ({"test_split": "dev"}, "test_split: has no effect with world"),
    ],
)
def test_wrong_settings_are_errors(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings(**changed)


def test_a_collection_has_no_directions_that_train():
    with pytest.raises(ValueError, match="exposure needs a world"):
        DirectionSettings(model="m", data="d", directions=("exposure",))
    assert DirectionSettings(model="m", data="d").chosen == ("uncertainty", "maps")


@pytest.fixture(scope="module")
def collection(studied, cache, tmp_path_factory):
    """A world's questions as a collection, and its plain retriever, which has no dropout."""
    folder = tmp_path_factory.mktemp("collection")
    write_beir(make_world("tiny", seed=0), folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        shutil.copytree(world_subject(settings(), 0).plain, folder / "model")
    return folder


def test_a_collection_counts_each_query_once(collection, tmp_path):
    words = ["--model", str(collection / "model"), "--data", str(collection / "data")]
    found = {}
    for seeds in (["0"], ["0", "1"]):
        out = tmp_path / str(len(seeds))
        options = [*words, "--passes", "2", "--seeds", *seeds, "--out", str(out)]
        options += ["--dropout", "0.1"] if len(seeds) == 2 else []
        assert main(["mechanisms", "directions", *options]) == 0
        found[len(seeds)] = read_result(out / "directions.json", DIRECTIONS)
    for result in found.values():
        rows = {(row.direction, row.method, row.measure): row for row in result.measures}
        assert {row.direction for row in result.measures} == {"uncertainty", "maps"}
        assert rows["maps", "dense", "RR@10"].n == 108
    one, two = (
        next(row for row in found[n].measures if row.method == "dense" and row.measure == "RR@10")
        for n in (1, 2)
    )
    assert one.value == two.value
    assert [row.method for row in found[1].left_out] == ["Monte Carlo dropout"]
    assert "the model has no dropout; pass a rate" in found[1].left_out[0].reason
    assert not found[2].left_out


def test_other_judgments_are_other_steps(collection, tmp_path):
    data = shutil.copytree(collection / "data", tmp_path / "data")
    words = ["--model", str(collection / "model"), "--data", str(data), "--seeds", "0"]
    words += ["--directions", "maps", "--out", str(tmp_path / "out")]
    assert main(["mechanisms", "directions", *words]) == 0
    before = read_result(tmp_path / "out" / "directions.json", DIRECTIONS)
    lines = (data / "qrels" / "test.tsv").read_text().splitlines()
    moved = [line.split("\t") for line in lines[1:]]
    documents = [row[1] for row in moved]
    rows = [
        "\t".join((q, d, g))
        for (q, _, g), d in zip(moved, documents[1:] + documents[:1], strict=True)
    ]
    (data / "qrels" / "test.tsv").write_text("\n".join([lines[0], *dict.fromkeys(rows), ""]))
    assert main(["mechanisms", "directions", *words]) == 0
    after = read_result(tmp_path / "out" / "directions.json", DIRECTIONS)
    assert after.measures[0].value.mean < before.measures[0].value.mean


def test_more_facts_than_are_unknown_are_an_error(small):
    with pytest.raises(ValueError, match=r"n_facts: expected at most .* unknown to the base"):
        world_subject(settings(n_facts=100), 0)
