"""Loads `tilefold serve` with concurrent clients on this machine, with and without batches.

    python bench/serve_load.py --documents 1000000 --dim 384
    python bench/serve_load.py --documents 1000000 --dim 384 --texts

Random unit vectors are saved once in build/serve-load. For each number of clients, which keep their
connections and ask again as soon as they are answered, a server with batches and one with
`--max-batch 1` are measured in turn. The clients are one process that writes prepared requests and
only counts bytes of answers, since they share the CPUs with the server; every answer's status is
checked, and some answers' ids. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tilefold
from tilefold.testing.environment import machine

_ROWS = 100_000  # that are drawn at once
_PREPARED = 256  # different requests
_WORDS = ["protein", "virus", "dose", "trial", "growth", "blood", "gene", "tumour", "risk", "heart"]


class Measured(NamedTuple):
    """One load."""

    rate: float  # requests per second
    p50: float  # milliseconds
    p99: float
    batch: float  # queries per call of the kernel


def saved_index(documents: int, dim: int) -> Path:
    """Returns a folder with an index of random unit vectors, which is written once."""
    folder = Path("build/serve-load") / f"{documents}-{dim}"
    if not (folder / "manifest.json").is_file():
        rng, index = np.random.default_rng(0), tilefold.FlatIndex(dim, metric="ip")
        for begin in range(0, documents, _ROWS):
            rows = rng.standard_normal((min(_ROWS, documents - begin), dim), dtype=np.float32)
            index.add(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        folder.parent.mkdir(parents=True, exist_ok=True)
        index.save(folder)
    return folder


def bodies(dim: int, k: int, *, texts: bool) -> list[bytes]:
    """Returns the bodies of different requests of one query each."""
    rng = np.random.default_rng(1)
    if texts:
        queries = [" ".join(rng.choice(_WORDS, 8)) for _ in range(_PREPARED)]
        return [json.dumps({"queries": [query], "k": k}).encode() for query in queries]
    rows = rng.standard_normal((_PREPARED, dim), dtype=np.float32)
    # Seven digits, as a client that knows its numbers are float32 writes them.
    written = [[float(f"{x:.7g}") for x in row] for row in rows]
    return [json.dumps({"vectors": [row], "k": k}).encode() for row in written]


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[int]:
    """Runs `tilefold serve`; yields its port."""
    command = [sys.executable, "-m", "tilefold", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        assert found, line
        yield int(found[1])
    finally:
        process.terminate()
        process.communicate(timeout=60)


class Client(asyncio.Protocol):
    """A connection that asks again as soon as it is answered."""

    def __init__(self, requests: list[bytes], first: int, times: list[float]) -> None:
        self._requests, self._next, self.times = requests, first, times
        self._rest, self._begin = b"", 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Sends the next request where an answer is complete."""
        self._rest += data
        head, mark, body = self._rest.partition(b"\r\n\r\n")
        if not mark:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the service answered {self._rest[:300]!r}")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._rest = b""
        self.times.append(time.perf_counter() - self._begin)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Notes the end."""
        self.closed.set_result(None)

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def _send(self) -> None:
        self._next = (self._next + 1) % len(self._requests)
        self._begin = time.perf_counter()
        self._transport.write(self._requests[self._next])


def requests_of(contents: list[bytes]) -> list[bytes]:
    """Returns whole requests."""
    head = "POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return [f"{head}content-length: {len(c)}\r\n\r\n".encode() + c for c in contents]


async def load(port: int, contents: list[bytes], clients: int, seconds: float) -> list[float]:
    """Returns the times of all answers in some seconds, after one of warming up."""
    requests, loop = requests_of(contents), asyncio.get_running_loop()
    connected = [
        (
            await loop.create_connection(
                lambda i=i: Client(requests, i * 7, []),
                "127.0.0.1",
                port,  # type: ignore[misc]
            )
        )[1]
        for i in range(clients)
    ]
    await asyncio.sleep(1)
    for client in connected:
        client.times = []
    await asyncio.sleep(seconds)
    times = [one for client in connected for one in client.times]
    for client in connected:
        client.close()
    await asyncio.gather(*(client.closed for client in connected))
    return times


def batches(port: int) -> tuple[float, float]:
    """Returns the queries and the calls of the kernel so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    sums = [re.search(rf"^tilefold_batch_queries_{n} (\S+)", text, re.M) for n in ("sum", "count")]
    return tuple(float(found[1]) if found else 0.0 for found in sums)  # type: ignore[return-value]


def check(port: int, folder: Path, body: bytes) -> None:
    """Compares an answer of vectors with `FlatIndex.search`."""
    asked = json.loads(body)
    if "vectors" not in asked:
        return
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/search", body, headers)
    with urllib.request.urlopen(request) as answer:
        found = json.load(answer)
    index = tilefold.FlatIndex.load(folder, verify=False)
    expected = index.search(np.float32(asked["vectors"]), asked["k"])
    assert found["ids"] == expected.ids.tolist(), "the service's answer is not FlatIndex.search's"


def measure(
    port: int, contents: list[bytes], clients: int, seconds: float, repeats: int
) -> Measured:
    """Loads a server some times; the one with the median rate."""
    found = []
    for _ in range(repeats):
        before = batches(port)
        times = asyncio.run(load(port, contents, clients, seconds))
        queries, calls = (a - b for a, b in zip(batches(port), before, strict=True))
        p50, p99 = np.percentile(times, [50, 99]) * 1e3
        found.append(Measured(len(times) / seconds, p50, p99, queries / max(calls, 1)))
    middle = statistics.median_low([one.rate for one in found])
    return next(one for one in found if one.rate == middle)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    option = parser.add_argument
    option("--documents", type=int, default=1_000_000)
    option("--dim", type=int, default=384)
    option("--k", type=int, default=10)
    option("--clients", type=int, nargs="+", default=[1, 8, 64])
    option("--seconds", type=float, default=8, help="of each load (default: 8)")
    option("--repeats", type=int, default=3, help="the median of so many (default: 3)")
    option("--texts", action="store_true", help="queries are texts, encoded by MiniLM")
    option("--threads", type=int, help="of the server's search and model (default: all CPUs)")
    args = parser.parse_args()
    here = machine()
    folder = saved_index(args.documents, args.dim)
    contents = bodies(args.dim, args.k, texts=args.texts)
    options = ["--model", "minilm"] if args.texts else []
    options += [] if args.threads is None else ["--threads", str(args.threads)]
    rows: dict[tuple[int, str], Measured] = {}
    for name, batch in (("batches", []), ("one per call", ["--max-batch", "1"])):
        with server(folder, *options, *batch) as port:
            check(port, folder, contents[0])
            for clients in args.clients:
                rows[clients, name] = measure(port, contents, clients, args.seconds, args.repeats)
                print(f"  {name}, {clients}: {rows[clients, name]}", file=sys.stderr)
    kind = "texts, MiniLM" if args.texts else "vectors"
    print(f"{args.documents:,} x {args.dim} random unit vectors, k = {args.k}, {kind};")
    print(", ".join(f"{name} {value}" for name, value in here.items()) + "\n")
    print("| clients | | requests/s | p50, ms | p99, ms | queries per call | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (clients, name), one in sorted(rows.items()):
        ratio = one.rate / rows[clients, "one per call"].rate
        print(
            f"| {clients} | {name} | {one.rate:,.0f} | {one.p50:,.1f} | {one.p99:,.1f} "
            f"| {one.batch:.1f} | {ratio:.1f} |"
        )


if __name__ == "__main__":
    main()
