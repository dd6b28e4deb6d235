"""The OpenAPI document of a service, generated from its routes and the schemas that validate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..version import __version__
from .service_answers import Refusal

_REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Endpoint:
    """A route and what it takes and answers.

    Attributes:
        path, method: of the route.
        answer: from a request to a response; the first line of its docstring describes it.
        statuses: what each status means, and the schema of its body or its content type.
        body: schema of the request's body; None for no body.
        is_open: whether it is answered without a token.
        is_json: whether the content type of requests must be JSON, though they have no body.
    """

    path: str
    method: str
    answer: Any
    statuses: Mapping[int, tuple[str, type[BaseModel] | str]] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    is_open: bool = False
    is_json: bool = False


def openapi_document(
    endpoints: Sequence[Endpoint], *, has_token: bool, dim: int | None
) -> dict[str, Any]:
    """Returns the document, in OpenAPI 3.1.

    Args:
        endpoints: of the service.
        has_token: whether endpoints that are not open need the token.
        dim: of all indexes; None where they differ.
    """
    models = _models(endpoints)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE
    )
    schemas = definitions["$defs"]
    if dim is not None:
        schemas["SearchRequest"]["properties"]["vectors"]["items"] |= {
            "minItems": dim,
            "maxItems": dim,
        }
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, has_token)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    components: dict[str, Any] = {"schemas": schemas}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "tilefold serve", "version": __version__},
        "paths": paths,
        "components": components,
    }


def _models(endpoints: Sequence[Endpoint]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {Refusal: None}
    for endpoint in endpoints:
        bodies = [endpoint.body, *(body for _, body in endpoint.statuses.values())]
        found |= {body: None for body in bodies if isinstance(body, type)}
    return list(found)


def _operation(endpoint: Endpoint, has_token: bool) -> dict[str, Any]:
    summary = (endpoint.answer.__doc__ or "").partition("\n")[0]
    statuses = dict(endpoint.statuses)
    if has_token and not endpoint.is_open:
        statuses[401] = ("No token, or another one.", Refusal)
    if not has_token:
        statuses[403] = ("A page of another site.", Refusal)
        statuses[421] = ("The header Host names no loopback address.", Refusal)
    operation: dict[str, Any] = {
        "operationId": endpoint.answer.__name__,
        "summary": summary,
        "responses": {str(status): _response(*what) for status, what in sorted(statuses.items())},
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.body)}
    elif endpoint.is_json:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {}}},
        }
    if has_token and not endpoint.is_open:
        operation["security"] = [{"token": []}]
    return operation


def _response(description: str, body: type[BaseModel] | str) -> dict[str, Any]:
    if not isinstance(body, str):
        return {"description": description, "content": _content(body)}
    schema = {"type": "object" if body == "application/json" else "string"}
    return {"description": description, "content": {body: {"schema": schema}}}


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
