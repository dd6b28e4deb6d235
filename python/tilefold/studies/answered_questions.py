"""Reads questions with judgments and answers, for studies in which language models answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import TrainingSet


def read_answered(path: str, split: str, answers: str | None = None) -> TrainingSet:
    """Reads questions with judgments and answers, without blank answers, which no LM could give.

    Args:
        path: a training file or a collection.
        split: of a collection.
        answers: file of answers that take the place of those of the source.

    Raises:
        OSError, ValueError: as of `read_training`, `read_questions` and `with_answers`.
    """
    from ..data import read_questions, read_training

    data = read_training(path, split=split)
    if answers is not None:
        data = data.with_answers(read_questions(answers))
    return dataclasses.replace(data, answers=[tuple(filter(str.strip, a)) for a in data.answers])
