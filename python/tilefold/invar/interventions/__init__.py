"""Interventions: rewrites of queries, and context windows of documents."""

from .context_windows import Chunks, Window, search_chunks

__all__ = ["Chunks", "Window", "search_chunks"]
