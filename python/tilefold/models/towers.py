"""Loads two encoders from one model, from two, or as adapters over one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .adapters import CONFIG, Lora, add_lora, load_adapter
from .checkpoints import encoder_settings
from .checkpoints.announced_tokens import warn_of_missing_tokens
from .checkpoints.checkpoint import describe, existing, load
from .checkpoints.weights import find
from .encoder import Encoder

_ADAPTERS = "queries", "documents"  # of towers that share a model; BERT has layers called query


class Towers(NamedTuple):
    """The two encoders of a BiEncoder."""

    query: Encoder
    document: Encoder
    title_format: str | None = None

    def apart(self, *, share_model: bool) -> Towers:
        """Returns towers with weights of their own; a model that will be frozen may be shared."""
        own = {"projection": copy.deepcopy(self.query.projection)}
        document = self.query.with_options(**self.document.settings(), **own)
        if not share_model:
            document.model = copy.deepcopy(self.query.model)
        return self._replace(document=document)

    def add(self, lora: Lora, *, apart: bool) -> None:
        """Adds adapters: one that both use, or one for each, which share a model if they did."""
        query, document = self[:2]
        if query.adapter is not None or document.adapter is not None:
            raise ValueError("BiEncoder.from_pretrained: lora, but there is an adapter already")
        shared = query.model is document.model
        add_lora(query, **vars(lora), name=_ADAPTERS[0] if shared and apart else "default")
        if shared:
            document.model = query.model
        if shared and not apart:
            document.adapter = query.adapter
        else:
            add_lora(document, **vars(lora), name=_ADAPTERS[1] if shared else "default")


def with_overrides(options: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """Returns options of both encoders, overridden by those of one encoder that are not None."""
    return {**options, **{key: value for key, value in own.items() if value is not None}}


def two_towers(name: str | Path) -> Path | None:
    """Returns the folder if it holds two encoders, or None.

    Raises:
        FileNotFoundError: the name is a path, and there is no such folder.
    """
    path = find(existing(name), encoder_settings.FILE)
    if path is None or encoder_settings.read(path)[0] != "untied":
        return None
    if not Path(name).is_dir():
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(name)))
    return path.parent


def load_two(folder: Path, query: Mapping[str, Any], document: Mapping[str, Any]) -> Towers:
    """Loads untied towers that `save_pretrained` wrote; adapters of one model share it again."""
    title_format = encoder_settings.read(folder / encoder_settings.FILE)[1]["title_format"]
    q, d = folder / "query", folder / "document"
    bases = [_base(tower) for tower in (q, d)]
    if bases[0] is None or bases[0] != bases[1]:
        towers = Encoder.from_pretrained(q, **query), Encoder.from_pretrained(d, **document)
        return Towers(*towers, title_format)
    first = Encoder.from_pretrained(q, adapter=_ADAPTERS[0], **query)
    settings = describe(d).document
    model = load_adapter(first.model, d, _ADAPTERS[1])
    second = Encoder(model, first.tokenizer, **{**settings, **document, "adapter": _ADAPTERS[1]})
    return Towers(first, second, title_format)


def load_one(name: str | Path, query: Mapping[str, Any], document: Mapping[str, Any]) -> Towers:
    """Loads both towers from one checkpoint; one object where their settings are equal."""
    poolings = {options.get("pooling") for options in (query, document)}
    model, tokenizer, description = load(name, pooling=poolings.pop())
    own = {**description.query, **query}
    encoder = Encoder(model, tokenizer, **own)
    options = {**description.document, **document, "projection": encoder.projection}
    warn_of_missing_tokens(tokenizer, own, options)
    other = Encoder(model, tokenizer, **options)
    same = other.settings() == encoder.settings()
    return Towers(encoder, encoder if same else other, description.title_format)


def _base(folder: Path) -> Any:
    path = folder / CONFIG
    return (
        encoder_settings.read_json(path).get("base_model_name_or_path") if path.is_file() else None
    )
