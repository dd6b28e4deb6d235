"""Pairs of published checkpoints: a retriever and the model that it was trained from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Names on the Hugging Face hub, and the options of the retriever."""

    model: str
    base: str
    document_model: str | None = None  # encoder of passages, if it is another
    threshold: float = 0.1  # above which a neuron is active, as published
    options: dict[str, Any] = field(
        default_factory=dict
    )  # arguments of `BiEncoder.from_pretrained`


# Values of the reproducibility study (footnotes 4 to 9, and its section 5.1).
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
