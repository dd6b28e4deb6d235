"""A retriever with given embeddings, and a task in which some queries are noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[analysis]")
pytest.importorskip(
    "sklearn", reason="scikit-learn is not installed: pip install tilefold[analysis]"
)

from tilefold.confidence import EncodedCorpus
from tilefold.ragged_lists import Lists


class KnownEmbeddings:
    """A retriever whose embeddings of texts are given."""

    def __init__(self, vectors: Mapping[str, Any]) -> None:
        self.vectors = {text: np.asarray(row, np.float32) for text, row in vectors.items()}
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str], prompts=None, **options) -> np.ndarray:
        """Embeddings of queries."""
        self.encoded += texts
        return np.stack([self.vectors[text] for text in texts])

    def encode_documents(self, texts: Sequence[str], titles=None, **options) -> np.ndarray:
        """Embeddings of documents; titles play no part."""
        return self.encode_queries(texts)

    def document_texts(self, texts: Sequence[str], titles=None) -> Sequence[str]:
        """Texts with titles before them."""
        if titles is None:
            return texts
        return [f"{title} {text}" for title, text in zip(titles, texts, strict=True)]


class NoisyTask:
    """Queries near their document, and noise queries anywhere, whose documents are drawn.

    Documents "d0", "d1", ... are directions; a query "q0", ... has one relevant document, and
    "q0 a" and "q0 b" are wordings of it. Wordings of a noise query differ as much as two queries.
    Even queries are near their document, odd ones are noise.
    """

    def __init__(self, n: int = 240, m: int = 40, dim: int = 16, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        documents = rng.normal(size=(m, dim))
        documents /= np.linalg.norm(documents, axis=1, keepdims=True)
        self.relevant = rng.integers(m, size=n)
        self.is_noise = np.arange(n) % 2 == 1
        self.documents = [f"d{i}" for i in range(m)]
        self.queries = [f"q{i}" for i in range(n)]
        vectors = {f"d{i}": row for i, row in enumerate(documents)}
        for i in range(n):
            for wording in ("", " a", " b"):
                near = documents[self.relevant[i]] + 0.1 * rng.normal(size=dim)
                anywhere = rng.normal(size=dim)
                anywhere[0] += 4  # so that a linear probe can tell noise
                row = 0.7 * anywhere / np.linalg.norm(anywhere) if self.is_noise[i] else near
                vectors[f"q{i}{wording}"] = row
        self.model = KnownEmbeddings(vectors)

    def corpus(self) -> EncodedCorpus:
        """Documents of the task, encoded."""
        return EncodedCorpus(self.model, self.documents)

    def part(self, start: int, stop: int) -> tuple[list[str], Lists]:
        """Queries from start to stop, and their relevant documents."""
        rows = range(start, stop)
        own = [[int(self.relevant[row])] for row in rows]
        return [self.queries[row] for row in rows], Lists.pack(own)
