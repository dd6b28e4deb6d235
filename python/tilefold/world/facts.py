"""A world: entities, facts about them, passages that state facts, and who has heard of which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .names import make_names
from .relations import INVENTED, RELATIONS, VALUES, Relation

SIZES = {"tiny": (30, 10, 8), "small": (200, 40, 24), "medium": (1000, 120, 80)}  # of each kind
KINDS = ("person", "city", "company")
_FACTS_OF_PASSAGE = 3  # of the entity that the passage is about
_DISTRACTORS = 2  # sentences about others
_PASSAGES = 2  # of each entity, on average
_MOST = 20  # more passages of one entity than stating its facts takes: they would be repetitions
_MASK = "[MASK]"


class Fact(NamedTuple):
    """One property of one entity."""

    subject: str
    relation: str
    object: str
    exposed: bool  # whether pre-training may say it
    popularity: float  # of its subject: 1 for the first, falling as 1 / rank


class Passage(NamedTuple):
    """What a retriever finds: sentences about one entity, with others in between."""

    id: str
    title: str
    text: str
    facts: tuple[int, ...]  # that it states about its entity
    others: tuple[int, ...]  # that it states about others


@dataclass(frozen=True)
class World:
    """Everything that is true, and where it is said.

    Args:
        size, seed: what it was made of.
        facts: every property of every entity.
        passages: every fact is stated in at least one.
        objects: the values that a relation's object may have.
    """

    size: str
    seed: int
    facts: list[Fact]
    passages: list[Passage]
    objects: dict[str, list[str]]
    _relations: dict[str, Relation] = field(default_factory=lambda: {r.name: r for r in RELATIONS})

    def clozes(self, fact: int) -> list[str]:
        """Sentences with [MASK] for the object."""
        said = self.facts[fact]
        return [
            text.format(s=said.subject, o=_MASK) for text in self._relations[said.relation].clozes
        ]

    def statements(self, fact: int) -> list[str]:
        """The same sentences with the object."""
        return [text.replace(_MASK, self.facts[fact].object) for text in self.clozes(fact)]

    def questions(self, fact: int) -> list[str]:
        """Questions that the object answers."""
        said = self.facts[fact]
        return [text.format(s=said.subject) for text in self._relations[said.relation].questions]

    def stating(self, fact: int) -> list[int]:
        """Numbers of the passages that state a fact, about whomever they are."""
        return [
            number
            for number, passage in enumerate(self.passages)
            if fact in passage.facts or fact in passage.others
        ]


def make_world(size: str = "small", *, seed: int = 0, exposed: float = 0.5) -> World:
    """Makes up entities with names of their own, and everything there is to know of them.

    Entities are persons, cities and companies. How often one is spoken of falls as 1 / rank (Zipf).
    Of the facts, a share that is drawn at random may be said in pre-training; the rest stands in
    passages alone.

    Args:
        size: "tiny", "small" or "medium": 48, 264 or 1,200 entities.
        seed: the same world for the same seed.
        exposed: share of facts that pre-training may say.

    Raises:
        ValueError: an unknown size, a share beyond 0 to 1.

    Example:
        >>> world = make_world("tiny", seed=0)
        >>> len(world.facts), len(world.questions(0)), len(world.clozes(0))
        (216, 4, 6)
    """
    if size not in SIZES:
        raise ValueError(f"make_world: size must be one of {', '.join(SIZES)}, got {size!r}")
    if not 0 <= exposed <= 1:
        raise ValueError(f"make_world: exposed must be 0 to 1, got {exposed}")
    rng = np.random.default_rng([seed, list(SIZES).index(size)])
    entities = _entities(rng, size)
    objects = dict(VALUES) | {kind: make_names(rng, kind, n) for kind, n in INVENTED.items()}
    objects |= {kind: entities[kind] for kind in ("city", "company")}
    facts = _facts(rng, entities, objects, exposed)
    values = {r.name: objects[r.object] for r in RELATIONS}
    return World(size, seed, facts, _passages(rng, facts), values)


def _entities(rng: np.random.Generator, size: str) -> dict[str, list[str]]:
    people, cities, companies = SIZES[size]
    first = make_names(rng, "person", max(8, people // 4))
    last = make_names(rng, "person", people, taken=first)
    return {
        "person": [f"{rng.choice(first)} {name}" for name in last],
        "city": make_names(rng, "city", cities),
        "company": make_names(rng, "company", companies),
    }


def _facts(
    rng: np.random.Generator,
    entities: dict[str, list[str]],
    objects: dict[str, list[str]],
    exposed: float,
) -> list[Fact]:
    facts = []
    for kind in KINDS:
        for rank, subject in enumerate(entities[kind], 1):
            for relation in RELATIONS:
                if relation.subject == kind:
                    value = str(rng.choice(objects[relation.object]))
                    told = bool(rng.random() < exposed)
                    facts.append(Fact(subject, relation.name, value, told, 1 / rank))
    return facts


def _passages(rng: np.random.Generator, facts: list[Fact]) -> list[Passage]:
    """More about those who are popular; every fact once, at least."""
    of: dict[str, list[int]] = {}
    for number, fact in enumerate(facts):
        of.setdefault(fact.subject, []).append(number)
    weights = np.array([facts[numbers[0]].popularity for numbers in of.values()])
    extra = rng.multinomial((_PASSAGES - 1) * len(of), weights / weights.sum())
    passages: list[Passage] = []
    for (subject, numbers), more in zip(of.items(), extra, strict=True):
        order = list(rng.permutation(numbers))
        groups = [order[i : i + _FACTS_OF_PASSAGE] for i in range(0, len(order), _FACTS_OF_PASSAGE)]
        groups += [
            list(rng.permutation(numbers)[:_FACTS_OF_PASSAGE]) for _ in range(min(int(more), _MOST))
        ]
        for group in groups:
            others = [int(n) for n in rng.choice(len(facts), _DISTRACTORS, replace=False)]
            others = [n for n in others if facts[n].subject != subject]
            said = [int(n) for n in group] + others
            order = list(rng.permutation(len(said)))
            text = " ".join(_said(rng, facts[said[i]]) for i in order)
            passages.append(
                Passage(f"p{len(passages)}", subject, text, tuple(map(int, group)), tuple(others))
            )
    return passages


_CLOZES = {relation.name: relation.clozes for relation in RELATIONS}


def _said(rng: np.random.Generator, fact: Fact) -> str:
    return str(rng.choice(_CLOZES[fact.relation])).format(s=fact.subject, o=fact.object)
