"""A small synthetic world of facts with ground truth, passages that state them, and models."""

from .facts import SIZES, Fact, Passage, World, make_world
from .relations import RELATIONS, Relation

__all__ = ["RELATIONS", "SIZES", "Fact", "Passage", "Relation", "World", "make_world"]
