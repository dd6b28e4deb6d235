"""HttpServer: binds an address, and serves an application there until a signal ends it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from .application import SearchService
from .guarded_protocol import GuardedProtocol
from .signalled_server import SignalledServer

_BACKLOG = 2048
_KEEP_ALIVE = 30  # seconds; proxies that keep connections want more than uvicorn's 5
_GRACE = 5.0  # seconds beyond the timeout of a request, to send its answer


class HttpServer:
    """An address that is bound, so that an error of it is known before anything is loaded.

    Args:
        host: name or address.
        port: 0 for a free one.

    Attributes:
        address: host and port that are bound.

    Raises:
        OSError: no such host, or the address is in use: names host and port.

    Example:
        >>> server = HttpServer("127.0.0.1", 0)
        >>> server.is_loopback
        True
        >>> server.close()
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = _bound_socket(host, port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        return ipaddress.ip_address(self.address[0].partition("%")[0]).is_loopback

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Gives the address back."""
        self._socket.close()

    def run(
        self,
        service: SearchService,
        *,
        timeout: float,
        max_connections: int,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """Serves until SIGTERM or SIGINT; SIGHUP reloads the indexes.

        At a signal, no new connection is taken, and requests in flight are answered; a second one
        ends it at once.

        Args:
            service: the application.
            timeout: seconds that requests in flight have at the end.
            max_connections: beyond, requests get status 503.
            started: is called when connections are taken.
        """
        config = uvicorn.Config(
            service,
            http=GuardedProtocol,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            limit_concurrency=max_connections,
            timeout_graceful_shutdown=int(timeout + _GRACE),
        )
        reload = service.endpoints.reload_all
        SignalledServer(config, reload=reload, started=started).run(sockets=[self._socket])


def _bound_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to the first address of a host."""
    option = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(error.errno, error.strerror, option) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, option) from None
    return bound
