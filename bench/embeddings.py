"""Real embeddings: the sentences of lama_trex through MiniLM, encoded once and kept.

    python bench/embeddings.py         encodes all of them

All 89,299 sentences take ten minutes or more on two cores. A bench run without them encodes for a
while and keeps what it has in parts, so that the next one goes on from there.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilefold.data import document_texts, read_beir

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "data" / "lama_trex" / "beir"
CACHE = ROOT / "build" / "bench-cache"
QUERIES = 5000  # as a search for hard negatives has
_PART = 2048  # sentences per file: about ten seconds of work


class Embeddings(NamedTuple):
    """Sentences ``[m, dim]``, of `total` in the corpus, and cloze queries ``[n, dim]``."""

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    total: int


def embed(
    corpus: Path, cache: Path, *, queries: int, seconds: float, limit: int | None = None
) -> Embeddings:
    """Embeddings of as many sentences as are cached or can be encoded in time, at least one part.

    Args:
        corpus: a BEIR folder.
        cache: where embeddings are kept, in a folder per content of the corpus.
        queries: how many, spread over those of the corpus.
        seconds: how long to encode sentences; what was encoded earlier costs nothing.
        limit: first sentences to use; all by default.
    """
    collection = read_beir(corpus)
    sentences = document_texts(collection.documents, collection.titles)[:limit]
    content = hashlib.sha256((corpus / "corpus.jsonl").read_bytes()).hexdigest()[:12]
    kept = _Kept(cache / f"minilm-{content}-{len(sentences)}")
    parts: list[NDArray[np.float32]] = []
    deadline = time.monotonic() + seconds
    for begin in range(0, len(sentences), _PART):
        name = f"{begin:07d}"
        if name not in kept:
            if parts and time.monotonic() > deadline:
                break
            print(f"\nencode {corpus.parent.name} from sentence {begin:,} of {len(sentences):,}")
        parts.append(kept.encoded(name, sentences[begin : begin + _PART]))
    spread = np.linspace(0, len(collection.queries) - 1, queries).astype(int)
    asked = kept.encoded(f"queries-{queries}", [collection.queries[i] for i in spread])
    return Embeddings(np.concatenate(parts), asked, len(collection.documents))


class _Kept:
    """Embeddings in a folder, a file per part."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def __contains__(self, name: str) -> bool:
        return (self._folder / f"{name}.npy").exists()

    def encoded(self, name: str, texts: list[str]) -> NDArray[np.float32]:
        """The embeddings of that name; those of the texts if there are none yet."""
        path = self._folder / f"{name}.npy"
        if name not in self:
            temporary = self._folder / f"{name}.{os.getpid()}.npy"
            np.save(temporary, self._encoder.encode(texts, progress=f"encode {name}"))
            temporary.replace(path)
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return found

    @functools.cached_property
    def _encoder(self) -> Any:
        from tilefold.models import minilm  # not needed where everything was kept

        return minilm()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="a BEIR folder")
    corpus = parser.parse_args().corpus
    if not corpus.is_dir():
        parser.error(f"no corpus in {corpus}: name one with --corpus")
    found = embed(corpus, CACHE, queries=QUERIES, seconds=float("inf"))
    print(f"{len(found.documents):,} sentences and {len(found.queries):,} queries in {CACHE}")


if __name__ == "__main__":
    main()
