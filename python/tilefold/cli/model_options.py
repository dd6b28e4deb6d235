"""Options of verbs that name a model and its settings."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from .device_option import DEVICE, add_device, torch_device
from .option_types import positive

if TYPE_CHECKING:
    from ..models import BiEncoder

BATCH_SIZE = 32
POOLINGS = ("cls", "mean", "last", "decoder")  # of tilefold.models, which needs torch
_SETTINGS = ("pooling", "normalize")
_SETTINGS_OF_SIDES = ("prefix", "max_length")


def add_model_arguments(
    parser: argparse.ArgumentParser,
    *sides: str,
    default: str | None = "minilm",
    searches: bool = True,
) -> None:
    """Adds --model, and settings that the folder of a plain transformers model does not have.

    Args:
        parser: of a verb.
        sides: "query", "document" or both: the texts that the verb encodes.
        default: model where none is named.
        searches: whether the verb searches vectors on --device, too.
    """
    group = parser.add_argument_group("model")
    option = group.add_argument
    option(
        "--model",
        default=default,
        metavar="NAME",
        help="folder or Hugging Face name (default: the offline MiniLM)",
    )
    option(
        "--pooling",
        choices=POOLINGS,
        metavar="NAME",
        help=f"{', '.join(POOLINGS)} (default: the model's own, or mean)",
    )
    option("--normalize", action=argparse.BooleanOptionalAction, help="scale vectors to length 1")
    for side in sides:
        option(f"--{side}-prefix", metavar="TEXT", help=f"text before every {side}")
        option(
            f"--{side}-max-length",
            type=positive,
            metavar="N",
            help=f"tokens of a {side} that are read",
        )
    add_device(option, searches=searches)
    batch = f"texts in a forward pass (default: {BATCH_SIZE})"
    option("--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help=batch)


def model_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of the model that were given."""
    names = [
        *_SETTINGS,
        *(f"{side}_{name}" for side in ("query", "document") for name in _SETTINGS_OF_SIDES),
    ]
    given = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def check_model(name: str) -> None:
    """Checks that there is a model of this name, before data are read.

    A package that is missing is left to `load_model`.

    Raises:
        FileNotFoundError: there is no such folder, and no such model on the hub.
    """
    with contextlib.suppress(ImportError):
        from ..models.model_record import check_model as check

        check(name)


def load_model(args: argparse.Namespace, *, device: str | None = None) -> BiEncoder:
    """Opens the model of the options on a device; its folder has settings that were not given.

    Args:
        args: options of a verb.
        device: of torch; None for that of the options.
    """
    from ..models.model_record import open_model

    place = str(torch_device(args)) if device is None else device
    model = open_model(args.model, **model_settings(args))
    return model if place == DEVICE else model.to(place)
