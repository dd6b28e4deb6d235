"""Indexes, services and clients for tests of the service."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="not installed: pip install tilefold[serve]")

import tilefold
from tilefold.service import IndexSlot, ServiceLimits, create_app, open_served
from tilefold.service.served_index import QueryEncoder, served_fingerprint

DIM = 24


def random_vectors(rows: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


def saved_index(folder: Path, rows: int = 500, seed: int = 0, **options: Any) -> Path:
    index = tilefold.FlatIndex(DIM, **options)
    index.add(random_vectors(rows, seed))
    index.save(folder)
    return folder


def slot_of(folder: Path, **options: Any) -> IndexSlot:
    return IndexSlot(lambda: open_served(folder, **options), lambda: served_fingerprint(folder))


class HashEncoder:
    """Encodes a text as a vector that depends on it alone; counts its calls."""

    def __init__(self, dim: int = DIM) -> None:
        self.dim, self.calls = dim, []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        if any("broken" in text for text in texts):
            raise ValueError("encode: a broken text")
        seeds = [int.from_bytes(text.encode()[:8], "little") for text in texts]
        rows = [random_vectors(1, seed, self.dim)[0] for seed in seeds]
        rows = [
            row * np.nan if "nan" in text else row for row, text in zip(rows, texts, strict=True)
        ]
        return np.stack(rows)

    def query_encoder(self) -> QueryEncoder:
        return QueryEncoder(self, self.dim, {"name": "hash", "weights": "hash"})


class Answer:
    """An answer of a service."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


class Client:
    """Calls an ASGI application without a network."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        parts: Sequence[bytes] | None = None,
    ) -> Answer:
        """Sends one request; a body that is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        parts = [b"" if body is None else content] if parts is None else parts
        sent = {"host": "localhost", "content-type": "application/json"} | (headers or {})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in sent.items()],
        }
        messages = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]
        answered: list[Any] = []

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()  # the client waits

        async def send(message: Any) -> None:
            answered.append(message)

        await self.app(scope, receive, send)
        start = answered[0]
        found = {k.decode(): v.decode("latin-1") for k, v in start["headers"]}
        return Answer(start["status"], found, b"".join(m.get("body", b"") for m in answered[1:]))

    async def search(self, **body: Any) -> Answer:
        return await self.ask("POST", "/search", body)


@contextlib.asynccontextmanager
async def serving(*slots: IndexSlot, **options: Any) -> AsyncIterator[Client]:
    """Runs a service; its threads end with the block."""
    limits = ServiceLimits(**options.pop("limits", {}))
    app = create_app(slots, limits=limits, **options)
    try:
        yield Client(app)
    finally:
        await app.close()
