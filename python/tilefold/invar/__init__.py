"""Invar-RAG: a language model as an invariant retriever and as the reader of what it retrieves."""

from .interventions import Chunks, Window, search_chunks
from .patterns import RankingPatterns, ranking_patterns, view_probabilities

__all__ = [
    "Chunks",
    "RankingPatterns",
    "Window",
    "ranking_patterns",
    "search_chunks",
    "view_probabilities",
]
