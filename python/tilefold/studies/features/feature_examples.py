"""Chooses features to show, with the passages that have the largest codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.words import words_of
from .feature_result import MOST_SELECTIVE, MOST_USED, FeatureExample, FeaturePassage

LEAST_DOCUMENTS = 5  # that have a feature which is shown as selective: fewer would say little
_PASSAGES = 3
_WORDS = 3  # that all of them have
_LENGTH = 240  # characters shown of a passage


def feature_examples(codes: Any, documents: Sequence[str], n: int) -> tuple[FeatureExample, ...]:
    """Returns the most used features, and the most selective ones of those that 5 documents have.

    Args:
        codes: ``[documents, n_features]`` of scipy.sparse.
        documents: their texts.
        n: features of each kind, at most.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    from ...mechanisms import selectivity, top_feature_texts

    used = np.bincount(codes.indices, minlength=codes.shape[1])
    selective = selectivity(codes)
    often = np.where(used >= LEAST_DOCUMENTS, selective, -np.inf)
    lists = {MOST_USED: _largest(used, n, 1), MOST_SELECTIVE: _largest(often, n, 0)}
    chosen = [feature for features in lists.values() for feature in features]
    found = top_feature_texts(codes, chosen, top=_PASSAGES)
    words = [set(own) for own in words_of(documents, ENGLISH_STOP_WORDS)]
    frequencies = Counter(word for own in words for word in own)
    return tuple(
        FeatureExample(
            name,
            feature,
            int(used[feature]),
            round(float(selective[feature]), 4),
            tuple(
                FeaturePassage(" ".join(documents[hit.text].split())[:_LENGTH], hit.activation)
                for hit in found[feature]
            ),
            _shared_words([words[hit.text] for hit in found[feature]], frequencies),
        )
        for name, features in lists.items()
        for feature in features
    )


def _shared_words(passages: Sequence[set[str]], frequencies: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the words that all passages have, those of the fewest documents."""
    shared = set.intersection(*passages)
    return tuple(sorted(shared, key=lambda word: (frequencies[word], word))[:_WORDS])


def _largest(values: NDArray[Any], n: int, least: float) -> list[int]:
    """Returns the places of the largest values, of those that are at least as large."""
    order = np.argsort(-values, kind="stable")[:n]
    return [int(place) for place in order if values[place] >= least]
