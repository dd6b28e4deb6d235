"""Defines edits: facts that a model is to state about a subject, or to state no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...data.cloze_facts import MASK, ClozeFact


@dataclass(frozen=True)
class FactEdit:
    """A fact to add to a language model, or to remove from it.

    Args:
        subject: what the fact is about; every prompt has it.
        prompts: sentences that state the fact in different words, each with ``[MASK]`` once for the
            object, whatever the mask of the model's tokenizer is. Of causal models, which read no
            further, the part before it counts.
        object: the object to state after the edit, or with `remove` the one to state no more; one
            token or several.
        remove: whether the fact is removed.
        original: the object that the model states before, if known: `NeuronSurgery` subtracts it.

    Raises:
        TypeError: `prompts` is a single string.
        ValueError: no prompt, one without the subject or with another number of masks than 1; a
            blank subject or object.

    Example:
        >>> FactEdit("Ada", ["Ada was born in [MASK].", "[MASK] is where Ada was born."], "Paris")
        FactEdit('Ada', 'Paris', 2 prompts)
        >>> FactEdit("Ada", ["Ada was born in [MASK]."], "Paris", remove=True)
        FactEdit('Ada', 'Paris', 1 prompt, remove)
    """

    subject: str
    prompts: Sequence[str]
    object: str
    remove: bool = False
    original: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.prompts, str):
            raise TypeError(f"FactEdit: prompts must be a list of strings, got {self.prompts!r}")
        object.__setattr__(self, "prompts", tuple(self.prompts))
        for name in ("subject", "object", "original"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise ValueError(f"FactEdit: {name} must have text, got {value!r}")
        if not self.prompts:
            raise ValueError("FactEdit: expected one prompt or more, got none")
        for prompt in self.prompts:
            masks = prompt.count(MASK)
            if masks != 1:
                raise ValueError(
                    f"FactEdit: a prompt must have one {MASK}, got {masks}: {prompt!r}"
                )
            if self.subject not in prompt:
                raise ValueError(f"FactEdit: {prompt!r} does not have the subject {self.subject!r}")

    @classmethod
    def from_fact(cls, fact: ClozeFact, *, remove: bool = False) -> FactEdit:
        """Returns the edit that a data set asks for, or the removal of its fact.

        Args:
            fact: of `read_facts`; its new object is written where it has one.
            remove: remove the fact instead.

        >>> fact = ClozeFact("0", "Ada", "P19", "Rome", ("Ada is from [MASK].",), "Paris")
        >>> FactEdit.from_fact(fact), FactEdit.from_fact(fact, remove=True)
        (FactEdit('Ada', 'Paris', 1 prompt), FactEdit('Ada', 'Rome', 1 prompt, remove))
        """
        if remove or fact.new_object is None:
            return cls(fact.subject, fact.prompts, fact.object, remove)
        return cls(fact.subject, fact.prompts, fact.new_object, original=fact.object)

    def __repr__(self) -> str:
        n = len(self.prompts)
        prompts = f"{n} prompt{'s' * (n > 1)}"
        return f"FactEdit({self.subject!r}, {self.object!r}, {prompts}{', remove' * self.remove})"


def check_edits(op: str, edits: Sequence[FactEdit], *, causal: bool = False) -> None:
    """Raises ValueError where there are no edits, or two that contradict each other.

    Args:
        op: the public function, for the message.
        edits: those of one call.
        causal: whether prompts are the same where they only differ behind the object.

    Example:
        >>> one = FactEdit("Ada", ["Ada was born in [MASK]."], "Paris")
        >>> check_edits("Rome", [one, FactEdit("Ada", one.prompts, "Rome")])
        Traceback (most recent call last):
        ValueError: Rome: two edits contradict each other: FactEdit('Ada', 'Paris', 1 prompt) and \
FactEdit('Ada', 'Rome', 1 prompt) have the prompt 'Ada was born in [MASK].'
    """
    if not len(edits):
        raise ValueError(f"{op}: expected one edit or more, got none")
    of_prompt: dict[str, list[FactEdit]] = {}
    for edit in edits:
        for prompt in edit.prompts:
            others = of_prompt.setdefault(prompt.partition(MASK)[0] if causal else prompt, [])
            for other in others:
                if _contradict(edit, other):
                    raise ValueError(
                        f"{op}: two edits contradict each other: {other!r} and {edit!r} have the "
                        f"prompt {prompt!r}"
                    )
            others.append(edit)


def _contradict(one: FactEdit, other: FactEdit) -> bool:
    """Returns whether one prompt cannot do both: state two objects, or state one and not."""
    if one.remove and other.remove:
        return False
    same = one.object == other.object
    return same if one.remove != other.remove else not same
