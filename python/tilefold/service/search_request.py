"""The body of a search: its schema, and the checks that precede a batch."""

from __future__ import annotations

from typing import Annotated, Any, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
)

from .batched_search import SearchWork
from .request_errors import ID, NAME, sentence_of
from .served_index import ServedIndex, Vectors
from .service_error import ServiceError
from .service_limits import ServiceLimits

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_ID = 2**63 - 1
_LARGEST_DIM = 65536
_LONGEST_NAME = 4096  # characters
_Number = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]


def _as_integer(value: Any) -> Any:
    """Returns 3 for 3.0: JSON has one kind of numbers, and its schemas call both integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _integer(smallest: int, largest: int) -> Any:
    # Limits come first, as pydantic's schemas show none of those around a validator.
    return Annotated[int, Field(ge=smallest, le=largest), BeforeValidator(_as_integer)]


def _kind_of_id(value: Any) -> str:
    return NAME if isinstance(value, str) else ID


def request_model(limits: ServiceLimits, n_indexes: int = 1) -> type[BaseModel]:
    """Returns the schema of a search of one of some indexes, within limits.

    JSON is validated as it is parsed: 384 numbers take 16 microseconds, where the `json` module
    needs 100 to parse them.
    """

    def optional(kind: Any, description: str, **rules: Any) -> Any:
        # A factory, so that the schema shows no default: null is not a value.
        return (kind, Field(default_factory=lambda: None, description=description, **rules))

    text = Annotated[str, Field(max_length=limits.max_query_chars, pattern=r"\S")]
    # Lists end at their first error: a body within its limit could have a million.
    vector = Annotated[list[_Number], Field(min_length=1, max_length=_LARGEST_DIM, fail_fast=True)]
    an_id: Any = _integer(0, _LARGEST_ID)
    a_name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]
    # One kind is chosen first, so that an error is of that kind alone.
    kinds: Any = Union[Annotated[an_id, Tag(ID)], Annotated[a_name, Tag(NAME)]]  # noqa: UP007
    either: Any = Annotated[kinds, Discriminator(_kind_of_id)]
    ids: Any = Annotated[list[either], Field(max_length=limits.max_ids, fail_fast=True)]
    queries = {"min_length": 1, "max_length": limits.max_queries, "fail_fast": True}
    return create_model(
        "SearchRequest",
        __config__=ConfigDict(extra="forbid", strict=True, json_schema_extra=_either),
        queries=optional(list[text], "Texts, which the model of the index encodes.", **queries),
        vectors=optional(list[vector], "Vectors, each with the dim of the index.", **queries),
        k=(_integer(1, limits.max_k), Field(10, description="Results per query.")),
        exclude=optional(
            list[ids],
            "Ids or names that a query may not retrieve: one list per query.",
            max_length=limits.max_queries,
            fail_fast=True,
        ),
        allowed=optional(ids, "Ids or names that may be retrieved, by all queries."),
        min_score=optional(_Number, "Results with smaller scores are left out."),
        index=(_integer(0, n_indexes - 1), Field(0, description="Which index, from 0.")),
        return_texts=(bool, Field(False, description="Whether to return titles and texts.")),
    )


def _either(schema: dict[str, Any]) -> None:
    """Adds what fields alone cannot say, and `parse_request` checks."""
    schema["oneOf"] = [{"required": ["queries"]}, {"required": ["vectors"]}]


def parse_request(model: type[BaseModel], body: bytes) -> Any:
    """Validates a body.

    Raises:
        ServiceError: 400 for no JSON, 422 for another value than the schema has.
    """
    try:
        request: Any = model.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        status = 400 if errors[0]["type"] == "json_invalid" else 422
        raise ServiceError(status, sentence_of(errors, "search", model.model_fields)) from None
    given = request.model_fields_set & {"queries", "vectors"}
    if len(given) != 1:
        found = "both" if given else "neither"
        raise ServiceError(422, f"search: expected either queries or vectors, got {found}")
    return request


def names_documents(request: Any) -> bool:
    """Returns whether filters of a request hold names."""
    lists = [request.allowed or (), *(request.exclude or ())]
    return any(isinstance(id, str) for ids in lists for id in ids)


def work_of(request: Any, served: ServedIndex, limits: ServiceLimits) -> SearchWork:
    """Checks a request against the index that will answer it, and what one field alone cannot say.

    Raises:
        ServiceError: 422, naming the argument, what was expected and what it got.
    """
    given = request.queries if request.vectors is None else request.vectors
    if request.exclude is not None and len(request.exclude) != len(given):
        raise ServiceError(
            422,
            f"search: exclude must have one list per query, {len(given)}, "
            f"got {len(request.exclude)}",
        )
    _check_sizes(request, len(given), served, limits)
    if request.min_score is not None and served.index.metric == "l2":
        raise ServiceError(422, "search: min_score is not for squared L2 distances, got a number")
    if request.queries is not None and served.encoder is None:
        raise ServiceError(
            422, "search: this index is served without a model; expected vectors, got queries"
        )
    vectors = None if request.vectors is None else _vectors(request.vectors, served)
    allowed = (
        None if request.allowed is None else np.unique(_ids("allowed", request.allowed, served))
    )
    exclude = request.exclude and [
        _ids(f"exclude[{i}]", ids, served) for i, ids in enumerate(request.exclude)
    ]
    return SearchWork(
        served,
        request.k,
        request.queries or (),
        vectors,
        exclude,
        allowed,
        request.min_score,
    )


def _check_sizes(request: Any, n_queries: int, served: ServedIndex, limits: ServiceLimits) -> None:
    """Refuses a small request whose answer or filters would be large."""
    results = n_queries * min(request.k, len(served.index))
    most = limits.max_texts if request.return_texts else limits.max_results
    if results > most:
        what = " with return_texts" if request.return_texts else ""
        raise ServiceError(
            422, f"search: queries x k must be at most {most}{what}, got {n_queries} x {request.k}"
        )
    n_ids = len(request.allowed or ()) + sum(map(len, request.exclude or ()))
    if n_ids > limits.max_ids:
        raise ServiceError(
            422,
            f"search: allowed and exclude must have at most {limits.max_ids} ids together, "
            f"got {n_ids}",
        )


def _vectors(rows: list[list[float]], served: ServedIndex) -> Vectors:
    dim = served.index.dim
    for i, row in enumerate(rows):
        if len(row) != dim:
            raise ServiceError(
                422, f"search: vectors[{i}] has dim {len(row)} but documents have dim {dim}"
            )
    return np.array(rows, np.float32)


def _ids(argument: str, given: list[int | str], served: ServedIndex) -> NDArray[np.int64]:
    try:
        return served.ids_of(given)
    except ValueError as error:
        raise ServiceError(422, f"search: {argument}: {error}") from None
