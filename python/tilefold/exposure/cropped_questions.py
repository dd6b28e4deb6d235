"""Takes parts of passages as questions about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..integers import as_integer
from .synthetic_questions import SyntheticQuestions

_OP = "cropped_questions"


def cropped_questions(
    documents: Sequence[str],
    *,
    n: int = 1,
    shares: tuple[float, float] = (0.1, 0.5),
    deletion: float = 0.1,
    seed: int = 0,
) -> SyntheticQuestions:
    """Takes random spans of documents as questions, as Contriever is trained.

    The document stays whole, so that it can be a positive as it is in the collection.

    Args:
        documents: texts; one without words gives no question.
        n: questions of each document; equal ones are joined.
        shares: lowest and highest share of a document's words in a span.
        deletion: probability of leaving out a word of a span; one word stays at least.
        seed: of the draws. A document's questions depend on it and on the document's place alone.

    Raises:
        ValueError: n below 1, or shares and deletion outside their ranges.

    Source: Izacard et al., "Unsupervised Dense Information Retrieval with Contrastive Learning",
    2022, section 3.1 and appendix A.1.

    Example:
        >>> made = cropped_questions(["the red fox runs over the hill", ""], seed=1)
        >>> made.questions, made.documents.of(0).tolist()
        (['over the'], [0])
    """
    n = as_integer(n, _OP, "n", at_least=1)
    low, high = shares
    if not 0 < low <= high <= 1:
        raise ValueError(f"{_OP}: shares must be above 0, ascending, at most 1, got {shares}")
    if not 0 <= deletion < 1:
        raise ValueError(f"{_OP}: deletion must be at least 0 and below 1, got {deletion}")
    questions, rows = [], []
    for row, text in enumerate(documents):
        words = text.split()
        rng = np.random.default_rng([seed, row])
        for _ in range(n if words else 0):
            size = max(1, round(rng.uniform(low, high) * len(words)))
            begin = int(rng.integers(len(words) - size + 1))
            kept = rng.random(size) >= deletion
            kept[int(rng.integers(size))] = True
            span = np.array(words[begin : begin + size], object)[kept]
            questions.append(" ".join(span))
            rows.append(row)
    return SyntheticQuestions.merged(questions, rows)
