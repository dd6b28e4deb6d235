"""The one derivative that fused losses have."""

from __future__ import annotations

import torch


def first_derivative_only(op: str) -> None:
    """Refuses, inside backward, to go on to a second derivative, which would silently be 0."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(f"{op}: there is no second derivative; create_graph must be False")
