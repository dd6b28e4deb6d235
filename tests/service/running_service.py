"""`tilefold serve` in a process of its own, and raw connections to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RunningService:
    """A process that serves."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Sends one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            sent = {"content-type": "application/json"} | (headers or {})
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            text = answer.read()
            found = answer.getheader("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if found else text.decode()

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, request: bytes) -> bytes:
        """Sends bytes and reads until the service closes the connection."""
        with self.connection() as connection:
            connection.sendall(request)
            return read_to_end(connection)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> str:
        """Ends it with SIGTERM, and returns what it wrote to stderr."""
        self.signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return errors


def read_to_end(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def environment(**variables: str) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if k != "TILEFOLD_SERVE_TOKEN"}
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables


@contextlib.contextmanager
def running(folder: Path, *options: str, **variables: str) -> Iterator[RunningService]:
    """Runs `tilefold serve` on a free port until the block ends."""
    command = [sys.executable, "-P", "-m", "tilefold", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        assert match, first + process.communicate(timeout=60)[1]
        yield RunningService(process, int(match[1]))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Load:
    """Clients in threads that ask on kept connections until the block ends.

    Attributes:
        statuses: of all answers.
        closed: how many requests ended without an answer, as their connection was closed.
        refused: how many clients ended as no connection was taken any more.
    """

    def __init__(self, service: RunningService, body: Any, clients: int = 4) -> None:
        self._service, self._body = service, json.dumps(body)
        self.statuses: list[int] = []
        self.closed = self.refused = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=30)
        headers = {"content-type": "application/json"}
        with contextlib.closing(connection):
            while not self._ended.is_set():
                try:
                    connection.request("POST", "/search", self._body, headers)
                    answer = connection.getresponse()
                    json.loads(answer.read())
                    self.statuses.append(answer.status)
                except ConnectionRefusedError:
                    self.refused += 1
                    return
                except ConnectionError:
                    self.closed += 1
                    connection.close()
