"""Connections of uvicorn that end when headers are too slow or too long, or answers are not read.

uvicorn closes idle connections between requests, and has no limit for a client that never finishes
its headers or never reads its answer, nor, with httptools, for the length of headers. Trailers
behind a body in chunks are dropped: no request of this service has any, and they must not be merged
with headers (RFC 9110, section 6.5.1).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class GuardedProtocol(HttpToolsProtocol):
    """A connection.

    Attributes:
        header_seconds: from the start of a connection, or the first byte of a later request, to the
            end of the request's headers.
        max_header_bytes: of a request's headers, and of what is between and behind the chunks of
            its body.
        sending_seconds: in which a client has to read a part of its answer.
    """

    header_seconds = 15.0
    max_header_bytes = 64 << 10
    sending_seconds = 30.0

    def connection_made(self, transport: Any) -> None:
        """Starts the time for the headers of the first request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._in_headers, self._header_bytes = True, 0
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Refuses headers and trailers that are too long."""
        self._header_bytes += len(data)  # `on_body` sets it back
        super().data_received(data)
        if self._header_bytes > self.max_header_bytes and not self.transport.is_closing():
            self.logger.warning("Request headers are too long.")
            self.send_400_response("Request headers are too long.")
        elif self._is_idle():
            self._start_deadline()  # also where no request has begun, after an empty line

    def on_message_begin(self) -> None:
        """Starts to count the bytes of headers."""
        super().on_message_begin()
        self._in_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header, and drops a trailer."""
        if self._in_headers:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Notes that the bytes were none of headers."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends the request."""
        self._header_bytes = 0
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Ends the time for headers."""
        self._in_headers, self._header_bytes = False, 0
        self._end_deadline()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Starts the time for what the client has not read."""
        super().on_response_complete()
        if self._sending is None:
            self._watch_sending(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all times."""
        self._end_deadline()
        if self._sending is not None:
            self._sending.cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _start_deadline(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.header_seconds, self._expire)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_sending(self, before: int | None) -> None:
        self._sending, left = None, self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
        elif left:
            self._sending = self.loop.call_later(self.sending_seconds, self._watch_sending, left)

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
