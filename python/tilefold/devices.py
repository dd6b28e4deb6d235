"""The devices that each op of this build has an implementation for: one table, and one check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _native

# Op -> device type -> implementation. Ops of torch enter theirs when they are registered
# (torch_ops/dispatch.py); search takes arrays of any library and is no op of torch.
IMPLEMENTATIONS: dict[str, dict[str, Callable[..., Any]]] = {"search": {"cpu": _native.search}}


def check_device(
    name: str, argument: str, device: object, op: str, *, hint: str | None = None
) -> None:
    """Checks that an op has an implementation for the device of an array.

    Args:
        name: the public function, for messages.
        argument: its argument, for messages.
        device: a `torch.device`, or the name of a device such as "cuda" or "cuda:1".
        op: a key of `IMPLEMENTATIONS`.
        hint: the way out, the end of the message; by default to move the array.

    Raises:
        ValueError: there is none.

    Example:
        >>> check_device("search", "queries", "cpu", "search")
    """
    devices = IMPLEMENTATIONS[op]
    kind = str(device).partition(":")[0]
    if kind not in devices:
        lacks_values = "a tensor on meta has a shape but no values; load it first"
        way = hint or (lacks_values if kind == "meta" else "move it first")
        raise ValueError(
            f"{name}: {argument} must be on {' or '.join(devices)}, got {device}; this build "
            f"implements {op} for no other device: {way}"
        )
