"""Collections of texts for tests of integrations, and an encoder of hashed words."""

import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

DIM = 48


def embedded(texts: list[str], dim: int = DIM) -> np.ndarray:
    """Sums a random direction for each word; the same in every process."""
    rows = np.zeros((len(texts), dim), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row += direction(word, dim)
    return rows


@functools.cache
def direction(word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(dim, dtype=np.float32)


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Collection:
    """A collection in BEIR's folders, as BEIR's loader gives it."""

    def __init__(self, folder: Path) -> None:
        self.corpus = {
            row["_id"]: {"title": row.get("title", ""), "text": row["text"]}
            for row in rows(folder / "corpus.jsonl")
        }
        queries = {row["_id"]: row["text"] for row in rows(folder / "queries.jsonl")}
        self.qrels: dict[str, dict[str, int]] = {}
        for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            self.qrels.setdefault(query, {})[document] = int(grade)
        self.queries = {id: text for id, text in queries.items() if id in self.qrels}


def failures_beside(change: Callable[[int], None], look: Callable[[], None]) -> list[Exception]:
    """Runs 150 changes while two threads look; returns what looking raised."""
    done, raised = threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            try:
                look()
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for step in range(150):
            change(step)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return raised
