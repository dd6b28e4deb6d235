"""ServiceMetrics: counts and times of a service, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .index_slot import IndexSlot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = tuple(2**i for i in range(11))


class ServiceMetrics:
    """Metrics in a registry of their own.

    Args:
        slots: indexes that are served.
        queued: returns the number of queries that wait.

    Attributes:
        requests: by route and status; paths that do not exist are one route.
        latency: seconds of requests by route, from their headers to the end of their answer.
        batch_queries, batch_requests: of each call of the kernel.
        reloads: by outcome: replaced, unchanged, failed.
    """

    def __init__(self, slots: Sequence[IndexSlot], queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "tilefold_requests",
            "Requests that were answered.",
            ["route", "status"],
            registry=self._registry,
        )
        self.latency = Histogram(
            "tilefold_request_seconds",
            "Seconds from the headers of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_queries, self.batch_requests = (
            Histogram(
                f"tilefold_batch_{noun}",
                f"{noun.capitalize()} in one batch.",
                buckets=_SIZES,
                registry=self._registry,
            )
            for noun in ("queries", "requests")
        )
        self.reloads = Counter(
            "tilefold_reloads", "Reloads by outcome.", ["outcome"], registry=self._registry
        )
        for outcome in ("replaced", "unchanged", "failed"):
            self.reloads.labels(outcome)
        depth = Gauge("tilefold_queue_queries", "Queries that wait.", registry=self._registry)
        depth.set_function(queued)
        self._registry.register(_IndexCollector(slots))

    def observe_batch(self, works: int, size: int) -> None:
        """Counts a call of the kernel."""
        self.batch_requests.observe(works)
        self.batch_queries.observe(size)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _IndexCollector(Collector):
    """Collects the sizes and generations of indexes at each scrape."""

    def __init__(self, slots: Sequence[IndexSlot]) -> None:
        self._slots = slots

    def collect(self) -> Iterable[Metric]:
        rows: dict[str, tuple[str, Callable[[IndexSlot], float]]] = {
            "documents": ("Documents of an index.", lambda slot: len(slot.current.index)),
            "bytes": (
                "Bytes, mapped ones too.",
                lambda slot: slot.current.index.nbytes,
            ),
            "generation": ("1, and one more for each replacement.", lambda slot: slot.generation),
            "reload_failed": (
                "1 where the last reload failed and the old index is served.",
                lambda slot: slot.failure is not None,
            ),
        }
        for noun, (description, value) in rows.items():
            family = GaugeMetricFamily(f"tilefold_index_{noun}", description, labels=["index"])
            for number, slot in enumerate(self._slots):
                family.add_metric([str(number)], value(slot))
            yield family
