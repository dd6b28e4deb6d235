"""A model that counts words, for tests of commands that encode."""

import re
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest


class WordEncoder:
    """Stands for a model: counts words, in 256 hashed dimensions."""

    dim = 256
    title_format = "{title} {text}"
    document_encoder = SimpleNamespace(pooling="mean")

    def encode_queries(
        self, texts: Sequence[str], titles: Sequence[str] = (), **options: object
    ) -> np.ndarray:
        assert not any(titles)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, sum(map(ord, word)) % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)

    def to(self, device: object) -> "WordEncoder":
        return self

    encode_documents = encode_corpus = encode_queries


def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Replaces the encoder; shows which model was asked for and with which options."""
    asked: dict[str, object] = {}

    def load(name: str, **options: object) -> WordEncoder:
        asked.update(options, name=name)
        return WordEncoder()

    module = SimpleNamespace(
        open_model=load,
        check_model=lambda name: None,
        model_record=lambda model, name: {"name": name, "weights": "words"},
    )
    monkeypatch.setitem(sys.modules, "tilefold.models.model_record", module)
    return asked
