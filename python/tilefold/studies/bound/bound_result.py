"""Result of the study of the knowledge bound."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from .bound_settings import BoundSettings

# Facts of the test.
ADDED, REMOVED, OTHER_UNKNOWN, OTHER_KNOWN = "added", "removed", "other unknown", "other known"
GROUPS = (ADDED, REMOVED, OTHER_UNKNOWN, OTHER_KNOWN)
# Retrievers, by the base that they are trained from.
FROM_BASE = "base"
FROM_ADDED, FROM_REMOVED = "base with added facts", "base without removed facts"
RANDOM_ADDED, RANDOM_REMOVED = "random change as large (added)", "random change as large (removed)"
AFTER_ADDED, AFTER_REMOVED = "facts added after training", "facts removed after training"
TRAINED = (FROM_BASE, FROM_ADDED, FROM_REMOVED, RANDOM_ADDED, RANDOM_REMOVED)
EDITED_AFTER = (AFTER_ADDED, AFTER_REMOVED)
# Of each retriever the facts that were edited, and others that the base knew as well.
SPECIFIC = {
    **dict.fromkeys((FROM_ADDED, RANDOM_ADDED, AFTER_ADDED), (ADDED, OTHER_UNKNOWN)),
    **dict.fromkeys((FROM_REMOVED, RANDOM_REMOVED, AFTER_REMOVED), (REMOVED, OTHER_KNOWN)),
}


@dataclass(frozen=True)
class BoundMeasure:
    """A measure of one retriever on the questions about one group of facts.

    Args:
        retriever: what it was trained from.
        facts: the group.
        measure: its name.
        value: mean and 95% interval over facts of all seeds.
        seeds: mean of each seed.
        n: facts of all seeds.
    """

    retriever: str
    facts: str
    measure: str
    value: Interval
    seeds: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class BoundComparison:
    """A retriever beside the one from the unedited base, paired over facts.

    Args:
        retriever: what it was trained from.
        facts: the group.
        seeds: difference of each seed.
        comparison: over facts of all seeds, so that it says nothing of other trainings; p is
            corrected over all comparisons of this kind.
    """

    retriever: str
    facts: str
    seeds: tuple[float, ...]
    comparison: PairedComparison


@dataclass(frozen=True)
class SpecificEffect:
    """How much more the edited facts changed than others did, in the same retriever.

    Two trainings differ by chance on all facts; that is subtracted here.

    Args:
        retriever: what it was trained from.
        facts, others: the groups.
        difference: of the mean changes against the retriever from the unedited base, mean over
            seeds, and its 95% bootstrap interval over facts within seeds.
        seeds: difference of each seed.
        p: of a two-sided test that permutes facts between the groups within seeds, corrected over
            these effects (Holm).
    """

    retriever: str
    facts: str
    others: str
    difference: Interval
    seeds: tuple[float, ...]
    p: float


@dataclass(frozen=True)
class EditOutcome:
    """What the edits did to the base: probabilities of objects, and predictions elsewhere.

    Args:
        mode: add or remove.
        success: share of held-out prompts that state the object, or where it is removed do not.
        before, after: probability of the object there.
        unchanged: share of prompts of other known facts with the same prediction as before.
    """

    mode: str
    success: Interval
    before: Interval
    after: Interval
    unchanged: Interval


@dataclass(frozen=True)
class RankBin:
    """Facts by the rank of their object in the base, and the retriever from the unedited base.

    Args:
        label: ranks among the values of the relation.
        value: of the retriever's measure.
        n: facts of all seeds.
    """

    label: str
    value: Interval
    n: int


@dataclass(frozen=True)
class BoundResult:
    """Result of `run_bound`.

    Args:
        settings: of the run.
        title: names the world.
        edits: what the edits did to the base.
        measures: of every retriever and group of facts.
        comparisons: with the retriever from the unedited base.
        specific: changes of edited facts minus changes of others.
        bins: of facts that no retriever was trained on, by what the base knows.
        known: measure of facts that the base was pre-trained on minus that of others; which facts
            these are was drawn at random.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: BoundSettings
    title: str
    edits: tuple[EditOutcome, ...]
    measures: tuple[BoundMeasure, ...]
    comparisons: tuple[BoundComparison, ...]
    specific: tuple[SpecificEffect, ...]
    bins: tuple[RankBin, ...]
    known: Interval
    constants: dict[str, float]
    version: str = __version__
