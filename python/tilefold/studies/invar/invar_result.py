"""Result of the study of invariant, LLM-aligned retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from ..stage_clock import StageTime
from .invar_settings import InvarSettings
from .retriever_settings import Variant

ORIGINAL, REWRITES, WINDOWS = "original", "unseen rewrites", "windows"
BOTH = "rewrites and windows"
BM25, COARSE, DPR, UNTRAINED = "BM25", "coarse encoder", "DPR", "before stage 1"
RERANKED = "full, coarse candidates"
RETRIEVERS = (BM25, COARSE, DPR, UNTRAINED, *get_args(Variant), RERANKED)
CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD = (
    "closed book",
    "vanilla RAG",
    "ensemble (REPLUG)",
    "stage 2",
    "stage 2, gold passages",
)


@dataclass(frozen=True)
class Measured:
    """A measure of a retriever or of a generator.

    Args:
        system: name of the retriever or generator.
        condition: `ORIGINAL`, `REWRITES`, `WINDOWS` or `BOTH`; "" for a generator.
        measure: such as RR@10, or lowest RR@10.
        value: mean and 95% bootstrap interval over samples, values averaged over seeds.
        by_seed: mean of each seed; one where no seed matters.
        n: samples: questions, or groups of them.
    """

    system: str
    condition: str
    measure: str
    value: Interval
    by_seed: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class Compared:
    """A measure of one system (model) beside another (base), paired over samples."""

    system: str
    other: str
    condition: str
    measure: str
    comparison: PairedComparison


@dataclass(frozen=True)
class LossPoint:
    """Losses of a training at a step, by name."""

    variant: str
    seed: int
    step: int
    losses: dict[str, float]


@dataclass(frozen=True)
class RankingStrip:
    """Ranks of some passages under each wording of a question.

    Args:
        question: as it is in the data.
        wordings: the question and its rewrites.
        passages: texts, in the order of the question's own ranking.
        gold: whether each passage is relevant.
        ranks: by variant, for each wording the rank of each passage, from 1; 0 below the cutoff.
    """

    question: str
    wordings: tuple[str, ...]
    passages: tuple[str, ...]
    gold: tuple[bool, ...]
    ranks: dict[str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class SweepPoint:
    """Full training with another weight of the invariance loss, or number of rewrites in a step."""

    name: str
    value: float
    measure: str
    result: Interval


@dataclass(frozen=True)
class InvarResult:
    """Result of `run_invar`.

    Args:
        settings: of the study.
        title: one line that names its models and data.
        retrieval: measures of retrievers.
        robustness: how much rankings differ between interventions.
        comparisons: of the full retriever with each variant.
        generation: measures of answers.
        generation_gains: of answers.
        curves: losses during stage 1.
        strips: questions under their rewrites.
        sweep: other weights and numbers of rewrites.
        counts: of data, such as rewrites that equal their query.
        stages: seconds of each.
        samples: what intervals and tests are over: questions, or groups that are one sample each,
            as their questions are about the same passages.
        version: of tilefold.
    """

    settings: InvarSettings
    title: str
    retrieval: tuple[Measured, ...]
    robustness: tuple[Measured, ...]
    comparisons: tuple[Compared, ...]
    generation: tuple[Measured, ...]
    generation_gains: tuple[Compared, ...]
    curves: tuple[LossPoint, ...]
    strips: tuple[RankingStrip, ...]
    sweep: tuple[SweepPoint, ...]
    counts: dict[str, int]
    stages: tuple[StageTime, ...]
    samples: str = "questions"
    constants: dict[str, float] = field(default_factory=dict)
    version: str = __version__
