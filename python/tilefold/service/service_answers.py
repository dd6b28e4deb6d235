"""The schemas of what a service answers, and the answer of a search."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..retrieval.running_search import SearchResult
from .index_slot import IndexSlot
from .served_index import ServedIndex
from .service_error import ServiceError
from .service_limits import ServiceLimits

_Count = Annotated[int, Field(ge=0)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AnsweringIndex(_Answer):
    """The generation of an index that answered."""

    name: str = Field(description="Name of its folder.")
    fingerprint: str = Field(description="Digest of the checksums of its folder.")


class SearchAnswer(_Answer):
    """Results of each query, best first; shorter than k where fewer documents are left."""

    index: AnsweringIndex
    ids: list[list[_Count]]
    scores: list[list[float]]
    names: list[list[str]] | None = Field(None, description="Left out for an index without names.")
    titles: list[list[str]] | None = Field(None, description="With return_texts.")
    texts: list[list[str]] | None = Field(None, description="With return_texts.")


class IndexState(AnsweringIndex):
    """An index as it is served now."""

    documents: _Count
    dim: _Count
    metric: str
    dtype: str | None
    has_names: bool
    has_texts: bool
    model: str | None = Field(description="Encodes queries; null where vectors alone are taken.")
    generation: _Count = Field(description="1, and one more for each replacement.")
    reload_error: str | None = Field(description="Why the last reload failed; null if it did not.")


class ServiceState(_Answer):
    """What is served."""

    version: str
    indexes: list[IndexState]
    limits: dict[str, float]


class Health(_Answer):
    """Whether the service answers; `degraded` where a reload failed and an old index is served."""

    status: str
    generations: list[_Count]


class Reloads(_Answer):
    """The outcome for each index: replaced, unchanged or failed."""

    outcomes: list[str]
    indexes: list[IndexState]


class Refusal(_Answer):
    """Why a request was refused."""

    error: str


def search_answer(found: SearchResult, served: ServedIndex, *, texts: bool) -> dict[str, Any]:
    """Returns a `SearchAnswer` as JSON has it; scores are exact, as float64 holds every float32.

    Raises:
        ServiceError: 422 for a score beyond float32, which JSON has no number for.
    """
    real = found.ids >= 0
    if not np.isfinite(found.scores[real]).all():
        query = int(np.argmax((real & ~np.isfinite(found.scores)).any(1)))
        raise ServiceError(
            422, f"search: scores of query {query} are beyond float32; expected smaller vectors"
        )
    counts = real.sum(1).tolist()  # without padding, which comes last
    ids = [row[:n] for row, n in zip(found.ids.tolist(), counts, strict=True)]
    scores = [row[:n] for row, n in zip(found.scores.tolist(), counts, strict=True)]
    index = {"name": served.name, "fingerprint": served.fingerprint}
    answer: dict[str, Any] = {"index": index, "ids": ids, "scores": scores}
    columns = {} if served.names is None else {"names": served.names}
    if texts and served.documents is not None:
        columns |= {"titles": served.documents.titles, "texts": served.documents.texts}
    for name, column in columns.items():
        answer[name] = [[column[i] for i in row] for row in ids]
    return answer


def index_state(slot: IndexSlot) -> dict[str, Any]:
    """Returns an `IndexState` as JSON has it."""
    served = slot.current
    return {
        "name": served.name,
        "fingerprint": served.fingerprint,
        "documents": len(served.index),
        "dim": served.index.dim,
        "metric": served.index.metric,
        "dtype": served.index.dtype,
        "has_names": served.names is not None,
        "has_texts": served.documents is not None,
        "model": _model_name(served),
        "generation": slot.generation,
        "reload_error": slot.failure,
    }


def _model_name(served: ServedIndex) -> str | None:
    """Returns the name of a model, without the path of a folder."""
    if served.encoder is None:
        return None
    name = str(served.encoder.record["name"])
    return Path(name).resolve().name if Path(name).exists() else name


def shown_limits(limits: ServiceLimits) -> dict[str, float]:
    """Returns the limits that a client has to keep."""
    own = ("max_batch", "max_queue", "max_wait")  # of the service
    values = dataclasses.asdict(limits)
    return {name: value for name, value in values.items() if name not in own}
