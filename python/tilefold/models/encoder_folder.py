"""Writes the parts of an encoder to a folder: model or adapter, tokenizer, projection, modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import nn

from . import adapters
from . import projection as projections
from .checkpoints import sentence_transformers_folder as st
from .checkpoints.weights import quiet


class SavedEncoder(Protocol):
    """The interface of an Encoder that is written."""

    model: Any
    tokenizer: Any
    adapter: adapters.AdapterNames | None
    projection: nn.Module | None
    pooling: str
    normalize: bool
    prefix: str
    max_length: int
    append_eos: bool

    @property
    def below_head(self) -> str: ...

    def below(self) -> Any: ...

    def merge(self) -> SavedEncoder: ...


def write_encoder(encoder: SavedEncoder, folder: Path) -> dict[str, Any]:
    """Writes model or adapter, tokenizer and projection; returns the settings of the latter.

    Args:
        encoder: of a language model, the model without its head is written.
        folder: exists.

    Raises:
        ValueError: a projection, or a model, that could not be loaded again.
    """
    activations = projections.save(encoder.projection, folder)
    if encoder.adapter == ():  # without the adapters that the model has
        encoder = encoder.merge()
    if encoder.adapter is not None:
        prefix = encoder.below_head
        adapters.save_adapter(encoder.model, encoder.adapter, folder, below_head=prefix)
    else:
        if hasattr(encoder.model, "peft_config"):
            raise ValueError("save_pretrained: the model has adapters; name one with `adapter`")
        model = encoder.below()
        _check_saveable(model)
        with quiet():
            model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return {"projection": activations}


def write_sentence_transformers(
    encoder: SavedEncoder, folder: Path, documents: SavedEncoder
) -> Any:
    """Writes weights and modules of sentence-transformers; returns as `write_encoder`.

    Args:
        encoder: of queries.
        folder: exists.
        documents: differs in prefix and length alone.

    Raises:
        ValueError: an adapter, append_eos, or a pooling or projection that it lacks.
    """
    if encoder.adapter is not None:
        raise ValueError("export_sentence_transformers: there is an adapter; merge() it first")
    if encoder.append_eos or documents.append_eos:
        raise ValueError(
            "export_sentence_transformers: it appends no tokens; let the tokenizer's own "
            "post-processor do that rather than append_eos"
        )
    record = write_encoder(encoder, folder)
    towers = {"query": encoder, "document": documents}
    same = encoder.prefix == documents.prefix
    model: Any = encoder.model
    st.write(
        folder,
        pooling=encoder.pooling,
        normalize=encoder.normalize,
        dim=model.config.hidden_size,
        projection_module=encoder.projection,
        prefixes={task: tower.prefix for task, tower in towers.items()},
        max_lengths={task: tower.max_length for task, tower in towers.items()},
        default="document" if same and encoder.prefix else None,
    )
    return record


def _check_saveable(model: Any) -> None:
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    mappings: list[Any] = [MODEL_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING]
    kinds = [mapping.get(type(model.config), None) for mapping in mappings]
    if type(model) not in kinds:
        raise ValueError(
            f"save_pretrained: a {type(model).__name__} saved alone could not be loaded again; "
            f"AutoModel would expect another class"
        )
