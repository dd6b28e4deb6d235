"""Loads a language model: its weights with their head, its tokenizer, its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..adapters import CONFIG as ADAPTER
from ..adapters import load_adapter
from . import encoder_settings
from .checkpoint import base_model_name, existing, load_tokenizer
from .weights import check_head, find, load_weights

# Ends of the names of transformers' classes.
_CAUSAL = "ForCausalLM", "LMHeadModel"
_ENCODERS = "WithLMHeadModel"  # of XLM and FlauBERT


class LanguageModelCheckpoint(NamedTuple):
    """A model with its tokenizer, and settings as arguments of its class."""

    model: nn.Module
    tokenizer: Any
    settings: dict[str, Any]


def load_language_model(
    kind: Any, name: str | Path, *, dtype: torch.dtype, adapter: str = "default"
) -> LanguageModelCheckpoint:
    """Loads a language model that transformers, peft or `save_pretrained` wrote.

    Args:
        kind: an auto class of transformers, such as `AutoModelForCausalLM`.
        name: folder or hub name; of an adapter, the model that it names is loaded with it.
        dtype: precision of the weights.
        adapter: the name that an adapter gets.

    Raises:
        OSError: there is no such model.
        ValueError: weights are missing, do not fit, or are not used; among them the head. Or the
            folder is that of a unified model.
    """
    source = existing(name)
    settings = _settings(source)
    if find(source, ADAPTER) is None:
        model = _loaded(kind, source, dtype)
        check_head(model, source)
        return LanguageModelCheckpoint(model, load_tokenizer(source), settings)
    below = load_language_model(kind, base_model_name(source), dtype=dtype)
    has_tokenizer = find(source, "tokenizer_config.json") is not None
    return LanguageModelCheckpoint(
        load_adapter(below.model, source, adapter),
        load_tokenizer(source) if has_tokenizer else below.tokenizer,
        {**below.settings, **settings, "adapter": adapter},
    )


def _loaded(kind: Any, source: str, dtype: torch.dtype) -> nn.Module:
    """Loads weights; of a model of another kind, transformers would list all that it knows."""
    try:
        model: nn.Module = load_weights(kind, source, dtype=dtype, all_used=True)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        import transformers

        found = transformers.AutoConfig.from_pretrained(source).model_type
        raise ValueError(
            f"{source} has a model of type {found}, which is no {kind.__name__}"
        ) from None
    return model


def is_encoder_decoder(name: str | Path) -> bool:
    """Reads from a model's configuration, without its weights, whether it is an encoder-decoder.

    Args:
        name: folder or hub name; of an adapter, the model that it names counts.

    Raises:
        OSError: there is no such model.
        ValueError: transformers does not know its configuration.
    """
    import transformers

    source = existing(name)
    if find(source, ADAPTER) is not None:
        return is_encoder_decoder(base_model_name(source))
    return bool(transformers.AutoConfig.from_pretrained(source).is_encoder_decoder)


def has_language_model(name: str | Path) -> bool:
    """Reads from a model's configuration whether it is a causal language model with its head.

    Args:
        name: folder or hub name; one of an adapter alone is none.

    Raises:
        OSError: there is no such model.
    """
    path = find(existing(name), "config.json")
    config = {} if path is None else encoder_settings.read_json(path)
    if config.get("is_encoder_decoder"):
        return False
    names = config.get("architectures") or ()
    return any(one.endswith(_CAUSAL) and not one.endswith(_ENCODERS) for one in names)


def _settings(name: str) -> dict[str, Any]:
    path = find(name, encoder_settings.FILE)
    if path is None:
        return {}
    kind, record = encoder_settings.read(path)
    if kind == "unified":
        raise ValueError(
            f"{name} holds a retriever and a generator: use tilefold.invar.UnifiedLM.load"
        )
    return record if kind == "language model" else {}
