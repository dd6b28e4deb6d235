"""Holds what a target LM answered to the questions of a task, and how often it was right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TaskResult:
    """Answers of a target LM, and their values for `bootstrap` and `paired_test`."""

    task: str  # "MMLU" or "PopQA"
    target: str  # name of the LM
    n_passages: int  # read per question at most; 0 for closed book
    ids: tuple[str, ...]  # of the questions
    answers: tuple[str, ...]  # as written or chosen
    values: NDArray[np.float64]  # [n] 1 where the answer is right, otherwise 0
    summary: dict[str, float]  # named figures, the one of the paper's tables first
    parts: dict[str, float]  # accuracy by subject (MMLU) or relation (PopQA)

    @property
    def accuracy(self) -> float:
        """The figure of the paper's tables: the first of the summary."""
        return next(iter(self.summary.values()))
