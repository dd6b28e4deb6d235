"""Finds candidates of the training questions with the coarse encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..study import StepStore
from ..training_digest import digest_of_training
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject


@dataclass(frozen=True)
class CoarseCandidates:
    """Embeddings of the coarse encoder, and its candidates.

    Args:
        queries, documents: embeddings ``[n, d]`` and ``[m, d]`` of the training set.
        ranking: ``[n, depth]`` documents of each query, best first.
    """

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    ranking: NDArray[np.int64]


def coarse_candidates(
    subject: InvarSubject, settings: InvarSettings, steps: StepStore, **options: Any
) -> CoarseCandidates:
    """Encodes and searches, unless an earlier run did.

    Args:
        subject: the coarse encoder and the training questions.
        settings: number of candidates.
        steps: keeps embeddings and candidates.
        **options: of `BiEncoder.encode_queries`, such as batch_size and progress.
    """
    model, data = subject.coarse, subject.train
    towers = model.query_encoder.fingerprint(), model.document_encoder.fingerprint()
    depth = min(settings.depth, len(data.documents))

    def make() -> dict[str, NDArray[Any]]:
        from ...retrieval.exact_search import search

        queries = model.encode_queries(model.query_texts(data.queries, data.prompts), **options)
        documents = model.encode_documents(data.documents, data.titles, **options)
        ids = search(queries, documents, depth).ids
        return {"queries": queries, "documents": documents, "ids": ids}

    depends = [*towers, model.title_format, *digest_of_training(data), depth]
    kept = steps.once("coarse candidates", depends, make)
    return CoarseCandidates(kept["queries"], kept["documents"], kept["ids"].astype(np.int64))
