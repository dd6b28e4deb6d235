"""Computes multiple-choice accuracy over questions, subjects and groups of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Accuracy(NamedTuple):
    """Accuracy as the mean over questions, and as the mean over subjects."""

    micro: float  # over questions
    macro: float  # over subjects, each the mean over its questions


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Share of questions whose right option scored highest."""

    correct: FloatArray  # [n] 1 or 0, for `bootstrap` and `paired_test`
    overall: Accuracy
    by_subject: dict[str, float]  # in alphabetical order
    by_group: dict[str, Accuracy]  # in the order of the groups; those without questions left out


def choice_accuracy(
    scores: Sequence[Any],
    answers: Any,
    subjects: Sequence[str],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> ChoiceAccuracy:
    """Computes how often the option with the highest score is the right one.

    MMLU is reported in two ways: the original evaluation averages over questions (micro), others
    over the 57 subjects (macro). With `groups=MMLU_GROUPS` both are there, for all and for each of
    its four groups.

    Args:
        scores: [options] of each of n questions, such as the log-likelihood of each option, divided
            by its length or not. Of equal scores the first option is taken.
        answers: [n] position of the right option.
        subjects: [n] names.
        groups: name of a group -> its subjects; none by default.

    Raises:
        ValueError: arguments that differ in length, a question without options or with NaN, an
            answer that is no option, a subject in no group.

    Source: Hendrycks et al., "Measuring Massive Multitask Language Understanding", ICLR 2021; the
    macro average as in Yu et al., ACL 2023.

    >>> found = choice_accuracy(
    ...     [[-1.0, -2.0], [-3.0, -1.0], [0.5, 0.0]], [0, 1, 1], ["virology", "virology", "anatomy"]
    ... )
    >>> found.by_subject, found.overall.macro
    ({'anatomy': 0.0, 'virology': 1.0}, 0.5)
    """
    correct = _correct(scores, answers)
    if len(subjects) != len(correct):
        raise ValueError(
            f"choice_accuracy: {len(correct)} questions but subjects of {len(subjects)}"
        )
    names, index = np.unique(np.asarray(subjects, np.str_), return_inverse=True)
    right, total = np.bincount(index, correct, len(names)), np.bincount(index, None, len(names))
    group_of = {} if groups is None else _group_of(names.tolist(), groups)
    in_group = {
        group: np.array([group_of[name] == group for name in names.tolist()])
        for group in groups or {}
        if group in group_of.values()
    }
    return ChoiceAccuracy(
        correct=correct,
        overall=_accuracy(right, total),
        by_subject=dict(zip(names.tolist(), (right / total).tolist(), strict=True)),
        by_group={group: _accuracy(right[own], total[own]) for group, own in in_group.items()},
    )


def _accuracy(right: NDArray[Any], total: NDArray[Any]) -> Accuracy:
    if not len(total):
        return Accuracy(float("nan"), float("nan"))
    return Accuracy(float(right.sum() / total.sum()), float((right / total).mean()))


def _correct(scores: Sequence[Any], answers: Any) -> FloatArray:
    right = np.asarray(answers if len(answers) else np.empty(0, np.int64))
    if right.shape != (len(scores),) or right.dtype.kind not in "iu":
        raise ValueError(
            f"choice_accuracy: answers must be [{len(scores)}] integers, one per question, "
            f"got {right.dtype} of shape {right.shape}"
        )
    return np.array(
        [_best(row, scores[row], option) == option for row, option in enumerate(right.tolist())],
        np.float64,
    )


def _best(row: int, scores: Any, option: int) -> int:
    options = np.asarray(scores, np.float64)
    if options.ndim != 1 or not options.size or np.isnan(options).any():
        raise ValueError(
            f"choice_accuracy: question {row} must have a number for each option, got {scores}"
        )
    if not 0 <= option < len(options):
        raise ValueError(
            f"choice_accuracy: question {row} has {len(options)} options but answer {option}"
        )
    return int(options.argmax())


def _group_of(subjects: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    group_of = {subject: group for group, members in groups.items() for subject in members}
    for subject in subjects:
        if subject not in group_of:
            raise ValueError(f"choice_accuracy: the subject {subject!r} is in none of the groups")
    return {subject: group_of[subject] for subject in subjects}


# The groups of MMLU's own evaluation code; the paper's appendix lists anatomy under STEM.
MMLU_GROUPS: dict[str, tuple[str, ...]] = {
    "Humanities": (
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ),
    "Social sciences": (
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ),
    "STEM": (
        "abstract_algebra",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ),
    "Other": (
        "anatomy",
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ),
}
