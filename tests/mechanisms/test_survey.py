"""Surveys of neurons: counts against loops, parts against the whole, and the verdicts on claims."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import WeightAttribution, pathway_overlap
from tilefold.mechanisms.neurons.survey import Survey
from tilefold.mechanisms.probing.sweep import Probed
from tilefold.studies.findings.claims import by_group, discrimination, engaged, mean_of_runs, spread


def attribution(texts: int = 12, *, power: float = 3, seed: int = 0) -> WeightAttribution:
    rng = np.random.default_rng(seed)
    parts = (rng.random((texts, 2, n)).astype(np.float32) ** power for n in (20, 7))
    return WeightAttribution(*parts)


def test_a_survey_counts_as_a_loop_does():
    found = attribution()
    survey = Survey.of(found, threshold=0.15, thresholds=(0.02, 0.3))
    assert survey.thresholds == (0.02, 0.15, 0.3)
    for place, threshold in enumerate(survey.thresholds):
        counts = np.zeros((2, 20), np.int64)
        for text in range(12):
            most = max(found.intermediate[text].max(), found.output[text].max())
            active = found.intermediate[text] / most > threshold
            counts += active
            both = active.sum() + (found.output[text] / most > threshold).sum()
            assert survey.active[text, place] == both
        assert (survey.intermediate[place] == counts).all()
    names = ["0 intermediate", "0 output", "1 intermediate", "1 output"]
    assert list(survey.shares()) == names
    assert np.allclose(survey.shares()["1 intermediate"], survey.intermediate[1, 1] / 12)
    assert survey.at(0.02)[1] == (survey.output[0, 0] > 0).sum()
    assert survey.at(0.02, share=0.5)[1] == (survey.output[0, 0] >= 7).sum() > 0


def test_parts_make_the_whole_and_come_back_from_a_file():
    found = attribution()
    halves = (
        WeightAttribution(*(part[rows] for part in found)) for rows in (slice(5), slice(5, 12))
    )
    whole, merged = Survey.of(found), Survey.merged(Survey.of(half) for half in halves)
    again = Survey.from_arrays(whole.arrays())
    for name, array in whole.arrays().items():
        assert np.array_equal(merged.arrays()[name], array), name
        assert np.array_equal(again.arrays()[name], array), name
    assert again.thresholds == whole.thresholds


def test_only_surveys_of_one_kind_merge():
    with pytest.raises(ValueError, match="same thresholds"):
        Survey.merged([Survey.of(attribution()), Survey.of(attribution(), threshold=0.07)])
    with pytest.raises(ValueError, match="same thresholds"):
        Survey.merged([])


def test_overlaps_are_those_of_sets():
    found = attribution()
    survey = Survey.of(found, threshold=0.1)
    both = found.relative().flat()
    groups = [[0, 3, 5], [1, 2]]
    for value, group in zip(survey.overlaps(groups), groups, strict=True):
        sets = [{(0, int(i)) for i in np.flatnonzero(both[row] > 0.1)} for row in group]
        assert value == pytest.approx(pathway_overlap(sets))


def test_a_text_with_zero_attribution_has_no_active_neurons():
    empty = WeightAttribution(np.zeros((2, 1, 4), np.float32), np.zeros((2, 1, 3), np.float32))
    survey = Survey.of(empty)
    assert not survey.active.any()
    assert np.isnan(survey.gini).all()
    rows = {row["name"]: row for row in spread(survey, survey)}
    assert np.isnan(rows["Gini index"]["p"])


def test_more_even_attributions_count_as_spread():
    centred, even = Survey.of(attribution(40, power=8)), Survey.of(attribution(40, power=1))
    rows = {row["name"]: row for row in spread(centred, even)}
    for name in ("effective number of neurons", "active neurons, above 0.1"):
        assert rows[name]["difference"][1] > 0
        assert rows[name]["p"] < 0.01
    assert rows["Gini index"]["difference"][2] < 0
    same = {row["name"]: row for row in spread(centred, centred, groups=[[0, 1], [2, 3]])}
    assert all(row["p"] == 1 and row["difference"] == [0, 0, 0] for row in same.values())
    assert "overlap of paraphrases" in same
    counts = engaged(centred, even)
    assert len(counts) == 4 * len(centred.thresholds)
    assert all(row["base"] <= row["model"] for row in counts if row["threshold"] == 0.1)
    half = even.at(0.3, share=0.5)
    own = [row for row in counts if row["threshold"] == 0.3]
    assert [row["model_half"] for row in own] == half.tolist()
    assert half.sum() < even.at(0.3).sum()
    with pytest.raises(ValueError, match="same texts"):
        spread(centred, Survey.of(attribution(30)))


def test_paraphrases_count_as_one():
    values = np.array([1.0, 3.0, 5.0, 9.0])
    assert by_group(values, [[0, 3], [2]]).tolist() == [5.0, 5.0, 3.0]
    assert by_group(values, []).tolist() == values.tolist()
    one, other = Survey.of(attribution(40, power=4)), Survey.of(attribution(40, power=3.6))
    repeated = [list(range(i, i + 10)) for i in range(0, 40, 10)]
    alone, together = (
        {row["name"]: row for row in spread(one, other, groups)} for groups in ([], repeated)
    )
    for name, row in alone.items():
        assert row["difference"][0] == pytest.approx(together[name]["difference"][0])
        assert (row["n"], together[name]["n"]) == (40, 4)


def test_discrimination_is_averaged_over_layers():
    rng = np.random.default_rng(0)

    def probed(layer: int, n: int, right: float) -> Probed:
        return Probed("m", layer, "bilinear", n, "none", rng.random(400) < right)

    base = [probed(layer, n, 0.5) for layer in range(3) for n in (2, 3)]
    better = [probed(layer, n, 0.8 if n == 2 else 0.5) for layer in range(3) for n in (2, 3)]
    two, three = discrimination(better, base)
    assert (two["n_candidates"], three["n_candidates"]) == (2, 3)
    mean = np.mean([result.correct for result in better if result.n_candidates == 2])
    assert two["model"][0] == pytest.approx(mean)
    assert two["difference"][1] > 0.2
    assert two["p"] < 0.001
    assert three["p"] > 0.01
    pairs = np.arange(400).reshape(-1, 2).tolist()
    assert discrimination(better, base, pairs)[0]["n"] == 200


def test_runs_have_an_interval_where_there_are_several():
    assert mean_of_runs([0.2]).mean == 0.2
    assert np.isnan(mean_of_runs([0.2]).low)
    mean, low, high = mean_of_runs([0.1, 0.3])
    assert (mean, high - mean) == (pytest.approx(0.2), pytest.approx(12.706 * 0.1, rel=1e-3))
    assert low == pytest.approx(mean - (high - mean))
