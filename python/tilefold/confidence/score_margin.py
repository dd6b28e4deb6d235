"""Margin: the lead of the first document over the second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .encoded_corpus import EncodedCorpus


class Margin:
    """Confidence is the difference of the first two scores.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> corpus = EncodedCorpus(
        ...     BiEncoder(minilm()), ["bills are due", "cats sleep"], progress=False
        ... )
        >>> sure, unsure = Margin().scores(corpus, ["cats", "green"])
        >>> bool(sure > 0.3 > unsure)
        True
    """

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> NDArray[np.float64]:
        """Computes the margin for each query, ``[n]``, 0 or more.

        Args:
            corpus: the retriever and its documents, two or more.
            queries: n texts.

        Raises:
            ValueError: a corpus of one document.
        """
        if len(corpus) < 2:
            raise ValueError("Margin.scores: expected 2 documents or more, got 1")
        first, second = corpus.search(queries, 2).scores.astype(np.float64).T
        margins: NDArray[np.float64] = first - second
        return margins
