"""Loads a text encoder from any supported format: model, tokenizer, and settings of `Encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from .. import projection
from ..adapters import CONFIG as ADAPTER
from ..adapters import load_adapter
from . import encoder_settings, sentence_transformers_folder
from .dpr_weights import load_dpr
from .model_names import existing as existing
from .weights import find, load_weights, quiet

_NO_LIMIT = 2**30


class Description(NamedTuple):
    """Settings that a folder has, as arguments of the encoders of queries and of documents."""

    query: dict[str, Any]
    document: dict[str, Any]
    title_format: str | None = None
    default_prefix: str | None = None  # of texts that are neither, where the folder has one

    def updated(self, other: Description) -> Description:
        """Returns these settings, replaced by those that the other description has."""
        return Description(
            {**self.query, **other.query},
            {**self.document, **other.document},
            other.title_format or self.title_format,
            self.default_prefix if other.default_prefix is None else other.default_prefix,
        )


class Checkpoint(NamedTuple):
    """A model with its tokenizer and the settings of its folder."""

    model: nn.Module
    tokenizer: Any
    description: Description


def load(
    name: str | Path,
    *,
    pooling: str | None = None,
    adapter: str = "default",
) -> Checkpoint:
    """Loads a model in float32, its tokenizer, and settings such as pooling from its folder.

    Args:
        name: a folder or a name of the hub: of transformers, of sentence-transformers, of peft, of
            DPR, or what save_pretrained wrote for one model.
        pooling: takes precedence over the folder's; only "decoder" needs the decoder of a model
            that has one.
        adapter: the name that an adapter gets.

    Raises:
        OSError: there is no such model.
        ValueError: weights are missing, or the folder has a setting that is not supported.
    """
    found = _load(existing(name), pooling=pooling, adapter=adapter)
    model, tokenizer, (query, document, *_) = found
    for settings in (query, document):
        settings.update(_length(model, tokenizer, settings))
    return found


def _load(source: str, *, pooling: str | None, adapter: str = "default") -> Checkpoint:
    description = describe(source)
    pooling = pooling or description.query.get("pooling")
    if find(source, ADAPTER) is None:
        model, own = _model(source, decoder=pooling == "decoder")
        tokenizer = load_tokenizer(source)
        description = Description(own, own).updated(description)
    else:
        below = _load(existing(base_model_name(source)), pooling=pooling)
        model = load_adapter(below.model, source, adapter)
        has_tokenizer = find(source, "tokenizer_config.json") is not None
        tokenizer = load_tokenizer(source) if has_tokenizer else below.tokenizer
        adapted = {"adapter": adapter}
        description = below.description.updated(description)
        description = description.updated(Description(adapted, adapted))
    return Checkpoint(model, tokenizer, description)


def describe(name: str | Path) -> Description:
    """Reads the settings that save_pretrained or sentence-transformers wrote; none otherwise."""
    path = find(name, encoder_settings.FILE)
    if path is None:
        query, document, default_prefix = sentence_transformers_folder.read(name)
        return Description(query, document, default_prefix=default_prefix)
    kind, record = encoder_settings.read(path)
    if kind == "language model":  # which has no pooling
        return Description({}, {})
    if kind == "unified":
        raise ValueError(
            f"{name} holds a retriever and a generator: use tilefold.invar.UnifiedLM.load, or the "
            f"folder retrieval in it"
        )
    if kind == "untied":
        raise ValueError(
            f"{name} holds two towers: use BiEncoder.from_pretrained, or the folders query and "
            f"document in it"
        )
    module = projection.load(find(name, projection.FILE), record.pop("projection"))
    if kind == "encoder":
        record["projection"] = module
        return Description(record, dict(record))
    query, document = ({**record[key], "projection": module} for key in ("query", "document"))
    return Description(query, document, record["title_format"])


def limit(model: Any, tokenizer: Any) -> int:
    """Returns the maximum number of tokens that the model can read."""
    places = getattr(model.config, "max_position_embeddings", _NO_LIMIT)
    return int(min(places, _places_behind_padding(model), tokenizer.model_max_length, _NO_LIMIT))


def longest_limit(model: Any, tokenizer: Any) -> int:
    """Returns the largest number of tokens that may be chosen in place of `limit`.

    T5 and its like have relative positions alone and read texts of any length; the limit of their
    tokenizers, such as 512, is the length of the texts that they were first trained on.
    """
    config = model.config
    relative = hasattr(config, "relative_attention_num_buckets")
    if relative and not hasattr(config, "max_position_embeddings"):
        return _NO_LIMIT
    return limit(model, tokenizer)


def _length(model: Any, tokenizer: Any, settings: dict[str, Any]) -> dict[str, int]:
    """Returns the maximum length where the folder leaves it open, or has more than can be read."""
    length = settings.get("max_length", 0)
    if length is None:
        return {"max_length": limit(model, tokenizer)}
    places = _places_behind_padding(model)
    if places < length <= model.config.max_position_embeddings:
        return {"max_length": places}
    return {}


def _places_behind_padding(model: nn.Module) -> int:
    """Returns the number of positions of RoBERTa and its like, which number them behind padding.

    With padding 1, positions are 2, 3, ...: a configuration of 514 positions reads 512 tokens.
    """
    for name, part in model.named_modules():
        numbered = isinstance(part, nn.Embedding) and name.endswith("position_embeddings")
        if numbered and part.padding_idx is not None:
            return int(part.num_embeddings - part.padding_idx - 1)
    return _NO_LIMIT


def _model(name: str, *, decoder: bool) -> tuple[nn.Module, dict[str, Any]]:
    """Returns a model and the arguments of Encoder that its architecture implies."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name)
    if config.model_type == "dpr":
        model, dense = load_dpr(name)
        return model, {"pooling": "cls", "normalize": False, "projection": dense}
    # T5's encoder has a class of its own here, which can be saved and loaded again.
    if not decoder and type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return load_weights(transformers.AutoModelForTextEncoding, name), {}
    whole = load_weights(transformers.AutoModel, name)
    return whole.get_encoder() if config.is_encoder_decoder and not decoder else whole, {}


def load_tokenizer(name: str) -> Any:
    """Loads the tokenizer of a folder or of a model of the hub."""
    import transformers

    with quiet():
        return transformers.AutoTokenizer.from_pretrained(name)


def base_model_name(name: str) -> str:
    """Returns the name of the model that an adapter was trained on.

    Raises:
        ValueError: its configuration does not have one.
    """
    path = find(name, ADAPTER)
    base = encoder_settings.read_json(path).get("base_model_name_or_path") if path else None
    if not base:
        raise ValueError(f"{path}: base_model_name_or_path is missing: adapter of which model?")
    return str(base)
