"""Digests of training sets, for the keys of steps that depend on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..files.done_once import digest_of_array, digest_of_columns
from ..ragged_lists import Lists

if TYPE_CHECKING:
    from ..data import TrainingSet


def digest_of_training(data: TrainingSet) -> list[str]:
    """Returns digests of texts, titles, prompts and lists; not of answers and scores.

    Args:
        data: a training set.
    """
    texts = digest_of_columns(data.queries, data.documents, data.titles, data.prompts)
    lists = [data.positives, data.negatives]
    return [texts, *(digest_of_array(np.asarray(part)) for own in lists for part in Lists(*own))]
