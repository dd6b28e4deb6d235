"""What a retriever finds for each fact of a world: the mean measure over the fact's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..evaluate import evaluate

if TYPE_CHECKING:
    from ..models import BiEncoder
    from ..world import World

MEASURE = "RR@10"
_DEPTH = 10
_WORDINGS = range(4)  # of questions; the last one is in no training


def fact_measures(world: World, model: BiEncoder, *, batch_size: int = 32) -> NDArray[np.float64]:
    """Ranks all passages for every wording of the question about each fact.

    Args:
        world: of facts and passages.
        model: the retriever.
        batch_size: texts in a forward pass.

    Returns:
        float64 ``[facts]``: RR@10, means over wordings.
    """
    mean: NDArray[np.float64] = wording_measures(world, model, batch_size=batch_size).mean(0)
    return mean


def wording_measures(
    world: World, model: BiEncoder, *, batch_size: int = 32
) -> NDArray[np.float64]:
    """Returns RR@10 of each wording, float64 ``[wordings, facts]``; see `fact_measures`.

    Args:
        world: of facts and passages.
        model: the retriever.
        batch_size: texts in a forward pass.
    """
    from ..retrieval.exact_search import search
    from ..world.retrieval_data import collection

    facts = range(len(world.facts))
    options: Any = {"batch_size": batch_size, "progress": False}
    first = collection(world, facts, paraphrases=(0,))
    vectors = model.encode_documents(first.documents, first.titles, **options)
    found = []
    for wording in _WORDINGS:
        asked = collection(world, facts, paraphrases=(wording,))
        rows = model.encode_queries(asked.queries, **options)
        ids = np.asarray(search(rows, vectors, _DEPTH).ids)
        found.append(evaluate(ids, asked.qrels, [MEASURE])[MEASURE])
    return np.stack(found)
