"""A search service over HTTP: `tilefold serve` answers queries from an index on disk.

Requests that wait at the same time become one call of the encoder and one of the kernel, whose
answers have the bits of `FlatIndex.search`. `create_app` makes the ASGI application, `HttpServer`
runs it.
"""

from __future__ import annotations

try:
    import prometheus_client as prometheus_client
    import pydantic as pydantic
    import starlette as starlette
    import uvicorn as uvicorn
except ImportError as error:
    raise ImportError(
        f"tilefold.service needs starlette, uvicorn, pydantic and prometheus-client ({error}): "
        'pip install "tilefold[serve]"'
    ) from error

from .application import LOOPBACK, create_app
from .http_server import HttpServer
from .index_slot import IndexSlot
from .served_index import ServedIndex, open_served
from .service_limits import ServiceLimits

__all__ = [
    "LOOPBACK",
    "HttpServer",
    "IndexSlot",
    "ServedIndex",
    "ServiceLimits",
    "create_app",
    "open_served",
]
