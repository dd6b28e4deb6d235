"""Attributions that do not add up are reported once for a study, and other warnings are left."""

import warnings

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import IncompleteAttributionWarning
from tilefold.studies.neurons.gap_reports import reported_gaps
from tilefold.studies.study import Reporter


class Recorded(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_gaps_are_reported_once():
    progress = Recorded()
    with reported_gaps(progress):
        for steps in (2, 3):
            warnings.warn(f"with {steps} steps", IncompleteAttributionWarning, stacklevel=1)
    assert progress.warnings == ["with 2 steps"]
    with pytest.raises(IncompleteAttributionWarning):  # an error in tests, as before
        warnings.warn("later", IncompleteAttributionWarning, stacklevel=1)


def test_other_warnings_are_what_they_were():
    progress = Recorded()
    with pytest.raises(UserWarning, match="another"), reported_gaps(progress):
        warnings.warn("another", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="another"), reported_gaps(progress):
        warnings.warn("another", UserWarning, stacklevel=1)
    assert progress.warnings == []
