"""A small world of facts with ground truth: what is true, where it is said, and who was told."""

from .facts import SIZES, Fact, Passage, World, make_world
from .relations import RELATIONS, Relation

__all__ = ["RELATIONS", "SIZES", "Fact", "Passage", "Relation", "World", "make_world"]
