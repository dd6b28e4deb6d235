"""--device of verbs that encode and search: where models run and vectors are searched."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .. import _native
from ..placement import Placement, placement_on
from ..retrieval.running_search import SearchResult

if TYPE_CHECKING:
    import torch

DEVICE = "cpu"


def add_device(option: Any, *, searches: bool = True) -> None:
    """Adds --device.

    Args:
        option: `add_argument` of a parser or a group.
        searches: whether the verb also searches vectors there.
    """
    there = "; with tilefold-cuda, vectors are searched there too" if searches else ""
    option(
        "--device",
        default=DEVICE,
        metavar="NAME",
        help=f"where models run, such as cuda or cuda:1{there} (default: {DEVICE})",
    )


def torch_device(args: argparse.Namespace) -> torch.device:
    """Returns the device of the options, on which tensors can be made.

    Raises:
        ValueError: torch has no such device here.
    """
    import torch

    try:
        device = torch.device(args.device)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"--device must be one that torch can use, got {args.device!r}: {reason}"
        ) from error
    return device


def search_placement(args: argparse.Namespace, k: int = 1) -> Placement | None:
    """Returns the device that searches for k answers; None for the host.

    The host searches where kernels are missing, or cannot search for as many.
    """
    if _native.CUDA == "none" or not args.device.startswith("cuda"):
        return None
    placement = placement_on(args.device, "--device")
    return None if placement is None or k > placement.max_k else placement


def on_host(found: Any, placement: Placement | None) -> SearchResult:
    """Copies the scores and ids of a search from its device."""
    if placement is None:
        return SearchResult(found.scores, found.ids)
    return SearchResult(placement.fetch(found.scores), placement.fetch(found.ids))
