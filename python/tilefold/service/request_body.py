"""Reads the body of a request within a limit, whether its length is declared or not."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from .service_error import ServiceError

_CLOSE = {"connection": "close"}  # the rest of the body is not read


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body of a request that says it is JSON.

    Raises:
        ServiceError: 415 for another content type, 413 for a body that is too long, 400 where the
            client went away.
    """
    check_json_type(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_long(max_bytes)
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise _too_long(max_bytes)
    except ClientDisconnect:
        raise ServiceError(400, "the client closed the connection", _CLOSE) from None
    return bytes(body)


def check_json_type(request: Request) -> None:
    """Refuses other content types: a page of another site cannot send JSON without being allowed.

    Raises:
        ServiceError: 415.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        path = request.url.path
        raise ServiceError(415, f"{path}: the content type must be application/json", _CLOSE)


def _too_long(max_bytes: int) -> ServiceError:
    return ServiceError(413, f"the body must have at most {max_bytes:,} bytes", _CLOSE)
