"""Pairs of published checkpoints: a retriever, and what it was trained from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Names on the Hugging Face hub, and how the retriever reads."""

    model: str
    base: str
    document_model: str | None = None  # of passages, where they have an encoder of their own
    threshold: float = 0.1  # of active neurons, as in the reproducibility study
    options: dict[str, Any] = field(default_factory=dict)  # of `BiEncoder.from_pretrained`


# As the reproducibility study has them (footnotes 4 to 9, and its section 5.1).
PRESETS = {
    "dpr": Preset(
        "facebook/dpr-question_encoder-single-nq-base",
        "bert-base-uncased",
        "facebook/dpr-ctx_encoder-single-nq-base",
        options={
            "pooling": "cls",
            "normalize": False,
            "max_length": 256,
            "title_format": "{title} [SEP] {text}",
        },
    ),
    "contriever": Preset(
        "facebook/contriever",
        "bert-base-uncased",
        options={"pooling": "mean", "normalize": False, "max_length": 256},
    ),
    "repllama": Preset(
        "castorini/repllama-v1-7b-lora-passage",
        "meta-llama/Llama-2-7b-hf",
        threshold=0.01,
        options={
            "pooling": "last",
            "normalize": True,
            "append_eos": True,
            "query_prefix": "query: ",
            "document_prefix": "passage: ",
            "max_length": 256,
        },
    ),
}
