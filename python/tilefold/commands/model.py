"""The options by which verbs name a model, and the model that they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..encoder import BiEncoder

_SETTINGS = (
    "pooling",
    "normalize",
    "query_prefix",
    "document_prefix",
    "query_max_length",
    "document_max_length",
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --model and what a plain transformers model does not know of itself."""
    group = parser.add_argument_group("model")
    option = group.add_argument
    option(
        "--model",
        default="minilm",
        metavar="NAME",
        help="folder or Hugging Face name (default: the offline MiniLM)",
    )
    option("--pooling", help="cls, mean, last or decoder (default: the model's own, or mean)")
    option("--normalize", action=argparse.BooleanOptionalAction, help="scale vectors to length 1")
    option("--query-prefix", metavar="TEXT", help="before every query")
    option("--document-prefix", metavar="TEXT", help="before every document")
    option("--query-max-length", type=int, metavar="N", help="tokens of a query that are read")
    option("--document-max-length", type=int, metavar="N", help="tokens of a document")
    option("--batch-size", type=int, default=32, metavar="N", help="texts at a time (default: 32)")


def load_model(args: argparse.Namespace, name: str | None = None) -> BiEncoder:
    """The model of the options, or the one named; what they do not say, its folder does."""
    from ..encoder import BiEncoder, find_model

    settings: dict[str, Any] = {
        name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None
    }
    return BiEncoder.from_pretrained(find_model(name or args.model), **settings)
