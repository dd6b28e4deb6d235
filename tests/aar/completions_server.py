"""A completions endpoint on this machine, whose answers and failures a test scripts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """An answer to one request."""

    body: bytes | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    seconds: float = 0.0  # before anything is sent
    hang_up: bool = False  # close the connection without an answer


class Request(NamedTuple):
    """A request as it came."""

    path: str
    body: dict[str, Any]
    authorization: str | None
    time: float


Script = Callable[[Request, int], Reply]  # the number of requests before this one


def completion(text: str, **logprobs: float) -> Reply:
    """A completion as OpenAI's service writes it; logprobs are of "_A" for " A"."""
    choice: dict[str, Any] = {"text": text, "index": 0, "finish_reason": "length"}
    if logprobs:
        listed = {name.replace("_", " "): value for name, value in logprobs.items()}
        choice["logprobs"] = {"tokens": [text], "top_logprobs": [listed]}
    return Reply({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})


def echo(request: Request, n: int) -> Reply:
    """Answers with the last word of the prompt."""
    return completion(f" {request.body['prompt'].split()[-1]} indeed\nQ: more")


class CompletionsServer:
    """Serves while its `with` block runs.

    Args:
        script: the reply to each request; may be replaced at any time.
    """

    def __init__(self, script: Script = echo) -> None:
        self.script = script
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    @property
    def prompts(self) -> list[str]:
        return [request.body["prompt"] for request in self.requests]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> CompletionsServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *arguments: None  # clients give up on purpose
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = Request(
            handler.path,
            json.loads(content),
            handler.headers.get("Authorization"),
            time.monotonic(),
        )
        with self._lock:
            n = len(self.requests)
            self.requests.append(request)
        reply = self.script(request, n)
        time.sleep(reply.seconds)
        if reply.hang_up:
            handler.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
