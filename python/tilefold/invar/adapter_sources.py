"""Adds adapters to a language model: new ones, or those that were trained on the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from torch import nn

from ..models import Lora, add_lora
from ..models.adapters import base_name, load_adapter
from ..models.checkpoints.checkpoint import base_model_name, describe
from ..models.checkpoints.model_names import existing

RETRIEVAL: Final = "retrieval"  # names of the adapters, and of their folders
GENERATION: Final = "generation"
_BOTH = "pooling", "normalize", "append_eos"  # settings that queries and passages share


class _Adapted:
    """Holds what `add_lora` changes."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.adapter: Any = None


def add_adapter(model: nn.Module, source: Lora | str | Path, name: str) -> nn.Module:
    """Returns the model with one more adapter.

    Args:
        model: of transformers, perhaps with other adapters, which is changed in place.
        source: size of a new adapter; or folder or hub name of one that exists.
        name: of the adapter from here on.

    Raises:
        ValueError: the adapter does not fit, as of `add_lora` or `load_adapter`.
    """
    if isinstance(source, Lora):
        adapted = _Adapted(model)
        add_lora(adapted, **vars(source), name=name)
        return adapted.model
    return load_adapter(model, existing(source), name)


def retriever_options(model: nn.Module, source: str | Path) -> dict[str, Any]:
    """Returns the settings of a retriever's adapter, as arguments of `UnifiedLM`.

    Args:
        model: that the adapter is to be added to.
        source: folder or hub name; one without settings of an encoder has none of them.

    Raises:
        ValueError: it is an adapter of another model; it has a projection, or settings of queries
            and passages differ in more than prefix and length.
    """
    name = existing(source)
    bases = base_model_name(name), base_name(model)
    if bases[0] != bases[1]:
        raise ValueError(
            f"UnifiedLM.from_pretrained: {source} is an adapter of {bases[0]}, and the model is "
            f"{bases[1]}"
        )
    query, document, title_format, _ = describe(name)
    if query.get("projection") is not None:
        raise ValueError(f"UnifiedLM.from_pretrained: {source} has a projection; expected none")
    differ = [key for key in _BOTH if query.get(key) != document.get(key)]
    if differ:
        raise ValueError(
            f"UnifiedLM.from_pretrained: {source} has another {differ[0]} for queries than for "
            f"passages; expected prefixes and lengths alone to differ"
        )
    found = {key: query[key] for key in _BOTH if key in query}
    for tower, settings in (("query", query), ("passage", document)):
        for key in ("prefix", "max_length"):
            if key in settings:
                found[f"{tower}_{key}"] = settings[key]
    return found if title_format is None else {**found, "title_format": title_format}
