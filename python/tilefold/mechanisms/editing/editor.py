"""Defines what all editors have in common: the change of weights, apart from the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .cloze_batch import EditableLM
from .fact_edit import FactEdit
from .weight_delta import WeightDelta


class Editor(Protocol):
    """Computes the change of weights that adds or removes facts."""

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Returns the change; the model stays as it is."""
        ...
