"""Loads the model that stage 1 starts from, and the retrievers that it trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .invar_settings import InvarSettings
from .invar_subject import InvarSubject

if TYPE_CHECKING:
    import torch

    from ...models import BiEncoder, Lora


def starting_retriever(
    subject: InvarSubject, settings: InvarSettings, seed: int, *, adapter: bool
) -> BiEncoder:
    """Loads the model of a study as a retriever, with a new adapter or without any.

    Args:
        subject: names the model.
        settings: size of the adapter, lengths and precision.
        seed: of the adapter's weights.
        adapter: whether there is one; without it, all weights are trained.
    """
    import torch

    from ...invar import UnifiedLM
    from ...models import BiEncoder

    torch.manual_seed(seed)
    lora = adapter_size(settings) if adapter else None
    query_prefix, passage_prefix = subject.prefixes
    pooling: dict[str, Any] = {} if subject.pooling is None else {"pooling": subject.pooling}
    if not subject.is_language_model:
        return BiEncoder.from_pretrained(
            subject.model,
            lora=lora,
            query_prefix=query_prefix,
            document_prefix=passage_prefix,
            query_max_length=settings.query_max_length,
            document_max_length=settings.document_max_length,
            **pooling,
        )
    if subject.pooling == "mean":  # an end token would be one of those that count
        pooling["append_eos"] = False
    prefixes = {"query_prefix": query_prefix, "passage_prefix": passage_prefix}
    return UnifiedLM.from_pretrained(
        subject.model,
        retrieval=lora,
        generation=None,
        dtype=precision(settings),
        query_max_length=settings.query_max_length,
        passage_max_length=settings.document_max_length,
        **{name: value for name, value in prefixes.items() if value is not None},
        **pooling,
    ).retriever


def trained_retriever(subject: InvarSubject, settings: InvarSettings, folder: Path) -> BiEncoder:
    """Loads a retriever that stage 1 trained, in the precision of its training.

    Args:
        subject: names the model.
        settings: of the study.
        folder: of the retriever, or of its adapter.
    """
    from ...invar import UnifiedLM
    from ...models import BiEncoder
    from ...models.adapters import CONFIG

    if settings.dtype == "float32" or not (folder / CONFIG).is_file():
        return BiEncoder.from_pretrained(folder)
    return UnifiedLM.from_pretrained(
        subject.model, retrieval=folder, generation=None, dtype=precision(settings)
    ).retriever


def adapter_size(settings: InvarSettings) -> Lora:
    """Returns size and places of an adapter."""
    from ...models import Lora

    targets: Any = settings.lora_targets
    if targets == ("all-linear",):
        targets = "all-linear"
    return Lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, targets)


def precision(settings: InvarSettings) -> torch.dtype:
    """Returns the precision of the language model's weights."""
    import torch

    return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32


def model_fingerprint(subject: InvarSubject, settings: InvarSettings) -> list[str]:
    """Returns digests of everything in the model that trainings depend on.

    Args:
        subject: names the model.
        settings: its precision.
    """
    from ...models import BiEncoder, CausalLM

    if subject.is_language_model:
        lm = CausalLM.from_pretrained(subject.model, dtype=precision(settings))
        return [lm.fingerprint(), settings.dtype]
    model = BiEncoder.from_pretrained(subject.model)
    towers = model.query_encoder, model.document_encoder
    return [*(tower.fingerprint() for tower in towers), model.title_format]
