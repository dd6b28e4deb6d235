"""Writes and reads the folder of a UnifiedLM: its adapters, settings, and the model under them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Protocol

import torch

from ..files.published_folder import written_aside
from ..models import BiEncoder, CausalLM
from ..models.adapters import CONFIG, base_name, named
from ..models.checkpoints import encoder_settings
from ..models.checkpoints.checkpoint import base_model_name
from ..models.checkpoints.model_names import existing
from ..models.checkpoints.weights import find
from ..models.fingerprint import weights_digest
from .adapter_sources import GENERATION, RETRIEVAL, add_adapter

_BASE = "base"  # folder of the model under the adapters, where it is written


class Unified(Protocol):
    """The interface of a UnifiedLM that is written."""

    retriever: BiEncoder
    generator: CausalLM
    retrieval_in_generation: Any

    @property
    def plain(self) -> CausalLM: ...

    def has(self, part: Any) -> bool: ...


def check_plain(name: str | Path) -> None:
    """Checks that a name is that of a model without adapters.

    Raises:
        ValueError: it is that of a UnifiedLM, or of an adapter.
    """
    source = existing(name)
    settings = find(source, encoder_settings.FILE)
    if settings is not None and encoder_settings.read(settings)[0] == "unified":
        raise ValueError(f"UnifiedLM.from_pretrained: {name} has both adapters; use UnifiedLM.load")
    if find(source, CONFIG) is not None:
        raise ValueError(
            f"UnifiedLM.from_pretrained: {name} is an adapter; name the model that it was trained "
            f"on, and the adapter as `retrieval`"
        )


def write_unified(unified: Unified, folder: str | os.PathLike[str]) -> None:
    """Writes a folder for `read_unified`: see `UnifiedLM.save_pretrained`.

    Raises:
        FileExistsError: the folder is neither empty nor one that was saved before.
    """
    plain, retriever = unified.plain, unified.retriever
    base = base_name(plain.model)
    if not unified.has(RETRIEVAL) or _is_copy(base):
        base = ""
    with written_aside(folder, encoder_settings.FILE) as partial:
        if not base:
            plain.save_pretrained(partial / _BASE)
        # An adapter has an absolute name of its model, so that each can be loaded alone.
        own = Path(os.path.realpath(folder)) / _BASE
        with contextlib.ExitStack() as stack:
            if not base:
                stack.enter_context(named(plain.model, str(own)))
            if unified.has(RETRIEVAL):
                retriever.save_pretrained(partial / RETRIEVAL)
            if unified.has(GENERATION):
                alone = unified.generator.with_options(adapter=GENERATION)
                alone.save_pretrained(partial / GENERATION)
        record = {
            "base": base,
            "base_digest": weights_digest(plain),
            "dtype": str(next(plain.parameters()).dtype).removeprefix("torch."),
            "retrieval": unified.has(RETRIEVAL),
            "generation": unified.has(GENERATION),
            "retrieval_in_generation": unified.retrieval_in_generation,
            "query": retriever.query_encoder.settings(),
            "document": retriever.document_encoder.settings(),
            "title_format": retriever.title_format,
            "max_length": unified.generator.max_length,
        }
        encoder_settings.write(partial, "unified", record)


def read_unified(folder: str | Path) -> tuple[CausalLM, dict[str, Any]]:
    """Reads a folder that `write_unified` wrote.

    Returns:
        The language model with its adapters, and the other arguments of `UnifiedLM`.

    Raises:
        FileNotFoundError: there is no such folder, or a part of it is missing.
        ValueError: another kind of folder, a model with other weights than those that the adapters
            were trained on, or an adapter of another model.
    """
    path = Path(folder)
    if not (path / encoder_settings.FILE).is_file():
        raise FileNotFoundError(
            f"UnifiedLM.load: {folder} has no {encoder_settings.FILE}; load a language model by "
            f"UnifiedLM.from_pretrained"
        )
    kind, record = encoder_settings.read(path / encoder_settings.FILE)
    if kind != "unified":
        raise ValueError(f"UnifiedLM.load: expected a folder of a UnifiedLM, {folder} is {kind!r}")
    base = record["base"] or path / _BASE
    lm = CausalLM.from_pretrained(base, dtype=_dtype(path, record["dtype"]))
    if weights_digest(lm) != record["base_digest"]:
        raise ValueError(
            f"UnifiedLM.load: {base} has other weights than the model that {folder} was saved with"
        )
    for part in (RETRIEVAL, GENERATION):
        if record[part]:
            if record["base"] and base_model_name(str(path / part)) != record["base"]:
                raise ValueError(
                    f"UnifiedLM.load: {path / part} is an adapter of "
                    f"{base_model_name(str(path / part))}, and the model is {base}"
                )
            lm.model = add_adapter(lm.model, path / part, part)
    query, document = record["query"], record["document"]
    options = {
        "retrieval_in_generation": record["retrieval_in_generation"],
        "query_prefix": query["prefix"],
        "passage_prefix": document["prefix"],
        "query_max_length": query["max_length"],
        "passage_max_length": document["max_length"],
        "title_format": record["title_format"],
        "pooling": query["pooling"],
        "normalize": query["normalize"],
        "append_eos": query["append_eos"],
        "max_length": record["max_length"],
    }
    return lm, options


def _is_copy(name: str) -> bool:
    """Returns whether a model was written beside adapters, with which it would be removed."""
    path = Path(name)
    settings = path.parent / encoder_settings.FILE
    return (
        path.name == _BASE
        and settings.is_file()
        and encoder_settings.read(settings)[0] == "unified"
    )


def _dtype(folder: Path, name: str) -> torch.dtype:
    found = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(name)
    if found is None:
        raise ValueError(
            f"{folder / encoder_settings.FILE}: 'dtype' must be float32 or bfloat16, got {name!r}"
        )
    return found
