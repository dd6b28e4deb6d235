"""The study of directions: its measures by hand, its references, and resumed runs."""

import re

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
from tilefold.studies.directions.direction_study import _statistics
from tilefold.studies.directions.direction_subject import (
    AskedQuestions,
    world_retrieval,
    world_subject,
)
from tilefold.studies.directions.exposure_direction import _batches, _made, labelled
from tilefold.studies.study_file import read_result

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
        difference = row.value.mean - reference.value.mean
        assert row.comparison.difference.mean == pytest.approx(difference, abs=1e-9)
        assert row.n == reference.n
        compared += 1
    assert compared > 20
    assert rows["injection", "ROME, one block", "stated"].n == 4
    assert rows["exposure", "plain DPR", "RR@10"].n == 108


def test_plain_measures_are_those_of_rankings_by_hand(small, studied, result):
    subject = world_subject(settings(), 0, Steps(studied / "steps"))
    retrieval = world_retrieval(settings(), subject, Steps(studied / "steps"))
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
    steps = Steps(studied / "steps")
    subject = world_subject(settings(), 0, steps)
    retrieval = world_retrieval(settings(), subject, steps)
    texts = [set(part.texts) for part in (retrieval.train, retrieval.fit, retrieval.test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
    assert len(retrieval.fit.groups) == len(retrieval.test.groups) == 54
    assert len({own.query_encoder.fingerprint() for own in retrieval.members}) == 2


def test_exposure_is_as_much_training_and_leaks_no_labelled_question(small, studied):
    subject = world_subject(settings(), 0, Steps(studied / "steps"))
    data = labelled(subject)
    world = subject.bound.world
    held_out = {world.questions(n)[wording] for n in subject.held_out for wording in range(4)}
    assert not held_out & set(data.queries)
    for method in ("crops of passages", "synthetic questions"):
        made = _made(subject, method)
        assert 0 < len(made) <= len(data)
        assert not set(made.questions) & set(data.queries)
    from tilefold.exposure import exposed_training_set, order_by_knowledge

    joined = exposed_training_set(data, made)
    total = len(data) // 64
    plain, first = (
        _batches(subject, joined, len(data), made, total, unknown) for unknown in (False, True)
    )
    assert len(plain) == len(first) == total
    asked = [row - len(data) for rows in first for row in rows if row >= len(data)]
    order = order_by_knowledge(made, subject.bound.model).tolist()
    assert asked == order[: len(asked)]


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
        for value in (row.auroc, row.calibration_error, row.risk_area):
            assert 0 <= value.low <= value.mean <= value.high <= 1 or value.mean == pytest.approx(
                np.clip(value.mean, value.low, value.high), abs=0.05
            )
    covered = [row for row in result.measures if row.measure == "sets with a relevant passage"]
    assert covered[0].value.mean > 0.7


def test_statistics_are_those_of_all_questions_and_draw_facts():
    rng = np.random.default_rng(0)
    facts = np.repeat(np.arange(30), 4)
    correct = np.repeat(rng.random(30) < 0.5, 4).astype(float)
    raw = correct + rng.normal(0, 1, 120)
    columns = {
        "confidence": raw,
        "calibrated confidence": 1 / (1 + np.exp(-raw)),
        "first is right": correct,
    }
    auroc, error, area = _statistics(columns, facts)
    pairs = [a > b for a in raw[correct == 1] for b in raw[correct == 0]]
    assert auroc.mean == pytest.approx(np.mean(pairs))
    assert error.mean == expected_calibration_error(columns["calibrated confidence"], correct)
    assert area.mean == risk_coverage(raw, correct).area
    alone = _statistics(columns, np.arange(120))
    assert auroc.low < auroc.mean < auroc.high
    assert auroc.high - auroc.low > 0.8 * (alone[0].high - alone[0].low)


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


def test_more_facts_than_are_unknown_are_an_error(small, tmp_path):
    with pytest.raises(ValueError, match=r"n_facts: expected at most .* unknown to the base"):
        world_subject(settings(n_facts=100), 0, Steps(tmp_path))
