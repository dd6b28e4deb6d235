"""Generates a synthetic world: entities, facts about them, and passages that state the facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .names import make_names
from .relations import INVENTED, RELATIONS, VALUES, Relation

SIZES = {
    "tiny": (30, 10, 8),
    "small": (200, 40, 24),
    "medium": (1000, 120, 80),
}  # entities of each kind
KINDS = ("person", "city", "company")
_FACTS_PER_PASSAGE = 3  # about the entity that the passage is about
_DISTRACTORS = 2  # sentences about other entities
_PASSAGES = 2  # for each entity, on average
# Maximum number of passages of an entity beyond those that state each of its facts once: more of
# them would repeat each other.
_MAX_EXTRA = 20
_MASK = "[MASK]"


class Fact(NamedTuple):
    """One property of one entity."""

    subject: str
    relation: str
    object: str
    exposed: bool  # whether it is in the pre-training data
    popularity: float  # of the subject: 1 / rank within its kind


class Passage(NamedTuple):
    """A document: sentences about one entity, with sentences about others in between."""

    id: str
    title: str
    text: str
    facts: tuple[int, ...]  # facts that it states about its entity
    others: tuple[int, ...]  # facts that it states about others


@dataclass(frozen=True)
class World:
    """Holds all facts of a world, and the passages that state them.

    Args:
        size, seed: arguments of `make_world`.
        facts: every property of every entity.
        passages: documents; every fact is stated in at least one.
        objects: name of each relation -> the values that its object may have.
    """

    size: str
    seed: int
    facts: list[Fact]
    passages: list[Passage]
    objects: dict[str, list[str]]
    _relations: dict[str, Relation] = field(default_factory=lambda: {r.name: r for r in RELATIONS})

    def clozes(self, fact: int) -> list[str]:
        """Returns the statements of a fact with [MASK] for the object."""
        stated = self.facts[fact]
        clozes = self._relations[stated.relation].clozes
        return [text.format(s=stated.subject, o=_MASK) for text in clozes]

    def statements(self, fact: int) -> list[str]:
        """Returns sentences that state a fact, paraphrases of each other."""
        return [text.replace(_MASK, self.facts[fact].object) for text in self.clozes(fact)]

    def questions(self, fact: int) -> list[str]:
        """Returns questions that the object of a fact answers."""
        own = self.facts[fact]
        questions = self._relations[own.relation].questions
        return [text.format(s=own.subject) for text in questions]

    def stating(self, fact: int) -> list[int]:
        """Returns the numbers of all passages that state a fact, about whichever entity."""
        return [
            number
            for number, passage in enumerate(self.passages)
            if fact in passage.facts or fact in passage.others
        ]


def make_world(size: str = "small", *, seed: int = 0, exposed: float = 0.5) -> World:
    """Generates entities with invented names, facts about them, and passages.

    Entities are persons, cities and companies. The number of passages about an entity falls as
    1 / rank (Zipf). A random share of the facts is exposed in pre-training; the others are stated
    in passages alone.

    Args:
        size: "tiny", "small" or "medium": 48, 264 or 1,200 entities.
        seed: the same world for the same seed.
        exposed: share of facts that are in the pre-training data.

    Raises:
        ValueError: an unknown size, a share outside 0 to 1.

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
                    shown = bool(rng.random() < exposed)
                    facts.append(Fact(subject, relation.name, value, shown, 1 / rank))
    return facts


def _passages(rng: np.random.Generator, facts: list[Fact]) -> list[Passage]:
    """States every fact at least once, and more often those about popular entities."""
    by_subject: dict[str, list[int]] = {}
    for number, fact in enumerate(facts):
        by_subject.setdefault(fact.subject, []).append(number)
    weights = np.array([facts[numbers[0]].popularity for numbers in by_subject.values()])
    extra = rng.multinomial((_PASSAGES - 1) * len(by_subject), weights / weights.sum())
    passages: list[Passage] = []
    for (subject, numbers), more in zip(by_subject.items(), extra, strict=True):
        order = list(rng.permutation(numbers))
        groups = [
            order[i : i + _FACTS_PER_PASSAGE] for i in range(0, len(order), _FACTS_PER_PASSAGE)
        ]
        groups += [
            list(rng.permutation(numbers)[:_FACTS_PER_PASSAGE])
            for _ in range(min(int(more), _MAX_EXTRA))
        ]
        for group in groups:
            others = [int(n) for n in rng.choice(len(facts), _DISTRACTORS, replace=False)]
            others = [n for n in others if facts[n].subject != subject]
            stated = [int(n) for n in group] + others
            order = list(rng.permutation(len(stated)))
            text = " ".join(_statement(rng, facts[stated[i]]) for i in order)
            passages.append(
                Passage(f"p{len(passages)}", subject, text, tuple(map(int, group)), tuple(others))
            )
    return passages


_CLOZES = {relation.name: relation.clozes for relation in RELATIONS}


def _statement(rng: np.random.Generator, fact: Fact) -> str:
    return str(rng.choice(_CLOZES[fact.relation])).format(s=fact.subject, o=fact.object)
