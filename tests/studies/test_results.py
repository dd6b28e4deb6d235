"""Studies are run from Python, and their results come back from JSON."""

import dataclasses
import json
import math
from functools import partial

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.data import write_training
from tilefold.evaluate import Interval
from tilefold.files.steps import Steps, digest_of
from tilefold.studies.findings import FINDINGS, FindingsSettings, run_findings
from tilefold.studies.neurons import NEURONS, NeuronSettings, run_neurons
from tilefold.studies.neurons.neuron_result import FactNeurons, KnowledgeNeurons
from tilefold.studies.paired_comparison import PairedComparison
from tilefold.studies.probe import PROBE, ProbeSettings, run_probe
from tilefold.studies.report_pages import mechanisms_report
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import (
    read_result,
    result_from_json,
    result_to_json,
    write_result,
)
from tilefold.world import make_world, world_models, world_retrievers
from tilefold.world.retrieval_data import split_facts, training_set

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorded(Reporter):
    """Keeps what is reported."""

    def __init__(self):
        self.titles, self.facts, self.warnings = [], [], []

    def started(self, title):
        self.titles.append(title)

    def fact(self, name, text):
        self.facts.append(name)

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def subject(tiny_bert, tmp_path_factory):
    """A retriever that is its own base, with data of a world."""
    world = make_world("tiny")
    data = tmp_path_factory.mktemp("data") / "train.jsonl"
    write_training(data, training_set(world, split_facts(world)[0][:30], paraphrases=(0,)))
    return {"model": str(tiny_bert), "base": str(tiny_bert), "data": str(data)}


@pytest.fixture(scope="module")
def probed(subject):
    settings = ProbeSettings(**subject, probes=["dot product"], candidates=[2], epochs=1)
    return run_probe(settings)


@pytest.fixture(scope="module")
def surveyed(subject):
    return run_neurons(NeuronSettings(**subject, queries=6, passages=3, steps=2, knock_out=[1, 90]))


def test_a_study_runs_from_python_and_prints_nothing(subject, tmp_path, capsys):
    settings = ProbeSettings(**subject, probes=["dot product"], candidates=[2], epochs=1)
    progress, steps = Recorded(), Steps(tmp_path / "steps")
    one = run_probe(settings, steps=steps, progress=progress)
    assert len(progress.titles) == 1
    assert progress.facts == ["samples", "probed", "probed", "probed"]
    assert steps.resumed == 0
    again = Steps(tmp_path / "steps")
    assert run_probe(settings, steps=again) == one
    assert again.resumed == 3
    assert run_probe(settings) == one
    assert capsys.readouterr() == ("", "")
    assert one.settings == settings
    assert {row.model for row in one.layers} == {"base", "retriever", "random weights"}
    assert one.discrimination[0].difference == (0, 0, 0)


def test_neurons_run_from_python_and_report_what_is_left_out(subject, surveyed, capsys):
    progress = Recorded()
    settings = dataclasses.replace(surveyed.settings, queries=1)
    run_neurons(settings, progress=progress)
    (warning,) = progress.warnings
    assert "queries to choose neurons from, and others to rank for" in warning
    assert capsys.readouterr() == ("", "")
    assert surveyed.facts is None
    assert {effect.neurons for effect in surveyed.rankings} == {0, 1}  # 90 are more than half
    assert all(row.difference == (0, 0, 0) for row in surveyed.passages.spread)


@pytest.mark.parametrize(("study", "name"), [(PROBE, "probed"), (NEURONS, "surveyed")])
def test_results_come_back_from_json(study, name, request):
    result = request.getfixturevalue(name)
    text = result_to_json(study, result)
    again = result_from_json(study, text)
    assert type(again) is study.result
    assert type(again.settings) is study.settings
    assert again.settings == result.settings
    assert result_to_json(study, again) == text
    assert json.loads(text)["study"] == study.name


def test_what_is_not_a_number_is_null_in_json_and_comes_back(surveyed):
    nan = Interval(*[math.nan] * 3)
    row = PairedComparison("overlap", nan, nan, nan, 0, math.nan)
    spread = (*surveyed.passages.spread, row)
    neurons = KnowledgeNeurons("attribution", 0.7, (1, 2), (3,), math.nan, 0.5, {"born in": 2})
    result = dataclasses.replace(
        surveyed,
        passages=dataclasses.replace(surveyed.passages, spread=spread),
        facts=FactNeurons(2, (neurons,), ()),
    )
    text = result_to_json(NEURONS, result)
    assert "NaN" not in text
    again = result_from_json(NEURONS, text)
    assert repr(again) == repr(result)  # NaN differs from itself
    assert isinstance(again.passages.spread[-1].model, Interval)


def signed(changed):
    """The text of a changed result, with the checksum of a writer."""
    made = {name: x for name, x in changed.items() if name not in ("format", "study", "checksum")}
    return json.dumps(changed | {"checksum": digest_of(made)})


def test_a_changed_result_is_refused_by_name(probed, tmp_path):
    write_result(tmp_path / "probe.json", PROBE, probed)
    text = (tmp_path / "probe.json").read_text()
    accuracy = json.loads(text)["layers"][0]["layer"]
    changed = text.replace(f'"layer": {accuracy}', f'"layer": {accuracy + 1}', 1)
    assert changed != text
    (tmp_path / "probe.json").write_text(changed)
    with pytest.raises(ValueError, match=r"probe\.json does not match its checksum: run probe"):
        read_result(tmp_path / "probe.json", PROBE)


@pytest.mark.parametrize("content", ["[]", "null", "{", "\xff", "[" * 100_000])
def test_garbage_in_the_place_of_a_result_is_a_clear_error(content, tmp_path):
    (tmp_path / "probe.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{tmp_path}.*(valid|expected a JSON object)"):
        read_result(tmp_path / "probe.json", PROBE)


def test_results_of_other_versions_and_studies_are_refused(probed):
    text = result_to_json(PROBE, probed)
    other = json.dumps({**json.loads(text), "format": 1})
    with pytest.raises(ValueError, match=r"a\.json was written by another version"):
        result_from_json(PROBE, other, "a.json")
    with pytest.raises(ValueError, match="expected a result of neurons, got one of probe"):
        result_from_json(NEURONS, text)
    fewer = json.loads(text)
    del fewer["samples"]["fitted"]
    with pytest.raises(ValueError, match=r"a\.json\.samples: expected the fields .*fitted"):
        result_from_json(PROBE, signed(fewer), "a.json")
    wrong = json.loads(text)
    wrong["layers"][0]["layer"] = "first"
    with pytest.raises(TypeError, match=r"layer: expected int, got 'first'"):
        result_from_json(PROBE, signed(wrong))


def test_findings_run_from_python(probed, tmp_path):
    for seed in (0, 1):
        settings = dataclasses.replace(probed.settings, seed=seed)
        (tmp_path / str(seed)).mkdir()
        write_result(
            tmp_path / str(seed) / "probe.json",
            PROBE,
            dataclasses.replace(probed, settings=settings),
        )
    result = run_findings(FindingsSettings(runs=[tmp_path / "0", tmp_path / "1"]))
    assert list(result.claims) == ["C1, probes"]
    assert result.claims["C1, probes"][0].differences == (0, 0)
    assert result_from_json(FINDINGS, result_to_json(FINDINGS, result)) == result
    (section,) = FINDINGS.sections(result)
    assert section.blocks[0].rows == [
        ["dot product, of 2", "+0.000 [+0.000, +0.000]", "+0.000 +0.000"]
    ]


def test_sections_and_summaries_are_made_of_results(probed, surveyed):
    page = mechanisms_report([(PROBE, probed), (NEURONS, surveyed)]).markdown()
    for heading in ("Accuracy of probes by layer", "Active neurons", "Settings and seeds"):
        assert f"## {heading}" in page
    assert "| epochs | 1 |" in page
    older = dataclasses.replace(probed, version="0.0.9")
    assert "| tilefold | 0.0.9 |" in mechanisms_report([(PROBE, older)]).markdown()
    assert [table.heading for table in NEURONS.summary(surveyed)][:2] == [
        "Spread of attributions over neurons, 6 queries",
        "Spread of attributions over neurons, 3 passages",
    ]
    with pytest.raises(ValueError, match="mechanisms_report: expected one result or more"):
        mechanisms_report([])


def test_a_world_is_studied_from_python(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(world_models, "pretrained", partial(world_models.pretrained, steps=2))
    monkeypatch.setattr(
        world_retrievers, "fine_tuned", partial(world_retrievers.fine_tuned, epochs=1)
    )
    settings = NeuronSettings(world="tiny", queries=8, passages=2, steps=2, facts=3, knock_out=[1])
    result = run_neurons(settings)
    assert result.facts.facts == 3
    assert [chosen.by for chosen in result.facts.chosen] == ["attribution", "activation"]
    assert result.constants["facts"] == 3
    text = result_to_json(NEURONS, result)
    assert result_to_json(NEURONS, result_from_json(NEURONS, text)) == text
