"""ServiceError: a request that is refused, as a status and one sentence in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


class ServiceError(Exception):
    """Ends a request.

    Args:
        status: of HTTP.
        message: operation, argument, expected, got.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

    def response(self) -> Response:
        """Returns the answer of the request."""
        return json_response({"error": self.message}, self.status, self.headers)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns an answer in JSON, in ASCII so that names with lone surrogates are valid UTF-8."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, headers, media_type="application/json")
