"""Comparisons of a model with its base: claims C1 and C2, over samples and over runs."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import WeightAttribution
from tilefold.mechanisms.neurons.survey import Survey
from tilefold.mechanisms.probing.sweep import Probed
from tilefold.studies.findings import mean_of_runs
from tilefold.studies.neurons.surveys import compare_spread, count_active
from tilefold.studies.paired_comparison import group_means
from tilefold.studies.probe.probe_study import compare_discrimination


def attribution(texts: int = 12, *, power: float = 3, seed: int = 0) -> WeightAttribution:
    rng = np.random.default_rng(seed)
    parts = (rng.random((texts, 2, n)).astype(np.float32) ** power for n in (20, 7))
    return WeightAttribution(*parts, np.zeros((texts, 2, 2), np.float32))


def test_nothing_is_tested_where_no_neuron_is_active():
    empty = WeightAttribution(*(np.zeros((2, 1, n), np.float32) for n in (4, 3, 2)))
    survey = Survey.of(empty)
    rows = {row.name: row for row in compare_spread(survey, survey)}
    assert np.isnan(rows["Gini index"].p)


def test_more_even_attributions_are_said_to_be_compare_spread():
    centred, even = Survey.of(attribution(40, power=8)), Survey.of(attribution(40, power=1))
    rows = {row.name: row for row in compare_spread(centred, even)}
    for name in ("effective number of neurons", "active neurons, above 0.1"):
        assert rows[name].difference[1] > 0
        assert rows[name].p < 0.01
    assert rows["Gini index"].difference[2] < 0
    same = {row.name: row for row in compare_spread(centred, centred, groups=[[0, 1], [2, 3]])}
    assert all(row.p == 1 and row.difference == (0, 0, 0) for row in same.values())
    assert "overlap of paraphrases" in same
    counts = count_active(centred, even)
    assert len(counts) == 4 * len(centred.thresholds)
    assert all(row.base <= row.model for row in counts if row.threshold == 0.1)
    half = even.at(0.3, share=0.5)
    own = [row for row in counts if row.threshold == 0.3]
    assert [row.model_half for row in own] == half.tolist()
    assert half.sum() < even.at(0.3).sum()
    with pytest.raises(ValueError, match="same texts"):
        compare_spread(centred, Survey.of(attribution(30)))


def test_paraphrases_count_as_one():
    values = np.array([1.0, 3.0, 5.0, 9.0])
    assert group_means(values, [[0, 3], [2]]).tolist() == [5.0, 5.0, 3.0]
    assert group_means(values, []).tolist() == values.tolist()
    one, other = Survey.of(attribution(40, power=4)), Survey.of(attribution(40, power=3.6))
    repeated = [list(range(i, i + 10)) for i in range(0, 40, 10)]
    alone, together = (
        {row.name: row for row in compare_spread(one, other, groups)} for groups in ([], repeated)
    )
    for name, row in alone.items():
        assert row.difference[0] == pytest.approx(together[name].difference[0])
        assert (row.n, together[name].n) == (40, 4)


def test_discrimination_is_averaged_over_layers():
    rng = np.random.default_rng(0)

    def probed(layer: int, n: int, right: float) -> Probed:
        return Probed("m", layer, "bilinear", n, "none", rng.random(400) < right)

    base = [probed(layer, n, 0.5) for layer in range(3) for n in (2, 3)]
    better = [probed(layer, n, 0.8 if n == 2 else 0.5) for layer in range(3) for n in (2, 3)]
    two, three = compare_discrimination(better, base)
    assert (two.name, three.name) == ("bilinear, of 2", "bilinear, of 3")
    mean = np.mean([result.correct for result in better if result.n_candidates == 2])
    assert two.model[0] == pytest.approx(mean)
    assert two.difference[1] > 0.2
    assert two.p < 0.001
    assert three.p > 0.01
    pairs = np.arange(400).reshape(-1, 2).tolist()
    assert compare_discrimination(better, base, pairs)[0].n == 200


def test_runs_have_an_interval_where_there_are_several():
    assert mean_of_runs([0.2]).mean == 0.2
    assert np.isnan(mean_of_runs([0.2]).low)
    mean, low, high = mean_of_runs([0.1, 0.3])
    assert (mean, high - mean) == (pytest.approx(0.2), pytest.approx(12.706 * 0.1, rel=1e-3))
    assert low == pytest.approx(mean - (high - mean))
