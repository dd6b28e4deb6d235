"""Runs the study of the knowledge bound: edit facts, train retrievers, look at what they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import Interval, bootstrap, holm
from ..fact_rankings import MEASURE
from ..paired_comparison import compare_pairs
from ..study import NoStepStore, Reporter, StepStore
from .bound_result import (
    ADDED,
    EDITED_AFTER,
    FROM_BASE,
    GROUPS,
    REMOVED,
    SPECIFIC,
    TRAINED,
    BoundComparison,
    BoundMeasure,
    BoundResult,
    EditOutcome,
    RankBin,
    SpecificEffect,
)
from .bound_retrievers import retriever_values
from .bound_settings import BoundSettings
from .bound_subject import N_PROMPTS, BoundSubject, bound_subject
from .edited_bases import LARGEST_SHIFT, PATCH_STEPS, knowledge_deltas, outcomes

Floats = NDArray[np.float64]
# Of the ranks of objects among the values of their relation.
_BINS = ((1, 1), (2, 3), (4, 10), (11, None))
_DRAWS = 10_000
_AT_ONCE = 1_000  # permutations in memory
Values = dict[tuple[str, str], list[Floats]]  # retriever and group -> of each seed


def run_bound(
    settings: BoundSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> BoundResult:
    """Tests whether the knowledge of a base bounds what a retriever trained from it can retrieve.

    Facts that the base does not know are added to it, and facts that it knows are removed
    (Reichman and Heck, 2024). Retrievers are trained alike from each base, on questions about other
    facts, and rank passages for questions about the edited ones. Controls are random changes of
    the same size, the same edits after the training, and facts that were not edited.

    Args:
        settings: world, editor and training.
        steps: keeps bases, retrievers and measures, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        ValueError: fewer known or unknown facts than are to be edited.

    Example:
        >>> result = run_bound(BoundSettings(world="tiny", n_facts=10))  # doctest: +SKIP
        >>> result.comparisons[0].comparison.difference  # doctest: +SKIP
        Interval(mean=0.02, low=-0.03, high=0.07)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    values: Values = {}
    edits: dict[str, list[Mapping[str, Floats]]] = {}
    tests: list[tuple[NDArray[np.int64], Floats, Floats]] = []
    for seed in settings.seeds:
        subject = bound_subject(settings, seed)
        if seed == settings.seeds[0]:
            progress.started(_title(settings))
        counts = ", ".join(f"{len(own)} {name}" for name, own in subject.groups.items())
        progress.fact("facts", f"{counts}; {len(subject.train)} in training, seed {seed}")
        deltas = knowledge_deltas(settings, subject, seed, steps)
        for group, found in outcomes(subject, deltas).items():
            edits.setdefault(group, []).append(found)
            before, after = found["before"].mean(), found["after"].mean()
            progress.fact(f"{group} facts", f"probability {before:.3f} before, {after:.3f} after")
        for name in (*TRAINED, *EDITED_AFTER):
            measured = retriever_values(settings, subject, deltas, name, seed, steps)
            means = []
            for group in GROUPS:
                own = measured[list(subject.groups[group])]
                values.setdefault((name, group), []).append(own)
                means.append(f"{group} {own.mean():.3f}")
            progress.fact(MEASURE, f"{name}: {', '.join(means)}")
            if name == FROM_BASE:
                tests.append(_test(subject, measured))
    return BoundResult(
        settings,
        _title(settings),
        tuple(_outcome(group, found) for group, found in edits.items()),
        tuple(_measures(values)),
        _comparisons(values),
        _specific(values),
        _bins(tests),
        _known(tests),
        {
            "prompts_of_an_edit": float(N_PROMPTS),
            "largest_shift": LARGEST_SHIFT,
            **({"patch_steps": float(PATCH_STEPS)} if settings.editor == "patches" else {}),
        },
    )


def _title(settings: BoundSettings) -> str:
    return f"a {settings.world} world, facts edited by {settings.editor}"


def _test(subject: BoundSubject, measured: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Returns ranks, whether facts were in the pre-training, and the measure, of the test facts."""
    facts = np.setdiff1d(np.arange(len(measured)), subject.train)
    exposed = np.array([subject.world.facts[n].exposed for n in facts.tolist()])
    return subject.ranks[facts], exposed, measured[facts]


def _outcome(group: str, found: Sequence[Mapping[str, Floats]]) -> EditOutcome:
    joined = {name: bootstrap(np.concatenate([own[name] for own in found])) for name in found[0]}
    return EditOutcome({ADDED: "add", REMOVED: "remove"}[group], **joined)


def _measures(values: Values) -> list[BoundMeasure]:
    rows = []
    for (name, group), seeds in values.items():
        joined = np.concatenate(seeds)
        means = tuple(float(own.mean()) for own in seeds)
        rows.append(BoundMeasure(name, group, MEASURE, bootstrap(joined), means, len(joined)))
    return rows


def _comparisons(values: Values) -> tuple[BoundComparison, ...]:
    keys = [key for key in values if key[0] != FROM_BASE]
    pairs: dict[str, Any] = {
        "\t".join(key): (np.concatenate(values[key]), np.concatenate(values[FROM_BASE, key[1]]))
        for key in keys
    }
    found = []
    for key, one in zip(keys, compare_pairs(pairs), strict=True):
        seeds = zip(values[key], values[FROM_BASE, key[1]], strict=True)
        differences = tuple(float((own - base).mean()) for own, base in seeds)
        found.append(BoundComparison(*key, differences, one))
    return tuple(found)


def _specific(values: Values) -> tuple[SpecificEffect, ...]:
    """Compares the change of edited facts with the change of others that were as known before."""
    rows, p = [], []
    for name, (edited, others) in SPECIFIC.items():
        one, other = (
            [
                own - base
                for own, base in zip(values[name, group], values[FROM_BASE, group], strict=True)
            ]
            for group in (edited, others)
        )
        seeds = tuple(float(a.mean() - b.mean()) for a, b in zip(one, other, strict=True))
        rows.append(SpecificEffect(name, edited, others, mean_difference(one, other), seeds, 0.0))
        p.append(permutation_p(one, other))
    return tuple(replace(row, p=float(own)) for row, own in zip(rows, holm(p), strict=True))


def permutation_p(one: Sequence[Floats], other: Sequence[Floats]) -> float:
    """Tests a mean difference by exchanging samples between two groups, within each seed.

    Args:
        one, other: values of each seed.

    Returns:
        The two-sided p value of 10,000 random permutations, the observed one included.
    """
    rng = np.random.default_rng(0)
    observed, drawn = 0.0, np.zeros(_DRAWS)
    for a, b in zip(one, other, strict=True):
        observed += (a.mean() - b.mean()) / len(one)
        joined = np.concatenate([a, b])
        for begin in range(0, _DRAWS, _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            orders = rng.permuted(np.tile(joined, (len(drawn[some]), 1)), axis=1)
            means = orders[:, : len(a)].mean(1) - orders[:, len(a) :].mean(1)
            drawn[some] += means / len(one)
    as_far = np.abs(drawn) >= abs(observed) - 1e-12
    return float((1 + as_far.sum()) / (1 + _DRAWS))


def mean_difference(one: Sequence[Floats], other: Sequence[Floats]) -> Interval:
    """Returns the mean over seeds of the difference of two groups, with a 95% bootstrap interval.

    Facts are drawn within each seed, so that shifts which all facts of a seed share cancel.

    Args:
        one, other: values of each seed.
    """
    rng = np.random.default_rng(0)
    drawn, mean = np.zeros(_DRAWS), 0.0
    for a, b in zip(one, other, strict=True):
        mean += float(a.mean() - b.mean()) / len(one)
        for own, sign in ((a, 1), (b, -1)):
            drawn += sign * own[rng.integers(0, len(own), (_DRAWS, len(own)))].mean(1) / len(one)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def _bins(tests: Sequence[tuple[NDArray[np.int64], Floats, Floats]]) -> tuple[RankBin, ...]:
    ranks, measured = (np.concatenate([own[i] for own in tests]) for i in (0, 2))
    bins = []
    for low, high in _BINS:
        inside = (ranks >= low) & (ranks <= (high or ranks.max(initial=1)))
        label = f"{low}" if low == high else f"{low} to {high}" if high else f"{low} or more"
        if inside.any():
            bins.append(RankBin(label, bootstrap(measured[inside]), int(inside.sum())))
    return tuple(bins)


def _known(tests: Sequence[tuple[NDArray[np.int64], Floats, Floats]]) -> Interval:
    """Returns the measure of facts in the pre-training minus that of the others."""
    inside = [own[exposed.astype(bool)] for _, exposed, own in tests]
    return mean_difference(inside, [own[~exposed.astype(bool)] for _, exposed, own in tests])
