"""Endpoints: what a service answers to each request that passed the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from ..retrieval.running_search import SearchResult
from ..version import __version__
from .batched_search import SearchWork
from .batcher import Batcher, QueueFullError
from .index_slot import IndexSlot
from .request_body import check_json_type, read_json_body
from .search_request import names_documents, parse_request, request_model, work_of
from .service_answers import index_state, search_answer, shown_limits
from .service_error import ServiceError, json_response
from .service_limits import ServiceLimits
from .service_metrics import CONTENT_TYPE, ServiceMetrics


class Endpoints:
    """The endpoints of indexes.

    Args:
        slots: indexes, by their number in requests.
        limits: of a request.
        batcher: answers what was checked.
        metrics: of the service.
    """

    def __init__(
        self,
        slots: Sequence[IndexSlot],
        limits: ServiceLimits,
        batcher: Batcher[SearchWork, SearchResult],
        metrics: ServiceMetrics,
    ) -> None:
        self._slots, self._limits = slots, limits
        self._batcher, self._metrics = batcher, metrics
        self.search_model = request_model(limits, len(slots))

    async def search(self, request: Request) -> Response:
        """Returns the k best documents of each query, exactly."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.timeout):
                body = await read_json_body(request, limits.max_body_bytes)
        except TimeoutError:
            message = f"search: the body did not arrive within {limits.timeout:g} seconds"
            raise ServiceError(408, message, {"connection": "close"}) from None
        asked = parse_request(self.search_model, body)
        served = self._slots[asked.index].current
        if names_documents(asked):  # the first time after a reload takes a second for millions
            await asyncio.to_thread(served.look_up_names)
        work = work_of(asked, served, limits)
        found = await self._answer(work)
        return json_response(search_answer(found, work.served, texts=asked.return_texts))

    async def reload(self, request: Request) -> Response:
        """Reloads the folders; an index that changed and is complete replaces the one served."""
        check_json_type(request)
        outcomes = await self.reload_all()
        failed = "failed" in outcomes
        answer = {"outcomes": outcomes, "indexes": [index_state(slot) for slot in self._slots]}
        return json_response(answer, 409 if failed else 200)

    async def reload_all(self) -> list[str]:
        """Reloads all indexes, and returns the outcomes."""
        outcomes = [await slot.reload() for slot in self._slots]
        for outcome in outcomes:
            self._metrics.reloads.labels(outcome).inc()
        return outcomes

    async def health(self, request: Request) -> Response:
        """Tells whether the service answers, and whether a reload failed."""
        failed = any(slot.failure for slot in self._slots)
        generations = [slot.generation for slot in self._slots]
        status = "degraded" if failed else "ok"
        return json_response({"status": status, "generations": generations})

    async def ready(self, request: Request) -> Response:
        """Tells whether a request would be taken now: status 503 while the queue is full."""
        if self._batcher.queued >= self._limits.max_queue:
            raise queue_full()
        return await self.health(request)

    async def info(self, request: Request) -> Response:
        """Describes the indexes and the limits of requests."""
        states = [index_state(slot) for slot in self._slots]
        answer = {"version": __version__, "indexes": states, "limits": shown_limits(self._limits)}
        return json_response(answer)

    async def metrics(self, request: Request) -> Response:
        """Returns metrics in Prometheus' text format."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _answer(self, work: SearchWork) -> SearchResult:
        try:
            async with asyncio.timeout(self._limits.timeout):
                return await self._batcher.submit(work, work.n_queries)
        except TimeoutError:
            message = f"search: no answer within {self._limits.timeout:g} seconds"
            raise ServiceError(504, message) from None
        except QueueFullError:
            raise queue_full() from None
        except ValueError as error:  # of these queries alone, such as a text encoded as NaN
            raise ServiceError(422, str(error)) from None


def queue_full() -> ServiceError:
    """Returns the error for a queue without room."""
    return ServiceError(503, "search: the queue is full; try again", {"retry-after": "1"})
