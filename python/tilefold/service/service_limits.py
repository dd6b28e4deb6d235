"""ServiceLimits: how much one request, the queue and a batch may hold."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """Limits of a service; a request beyond one of them is refused and costs little.

    Args:
        max_batch: queries in one call of the kernel; a request with more is a call of its own, and
            1 answers every request alone.
        max_queue: queries that wait for a call; beyond, requests get status 503.
        max_wait: seconds that a call waits for the requests of clients that were just answered. It
            waits at most a quarter of the time that the last call took, and never when idle.
        max_queries: queries in a request.
        max_k: results per query.
        max_query_chars: characters of a query's text.
        max_results: queries of a request times k.
        max_texts: queries of a request times k, where texts are returned.
        max_ids: ids of `allowed` and `exclude` together.
        max_body_bytes: bytes of a request's body.
        timeout: seconds for the body of a request to arrive, and again for its answer.

    Raises:
        ValueError: a limit that is not positive, or a queue that a single request overfills.

    Example:
        >>> ServiceLimits(max_k=50).max_k
        50
    """

    max_batch: int = 256
    max_queue: int = 4096
    max_wait: float = 0.005
    max_queries: int = 256
    max_k: int = 1000
    max_query_chars: int = 8192
    max_results: int = 65_536
    max_texts: int = 4096
    max_ids: int = 10_000
    max_body_bytes: int = 4 << 20
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            smallest = 0 if field.name == "max_wait" else 1e-3 if field.name == "timeout" else 1
            if not smallest <= value < 2**31:  # NaN, too
                raise ValueError(
                    f"ServiceLimits: {field.name} must be {smallest} to 2^31, got {value}"
                )
        if self.max_queue < self.max_queries:
            raise ValueError(
                f"ServiceLimits: max_queue must be at least max_queries, {self.max_queries}, "
                f"got {self.max_queue}"
            )
