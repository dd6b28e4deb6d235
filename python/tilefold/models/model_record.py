"""Opens models by name, and records which one encoded a corpus."""

from __future__ import annotations

from typing import Any

from .bi_encoder import BiEncoder
from .checkpoints.model_names import existing
from .fingerprint import weights_digest
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


def check_model(name: str) -> None:
    """Checks that there is a model of this name, without loading it.

    Args:
        name: as of `open_model`.

    Raises:
        ImportError: minilm is not installed.
        FileNotFoundError: there is no such folder, and no such model on the hub.
    """
    existing(find_model(name))


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
    settings = {**model.document_encoder.settings(), "title_format": model.title_format}
    return {"name": name, **settings, "weights": weights_digest(model.document_encoder)}
