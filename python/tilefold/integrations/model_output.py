"""Embeddings as models return them: on any device, with or without a gradient."""

from __future__ import annotations

from ..arrays import Array


def on_host(embeddings: Array) -> Array:
    """Returns embeddings off the GPU and without a gradient; others as they are."""
    return embeddings.detach().cpu() if hasattr(embeddings, "detach") else embeddings
