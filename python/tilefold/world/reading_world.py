"""Generates a world whose facts are stated in registers that language models read unequally well.

Retrieval for a language model differs from retrieval for a person only if some passages that a
person accepts are of no use to the model. Such a difference is constructed here. Each fact is
stated plainly, beside a refuted error ("corrected"), and in unusual words with an old name of the
answer ("archaic"); a "mention" has the answer without stating the fact. A further register, in
which several subjects share a passage ("crowded"), can be chosen.

Built in are the registers, the judgments (one stating passage of each fact, drawn without regard to
its register: as sparse as those of MS MARCO), and the text that readers are trained on, which has
plain passages alone or nearly so (`reading_lessons`). Not built in are preferences: nothing says
which passage a reader does better with. Those that are measured follow from what readers learned.

Readers of the sizes in `world_readers` learn to find a word of the right kind, and not to tell
subjects apart, so each fact has several passages in each register, which fill the top 10 of a
retriever that knows its subject.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..data import TrainingSet
from ..integers import as_integer
from ..ragged_lists import Lists
from .facts import Fact, Passage, World, make_world
from .names import make_names
from .registers import REGISTERS, STATING, PassageWriter, Statement
from .relations import RELATIONS

_NEIGHBOURS = 2  # statements about other subjects in a crowded passage
_MAX_COPIES = 4  # there are four wordings of a mention
_HARD = 2  # hard negatives of a question about the same subject, and of the same relation


@dataclass(frozen=True, kw_only=True)
class ReadingWorld(World):
    """Holds a world of facts, with passages in several registers and sparse judgments.

    Args:
        registers: register of each passage.
        judgments: of each fact, the one passage that was judged relevant.
        old_names: value -> the name that archaic passages have for it.
    """

    registers: list[str]
    judgments: list[int]
    old_names: dict[str, str]

    def texts(self) -> list[str]:
        """Returns the text of each passage."""
        return [passage.text for passage in self.passages]

    def about(self, fact: int, registers: Collection[str] = REGISTERS) -> list[int]:
        """Returns the numbers of the passages written about a fact, in some registers."""
        begin, end = self.n_about * fact, self.n_about * (fact + 1)
        return [n for n in range(begin, end) if self.registers[n] in registers]

    @property
    def n_about(self) -> int:
        """Number of passages written about each fact."""
        return len(self.passages) // len(self.facts)


def make_reading_world(
    size: str = "small",
    *,
    seed: int = 0,
    exposed: float = 0.3,
    registers: Sequence[str] = ("plain", "corrected", "archaic", "mention"),
    copies: int = 3,
) -> ReadingWorld:
    """Generates the facts of `make_world`, and passages about each in several registers.

    Args:
        size, seed, exposed: of `make_world`.
        registers: some of `REGISTERS`, at least one of which states facts.
        copies: passages of each register about each fact, which differ in wording.

    Raises:
        ValueError: as of `make_world`; an unknown register, one that is named twice, or none that
            states facts; copies outside 1 to 4.

    Example:
        >>> world = make_reading_world("tiny", seed=0)
        >>> len(world.facts), len(world.passages), world.registers[2:5]
        (216, 2592, ['plain', 'corrected', 'corrected'])
    """
    copies = as_integer(copies, "make_reading_world", "copies")
    stating = [register for register in registers if register in STATING]
    if not 1 <= copies <= _MAX_COPIES:
        raise ValueError(f"make_reading_world: copies must be 1 to {_MAX_COPIES}, got {copies}")
    if set(registers) - set(REGISTERS) or len(set(registers)) < len(registers) or not stating:
        raise ValueError(
            f"make_reading_world: registers must be distinct, of {', '.join(REGISTERS)}, and one "
            f"of them must state facts, got {list(registers)}"
        )
    world = make_world(size, seed=seed, exposed=exposed)
    rng = np.random.default_rng([seed, 6])
    values = sorted({value for some in world.objects.values() for value in some})
    taken = {*values, *(word for fact in world.facts for word in fact.subject.split())}
    old_names = dict(zip(values, make_names(rng, "river", len(values), taken), strict=True))
    order = [register for register in registers for _ in range(copies)]
    passages = _passages(world.facts, order, PassageWriter(world.objects, old_names), rng)
    may_be_judged = [place for place, register in enumerate(order) if register in STATING]
    judged = rng.choice(may_be_judged, len(world.facts))
    kept = {one.name: getattr(world, one.name) for one in fields(world) if one.name != "passages"}
    return ReadingWorld(
        **kept,
        passages=passages,
        registers=order * len(world.facts),
        judgments=[len(order) * fact + int(place) for fact, place in enumerate(judged)],
        old_names=old_names,
    )


def judged_training_set(
    world: ReadingWorld,
    facts: Sequence[int],
    *,
    paraphrases: Sequence[int] = (0, 1, 2, 3),
    seed: int = 0,
) -> TrainingSet:
    """Makes questions about some facts, with the one judged passage as positive.

    Hard negatives are about the same subject, or state the same relation, and do not state the
    fact. So no passage that a person would accept is among them, whatever its register.

    Args:
        world: the world of facts and passages.
        facts: numbers of facts.
        paraphrases: which questions about each fact.
        seed: of the draw of negatives.

    Raises:
        ValueError: no facts.
    """
    if not len(facts):
        raise ValueError("judged_training_set: expected one fact or more, got none")
    hard = _hard_negatives(world, facts, seed)
    rows = [(int(fact), paraphrase) for fact in facts for paraphrase in paraphrases]
    return TrainingSet(
        [f"q{fact}-{paraphrase}" for fact, paraphrase in rows],
        [world.questions(fact)[paraphrase] for fact, paraphrase in rows],
        [passage.id for passage in world.passages],
        world.texts(),
        Lists.pack([[world.judgments[fact]] for fact, _ in rows]),
        Lists.pack([hard[fact] for fact, _ in rows]),
        [(world.facts[fact].object,) for fact, _ in rows],
    )


def _hard_negatives(world: ReadingWorld, facts: Sequence[int], seed: int) -> dict[int, list[int]]:
    by_subject: dict[str, list[int]] = {}
    by_relation: dict[str, list[int]] = {}
    for number, fact in enumerate(world.facts):
        by_subject.setdefault(fact.subject, []).append(number)
        by_relation.setdefault(fact.relation, []).append(number)
    hard: dict[int, list[int]] = {}
    for number in map(int, facts):
        rng = np.random.default_rng([seed, 7, number])
        own = world.facts[number]
        found: dict[int, None] = {}
        for others in (by_subject[own.subject], by_relation[own.relation]):
            near = [
                passage
                for other in others
                if other != number
                for passage in world.about(other)
                if number not in world.passages[passage].others
            ]
            found |= dict.fromkeys(int(n) for n in rng.permutation(near)[:_HARD])
        hard[number] = list(found)
    return hard


def _passages(
    facts: Sequence[Fact], registers: Sequence[str], writer: PassageWriter, rng: np.random.Generator
) -> list[Passage]:
    relations = {relation.name: relation for relation in RELATIONS}
    statements = [Statement(relations[fact.relation], fact.subject, fact.object) for fact in facts]
    alike: dict[str, list[int]] = {}
    for number, fact in enumerate(facts):
        alike.setdefault(fact.relation, []).append(number)
    passages: list[Passage] = []
    for number, fact in enumerate(facts):
        seen: set[str] = set()
        for register in registers:
            others: list[int] = []
            if register == "crowded":
                drawn = rng.choice(alike[fact.relation], _NEIGHBOURS + 1, replace=False)
                others = [int(n) for n in drawn if n != number][:_NEIGHBOURS]
            neighbours = [statements[n] for n in others]
            text = writer.write(register, statements[number], rng, neighbours)
            while text in seen:  # another wording
                text = writer.write(register, statements[number], rng, neighbours)
            seen.add(text)
            stated = () if register == "mention" else (number,)
            name = f"p{len(passages)}"
            passages.append(Passage(name, fact.subject, text, stated, tuple(others)))
    return passages
