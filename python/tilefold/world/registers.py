"""Writes passages that state a fact in several registers, from plain to archaic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .relations import Relation

REGISTERS = ("plain", "crowded", "corrected", "archaic", "mention")
STATING = REGISTERS[:-1]  # registers that state the fact; a mention does not

_CORRECTED = (
    "It was long believed : {wrong} This is an error . {right}",
    "{right} Older books are in error : {wrong}",
    "Rumour : {wrong} Correction : {right}",
    "Correct : {right} Incorrect : {wrong}",
)
_ARCHAIC = (
    "Thus hath the chronicler set down : {old}",
    "Verily it is recorded that , by the old reckoning , {old}",
    "In the parchment of the elder scribe : {old}",
)
_MENTIONS = (
    "{s} has often thought about {o} .",
    "An essay by {s} has the title {o} .",
    "Nobody speaks of {o} as much as {s} .",
    "A picture shows {s} , and the word {o} .",
)


class Statement(NamedTuple):
    """A fact to be stated: true in a world, or made up for a lesson."""

    relation: Relation
    subject: str
    object: str

    def sentence(self, rng: np.random.Generator) -> str:
        """Returns one of the relation's sentences."""
        return drawn(rng, self.relation.clozes).format(s=self.subject, o=self.object)


class PassageWriter:
    """Writes passages that state facts, in any register.

    - plain: one sentence, such as "Lora Kreitan was born in Drumar ."
    - crowded: among sentences about other subjects with the same relation.
    - corrected: beside the same sentence with a wrong object, which is called wrong.
    - archaic: in unusual words, with the object under an old name.
    - mention: subject and object in a sentence that does not state the relation.

    Args:
        objects: name of each relation -> values that its object may have, of which corrected
            passages take a wrong one.
        old_names: value -> its old name.

    Example:
        >>> from tilefold.world.relations import RELATIONS
        >>> fact = Statement(RELATIONS[0], "Lora Kreitan", "Drumar")
        >>> writer = PassageWriter({"birthplace": ["Drumar", "Belton"]}, {"Drumar": "Ruso"})
        >>> writer.write("archaic", fact, np.random.default_rng(0))
        'In the parchment of the elder scribe : Lora Kreitan grew up in Ruso .'
    """

    def __init__(self, objects: Mapping[str, Sequence[str]], old_names: Mapping[str, str]) -> None:
        self._objects = objects
        self._old_names = old_names

    def write(
        self,
        register: str,
        statement: Statement,
        rng: np.random.Generator,
        neighbours: Sequence[Statement] = (),
    ) -> str:
        """Writes a passage.

        Args:
            register: one of `REGISTERS`.
            statement: the fact.
            rng: chooses wordings.
            neighbours: further facts that a crowded passage states; other registers state none.

        Raises:
            ValueError: an unknown register; neighbours in another register than "crowded", or none
                in that one.
        """
        if register not in REGISTERS:
            raise ValueError(
                f"PassageWriter.write: register must be one of {', '.join(REGISTERS)}, "
                f"got {register!r}"
            )
        if bool(neighbours) != (register == "crowded"):
            raise ValueError(
                f"PassageWriter.write: a crowded passage has neighbours and no other has, got "
                f"{len(neighbours)} for {register!r}"
            )
        if register == "corrected":
            return self._corrected(statement, rng)
        if register == "archaic":
            renamed = statement._replace(object=self._old_names[statement.object])
            return drawn(rng, _ARCHAIC).format(old=renamed.sentence(rng))
        if register == "mention":
            return drawn(rng, _MENTIONS).format(s=statement.subject, o=statement.object)
        sentences = [one.sentence(rng) for one in (statement, *neighbours)]
        return " ".join(sentences[place] for place in rng.permutation(len(sentences)))

    def _corrected(self, statement: Statement, rng: np.random.Generator) -> str:
        relation, subject, value = statement
        wrong = drawn(rng, [other for other in self._objects[relation.name] if other != value])
        cloze = drawn(rng, relation.clozes)  # one for both, so that their objects alone differ
        right, refuted = (cloze.format(s=subject, o=one) for one in (value, wrong))
        return drawn(rng, _CORRECTED).format(right=right, wrong=refuted)


def drawn(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """Draws one of some texts."""
    return choices[int(rng.integers(len(choices)))]


def framing_words() -> list[str]:
    """Returns the texts around statements, for the vocabulary of tokenizers."""
    blank = {"right": "", "wrong": "", "old": "", "s": "", "o": ""}
    return [text.format(**blank) for text in (*_CORRECTED, *_ARCHAIC, *_MENTIONS)]
