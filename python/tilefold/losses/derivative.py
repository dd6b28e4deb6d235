"""Rejects second derivatives, which fused losses do not have."""

from __future__ import annotations

import torch


def first_derivative_only(op: str) -> None:
    """Raises inside backward where a second derivative is requested, which would silently be 0.

    Raises:
        RuntimeError: backward runs with ``create_graph=True``.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(f"{op}: there is no second derivative; create_graph must be False")
