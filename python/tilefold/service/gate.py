"""Gate: who may ask what, counted and timed, before a request reaches its endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .bearer_token import BearerToken
from .service_error import ServiceError

# Nothing of another origin is loaded, framed or sniffed; pages replace the policy by their own.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_CHALLENGE = {"www-authenticate": 'Bearer realm="tilefold"', "connection": "close"}


class Gate:
    """An ASGI application around another one.

    Without a token, requests are answered that name a loopback address as their host and come from
    no page of another site: else a page that a browser on this machine shows could ask for
    everything, by a name that leads here (DNS rebinding).

    Args:
        app: answers what is let through.
        token: that requests must carry; None for no authentication.
        hosts: names in the header "Host" that are answered without a token.
        open_paths: that are answered without a token.
        routes: paths that are counted under their own name.
        observe: is given route, status and seconds of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: BearerToken | None,
        hosts: Collection[str],
        open_paths: Collection[str],
        routes: Collection[str],
        observe: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)
        self._open, self._routes = frozenset(open_paths), frozenset(routes)
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self._refusal(scope)
            answer = self._app if refusal is None else refusal.response()
            await answer(scope, receive, send_with_headers)
        finally:
            path = scope["path"]
            route = path if path in self._routes else "other"
            self._observe(route, status, time.perf_counter() - begin)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        headers = Headers(scope=scope)
        if self._token is not None:
            if scope["path"] in self._open or self._token.matches(_authorization(headers)):
                return None
            message = "expected the header 'Authorization: Bearer TOKEN' with the service's token"
            return ServiceError(401, message, _CHALLENGE)
        if _host(headers) not in self._hosts:
            return ServiceError(
                421,
                f"without a token, the header Host must name {' or '.join(sorted(self._hosts))}; "
                "start tilefold serve with a token to be reached by other names",
                {"connection": "close"},
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers["host"]:
            message = "a page of another site may not ask a service without a token"
            return ServiceError(403, message, {"connection": "close"})
        return None


def _authorization(headers: Headers) -> bytes | None:
    values = headers.getlist("authorization")
    return values[0].encode("latin-1") if len(values) == 1 else None


def _host(headers: Headers) -> str:
    """Returns the host of the header without its port, in lower case; "" for several."""
    values = headers.getlist("host")
    host = values[0].strip().lower() if len(values) == 1 else ""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
