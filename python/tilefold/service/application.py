"""Makes the ASGI application of a service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..retrieval.running_search import SearchResult
from .batched_search import SearchWork, answer_batch
from .batcher import Batcher
from .bearer_token import BearerToken
from .endpoints import Endpoints
from .gate import Gate
from .html_pages import reference_page, search_page
from .index_slot import IndexSlot
from .openapi_document import Endpoint, openapi_document
from .service_answers import Health, Refusal, Reloads, SearchAnswer, ServiceState
from .service_error import ServiceError, json_response
from .service_limits import ServiceLimits
from .service_metrics import ServiceMetrics

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_WRONG = {
    400: ("The body is not JSON.", Refusal),
    408: ("The body did not arrive in time.", Refusal),
    413: ("The body is too long.", Refusal),
    415: ("The content type is not application/json.", Refusal),
    422: ("An argument is wrong.", Refusal),
    503: ("The queue is full; the header Retry-After says when to come back.", Refusal),
    504: ("There was no answer in time.", Refusal),
}


class SearchService:
    """An ASGI application that answers searches of indexes.

    Args:
        slots: indexes; requests name them by their place.
        limits: of requests and batches.
        token: that requests must carry; None for no authentication.
        hosts: names by which it is reached without a token.
        num_threads: of the kernel.
    """

    def __init__(
        self,
        slots: Sequence[IndexSlot],
        limits: ServiceLimits,
        token: BearerToken | None,
        hosts: Collection[str],
        num_threads: int | None,
    ) -> None:
        self._slots, self._has_token = slots, token is not None
        self._metrics = ServiceMetrics(slots, lambda: self._batcher.queued)
        self._batcher: Batcher[SearchWork, SearchResult] = Batcher(
            partial(answer_batch, num_threads=num_threads),
            max_batch=limits.max_batch,
            max_queue=limits.max_queue,
            max_wait=limits.max_wait,
            observe=self._metrics.observe_batch,
        )
        self.endpoints = Endpoints(slots, limits, self._batcher, self._metrics)
        self._table = self._endpoint_table()
        self._search_page = search_page()
        self._gate = Gate(
            self._routed(),
            token=token,
            hosts=hosts,
            open_paths=[e.path for e in self._table if e.is_open],
            routes=[e.path for e in self._table],
            observe=self._observe,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, as ASGI has it."""
        await self._gate(scope, receive, send)

    async def close(self) -> None:
        """Answers what waits, and ends the thread; an ASGI server calls it at its end."""
        await self._batcher.close()

    async def openapi(self, request: Request) -> Response:
        """Returns this interface as an OpenAPI document."""
        return json_response(self._document())

    async def docs(self, request: Request) -> Response:
        """Returns this interface as a page."""
        return reference_page(self._document()).response()

    async def page(self, request: Request) -> Response:
        """Returns the page for trying queries, which holds no data."""
        return self._search_page.response()

    def _endpoint_table(self) -> list[Endpoint]:
        ends = self.endpoints
        html = {200: ("The page.", "text/html")}
        health = {200: ("It answers.", Health)}
        return [
            Endpoint(
                "/search",
                "POST",
                ends.search,
                {200: ("The results.", SearchAnswer), **_WRONG},
                body=ends.search_model,
            ),
            Endpoint("/info", "GET", ends.info, {200: ("The indexes.", ServiceState)}),
            Endpoint(
                "/reload",
                "POST",
                ends.reload,
                {
                    200: ("Every folder was read.", Reloads),
                    409: ("A folder is broken, and the old index is served.", Reloads),
                    415: _WRONG[415],
                },
                is_json=True,
            ),
            Endpoint("/health", "GET", ends.health, health, is_open=True),
            Endpoint("/ready", "GET", ends.ready, {**health, 503: _WRONG[503]}, is_open=True),
            Endpoint("/metrics", "GET", ends.metrics, {200: ("The metrics.", "text/plain")}),
            Endpoint(
                "/openapi.json", "GET", self.openapi, {200: ("The document.", "application/json")}
            ),
            Endpoint("/docs", "GET", self.docs, html),
            Endpoint("/", "GET", self.page, html, is_open=True),
        ]

    def _document(self) -> dict[str, Any]:
        dims = {slot.current.index.dim for slot in self._slots}
        dim = dims.pop() if len(dims) == 1 else None
        return openapi_document(self._table, has_token=self._has_token, dim=dim)

    def _routed(self) -> ASGIApp:
        app = Starlette(
            routes=[Route(e.path, e.answer, methods=[e.method]) for e in self._table],
            exception_handlers={
                ServiceError: _refuse,
                HTTPException: _refuse_route,
                Exception: _refuse_broken,
            },
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False  # to a URL with whatever host the request names
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self.close()

    def _observe(self, route: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.latency.labels(route).observe(seconds)


def create_app(
    slots: Sequence[IndexSlot],
    *,
    limits: ServiceLimits | None = None,
    token: BearerToken | None = None,
    hosts: Collection[str] = LOOPBACK,
    num_threads: int | None = None,
) -> SearchService:
    """Returns the ASGI application of a service.

    Args:
        slots: one or more indexes; requests name them by their place.
        limits: of requests and batches.
        token: that requests must carry; None for no authentication, for loopback addresses alone.
        hosts: names by which it is reached without a token.
        num_threads: of the kernel; by default `get_num_threads()`.

    Example:
        >>> slot = IndexSlot(lambda: open_served("index"), ...)  # doctest: +SKIP
        >>> uvicorn.run(create_app([slot]))  # doctest: +SKIP
    """
    return SearchService(slots, limits or ServiceLimits(), token, hosts, num_threads)


async def _refuse(request: Request, error: Any) -> Response:
    refusal: ServiceError = error
    return refusal.response()


async def _refuse_route(request: Request, error: Any) -> Response:
    """Answers unknown paths and wrong methods."""
    what = f"{request.method} " if error.status_code == 405 else ""
    message = f"{what}{request.url.path[:200]}: {error.detail.lower()}; see /docs"
    return ServiceError(error.status_code, message, error.headers).response()


async def _refuse_broken(request: Request, error: Exception) -> Response:
    """Answers after an error of the service itself, which the server logs."""
    return ServiceError(500, "an error of the service; its log has more").response()
