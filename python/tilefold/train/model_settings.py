"""Settings of the model of a training: those given, else the checkpoint's own, else DPR's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from ..data.prompts import TITLE_FORMAT
from ..models import find_model
from ..models.adapters import CONFIG
from ..models.checkpoints import encoder_settings
from ..models.checkpoints.checkpoint import Description, base_model_name, describe
from ..models.checkpoints.model_names import existing
from ..models.checkpoints.weights import find
from ..models.towers import two_towers
from .data_arguments import DataArguments
from .model_arguments import ModelArguments

_DPR: dict[str, Any] = {
    "pooling": "cls",
    "normalize": False,
    "query_prefix": "",
    "passage_prefix": "",
    "title_format": "{title} [SEP] {text}",
}


class ModelSettings(NamedTuple):
    """Arguments that a checkpoint may state itself, and where those that were not given are from.

    Args:
        values: by the names of the arguments.
        own: names of those that the checkpoint states.
        defaults: names of those that are DPR's.
    """

    values: dict[str, Any]
    own: list[str]
    defaults: list[str]


def model_settings(model: ModelArguments, data: DataArguments) -> ModelSettings:
    """Fills in the settings that the arguments leave open.

    A checkpoint that states its pooling is a retriever already; where it states no title format,
    that of `BiEncoder` is its own, as for every other use of it.

    Raises:
        OSError: there is no such model.
        ValueError: its settings cannot be read, or differ for queries and documents.
    """
    asked = {**vars(model), **vars(data)}
    given = {name: asked[name] for name in _DPR if asked[name] is not None}
    stated = _stated(model.model_name_or_path, given)
    return ModelSettings(
        {**_DPR, **stated, **given},
        [name for name in stated if name not in given],
        [name for name in _DPR if name not in given and name not in stated],
    )


def _stated(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns what the checkpoint states, by the names of the arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # loading the model gives the same ones
        query, document, title_format, _ = _description(find_model(name))
    if "pooling" not in query:
        return {}
    for setting in ("pooling", "normalize"):
        if setting not in given and query[setting] != document[setting]:
            raise ValueError(
                f"{setting}: expected a value, as {name} has {query[setting]!r} for queries and "
                f"{document[setting]!r} for documents, got none"
            )
    return {
        "pooling": query["pooling"],
        "normalize": query["normalize"],
        "query_prefix": query["prefix"],
        "passage_prefix": document["prefix"],
        "title_format": title_format or TITLE_FORMAT,
    }


def _description(name: str | Path) -> Description:
    """Reads the settings of a checkpoint, those of the model below an adapter included."""
    folder = two_towers(name)
    if folder is not None:
        record = encoder_settings.read(folder / encoder_settings.FILE)[1]
        query, document = (_description(folder / tower) for tower in ("query", "document"))
        return Description(query.query, document.document, record["title_format"])
    source = existing(name)
    found = describe(source)
    if find(source, CONFIG) is None:
        return found
    return _description(base_model_name(source)).updated(found)
