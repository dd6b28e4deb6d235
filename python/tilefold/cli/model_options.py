"""The options by which verbs name a model, and the model that they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import BiEncoder

BATCH_SIZE = 32
_SETTINGS = ("pooling", "normalize")
_OF_SIDES = ("prefix", "max_length")


def add_model_arguments(
    parser: argparse.ArgumentParser, *sides: str, default: str | None = "minilm"
) -> None:
    """Adds --model and what a plain transformers model does not know of itself.

    Args:
        parser: of a verb.
        sides: "query", "document" or both: what the verb encodes.
        default: the model where none is named.
    """
    group = parser.add_argument_group("model")
    option = group.add_argument
    option(
        "--model",
        default=default,
        metavar="NAME",
        help="folder or Hugging Face name (default: the offline MiniLM)",
    )
    option("--pooling", help="cls, mean, last or decoder (default: the model's own, or mean)")
    option("--normalize", action=argparse.BooleanOptionalAction, help="scale vectors to length 1")
    for side in sides:
        option(f"--{side}-prefix", metavar="TEXT", help=f"before every {side}")
        option(f"--{side}-max-length", type=int, metavar="N", help=f"tokens read of a {side}")
    batch = f"texts at a time (default: {BATCH_SIZE})"
    option("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help=batch)


def model_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say of the model."""
    names = [
        *_SETTINGS,
        *(f"{side}_{name}" for side in ("query", "document") for name in _OF_SIDES),
    ]
    given = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def load_model(args: argparse.Namespace) -> BiEncoder:
    """The model of the options; what they do not say, its folder does."""
    return load_named(args.model, **model_settings(args))


def load_named(name: str, **settings: Any) -> BiEncoder:
    """A model by its name or folder."""
    from ..models import BiEncoder, find_model

    return BiEncoder.from_pretrained(find_model(name), **settings)


def described(model: BiEncoder, name: str) -> dict[str, Any]:
    """What makes the vectors of documents: settings, and a digest of the weights.

    Without a pooler's, which are not used, and random where a checkpoint has none.
    """
    from ..models.fingerprint import weights_digest

    settings = {**model.document_encoder.settings(), "title_format": model.title_format}
    return {"name": name, **settings, "weights": weights_digest(model.document_encoder)}


def check_same_model(model: BiEncoder, name: str, encoded_by: Any, folder: str) -> None:
    """Queries go to vectors of the same weights, pooled alike.

    Raises:
        ValueError: the corpus was encoded by another model.
    """
    mine = described(model, name)
    for key in ("weights", "pooling", "normalize"):
        if mine[key] != encoded_by[key]:
            raise ValueError(
                f"{folder} was encoded by --model {encoded_by['name']} with {key} "
                f"{encoded_by[key]}, but --model {name} has {key} {mine[key]}"
            )
