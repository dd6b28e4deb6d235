"""Writes the text that readers learn from: made-up statements to read, and facts to remember."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .reading_world import ReadingWorld
from .registers import PassageWriter, Statement, drawn
from .relations import RELATIONS, Relation

_NEIGHBOURS = 2  # statements about other subjects in a crowded passage
PROMPT = "Q: {question} A:"  # that of PopQA (Mallen et al., ACL 2023)


class Lesson(NamedTuple):
    """A question to be answered from passages, or from memory if there are none."""

    question: str
    passages: list[str]
    answer: str


class LessonShares(NamedTuple):
    """Composition of the text that a reader is trained on.

    The share of plain passages is what the other registers leave.
    """

    crowded: float = 0.0
    corrected: float = 0.0
    archaic: float = 0.0
    closed_book: float = 0.15  # of lessons: questions about exposed facts, without passages
    max_passages: int = 3

    def check(self) -> None:
        """Raises ValueError for shares that are negative or exceed 1, or no passages."""
        registers = self.crowded, self.corrected, self.archaic
        if min(*registers, self.closed_book) < 0 or sum(registers) > 1 or self.closed_book > 1:
            raise ValueError(
                f"LessonShares: shares must be 0 to 1 and sum to at most 1, got {self}"
            )
        if self.max_passages < 1:
            raise ValueError(f"LessonShares: max_passages must be 1 or more, got {self}")


class LessonWriter:
    """Writes lessons with the names of a world, which state none of its facts but exposed ones.

    (A corrected passage calls a random object wrong, which may be the true one by chance.)

    To read, a lesson has one passage that states the answer and others that do not. Its subject and
    its object are drawn anew, so memory is of no use; a pair that is a fact of the world by chance
    is drawn again. To remember, it has a question about an exposed fact: the more popular a
    subject, the more often.

    Args:
        world: the world of names, questions and exposed facts.
        shares: registers of passages, and how many lessons are closed book.
        seed: of all draws.
        paraphrases: which questions about a fact; all by default.

    Example:
        >>> from tilefold.world.reading_world import make_reading_world
        >>> writer = LessonWriter(make_reading_world("tiny"), LessonShares(), seed=0)
        >>> lesson = writer.lesson()
        >>> any(lesson.answer in passage for passage in lesson.passages)
        True
    """

    def __init__(
        self,
        world: ReadingWorld,
        shares: LessonShares,
        *,
        seed: int,
        paraphrases: Sequence[int] | None = None,
    ) -> None:
        shares.check()
        self._paraphrases = paraphrases
        self._world = world
        self._shares = shares
        self._rng = np.random.default_rng([seed, 8])
        self._writer = PassageWriter(world.objects, world.old_names)
        kinds = {relation.name: relation.subject for relation in RELATIONS}
        self._subjects: dict[str, list[str]] = {}
        for fact in world.facts:
            self._subjects.setdefault(kinds[fact.relation], []).append(fact.subject)
        self._subjects = {kind: list(dict.fromkeys(s)) for kind, s in self._subjects.items()}
        self._true = {(fact.relation, fact.subject): fact.object for fact in world.facts}
        self._exposed = [n for n, fact in enumerate(world.facts) if fact.exposed]
        weights = np.array([world.facts[n].popularity for n in self._exposed])
        self._weights = weights / weights.sum() if len(weights) else weights

    def lesson(self) -> Lesson:
        """Returns the next lesson."""
        if self._exposed and self._rng.random() < self._shares.closed_book:
            number = int(self._rng.choice(self._exposed, p=self._weights))
            return Lesson(
                drawn(self._rng, self._asked(self._world.questions(number))),
                [],
                self._world.facts[number].object,
            )
        statement = self._statement(self._relation(RELATIONS))
        passages = [self._stating(statement)]
        for _ in range(int(self._rng.integers(self._shares.max_passages))):
            passages.append(self._other(statement))
        order = self._rng.permutation(len(passages))
        form = drawn(self._rng, self._asked(statement.relation.questions))
        question = form.format(s=statement.subject)
        return Lesson(question, [passages[place] for place in order], statement.object)

    def _asked(self, questions: Sequence[str]) -> Sequence[str]:
        if self._paraphrases is None:
            return questions
        return [questions[place] for place in self._paraphrases]

    def _stating(self, statement: Statement) -> str:
        registers = "crowded", "corrected", "archaic"
        limits = np.cumsum([getattr(self._shares, name) for name in registers])
        place = int(np.searchsorted(limits, self._rng.random(), side="right"))
        return self._passage((*registers, "plain")[place], statement)

    def _other(self, statement: Statement) -> str:
        """Returns a passage about another subject, or about another property of the same one."""
        relation, subject, _ = statement
        others = [r for r in RELATIONS if r.subject == relation.subject and r != relation]
        if self._rng.random() < 0.3:
            return self._passage("plain", self._statement(self._relation(others), subject))
        return self._passage("plain", self._statement(relation, avoided=subject))

    def _passage(self, register: str, statement: Statement) -> str:
        neighbours = [
            self._statement(statement.relation, avoided=statement.subject)
            for _ in range(_NEIGHBOURS if register == "crowded" else 0)
        ]
        return self._writer.write(register, statement, self._rng, neighbours)

    def _statement(
        self, relation: Relation, subject: str | None = None, avoided: str | None = None
    ) -> Statement:
        """Draws a statement that is no fact of the world."""
        while True:
            chosen = subject or drawn(self._rng, self._subjects[relation.subject])
            value = drawn(self._rng, self._world.objects[relation.name])
            if chosen != avoided and self._true[relation.name, chosen] != value:
                return Statement(relation, chosen, value)

    def _relation(self, choices: Sequence[Relation]) -> Relation:
        return choices[int(self._rng.integers(len(choices)))]


def fused_prompt(question: str, passages: Sequence[str] = ()) -> list[str]:
    """Returns what fusion in decoder reads: each passage with the prompt, or the prompt alone."""
    prompt = PROMPT.format(question=question)
    return [f"{passage} {prompt}" for passage in passages] or [prompt]


def concatenated_prompt(question: str, passages: Sequence[str] = ()) -> str:
    """Returns what a decoder-only model reads: passages and prompt, with blank lines between."""
    return "\n\n".join([*passages, PROMPT.format(question=question)])
