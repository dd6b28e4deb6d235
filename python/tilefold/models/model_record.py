"""Opens models by name, and records which one encoded a corpus."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .bi_encoder import BiEncoder
from .offline import find_model


def open_model(name: str, **settings: Any) -> BiEncoder:
    """Opens a retriever.

    Args:
        name: a folder, a Hugging Face name, or "minilm" for the installed all-MiniLM-L6-v2.
        **settings: of `BiEncoder.from_pretrained`; by default those that its folder has.

    Raises:
        ImportError: minilm is not installed.
        OSError: no such model.

    Example:
        >>> from tilefold.models.model_record import open_model
        >>> open_model("minilm").dim  # doctest: +SKIP
        384
    """
    return BiEncoder.from_pretrained(find_model(name), **settings)


def model_record(model: BiEncoder, name: str) -> dict[str, Any]:
    """Returns what vectors of documents depend on, to be kept beside them.

    Poolers are left out of the digest: they are not used, and are random where a checkpoint has
    none. `tilefold.retrieval.corpus.Corpus.check_model` compares two records.

    Args:
        model: that encodes documents.
        name: how it was opened.

    Returns:
        Name, settings of the document encoder, title format, and a digest
        of the weights under "weights".
    """
    digest = hashlib.blake2b(digest_size=8)
    for key, tensor in model.document_encoder.state_dict().items():
        if "pooler" in key.split("."):
            continue
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
    settings = {**model.document_encoder.settings(), "title_format": model.title_format}
    return {"name": name, **settings, "weights": digest.hexdigest()}
