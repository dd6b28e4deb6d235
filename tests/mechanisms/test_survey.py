"""Surveys of neurons: counts against loops, parts against the whole, and the verdicts on claims."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import WeightAttribution, pathway_overlap
from tilefold.mechanisms.neurons.survey import Survey


def attribution(texts: int = 12, *, power: float = 3, seed: int = 0) -> WeightAttribution:
    rng = np.random.default_rng(seed)
    parts = (rng.random((texts, 2, n)).astype(np.float32) ** power for n in (20, 7))
    return WeightAttribution(*parts, np.zeros((texts, 2, 2), np.float32))


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
    empty = WeightAttribution(*(np.zeros((2, 1, n), np.float32) for n in (4, 3, 2)))
    survey = Survey.of(empty)
    assert not survey.active.any()
    assert np.isnan(survey.gini).all()
