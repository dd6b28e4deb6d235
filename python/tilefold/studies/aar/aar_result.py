"""Result of the study of augmentation-adapted retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from ..stage_clock import StageTime
from .aar_settings import AARSettings

CLOSED_BOOK, UNADAPTED, GOLD = "closed book", "un-adapted", "gold passages"
ADAPTIVE = "adaptive retrieval"  # un-adapted passages for unpopular subjects alone
GENREAD = "GenRead"  # a document that the target LM wrote, in place of passages


@dataclass(frozen=True)
class TargetAccuracy:
    """Accuracy of a target LM on a task.

    Args:
        task, target: names.
        retrieval: `CLOSED_BOOK`, `GENREAD`, `UNADAPTED`, `ADAPTIVE`, `GOLD`, or the positives that
            a retriever was adapted with.
        accuracy: mean and 95% bootstrap interval over questions, averaged over seeds.
        by_seed: accuracy of each seed; one where no seed matters.
        n: questions.
    """

    task: str
    target: str
    retrieval: str
    accuracy: Interval
    by_seed: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class TargetGain:
    """A target LM with an adapted retriever (model) beside the un-adapted one (base)."""

    task: str
    target: str
    retrieval: str
    comparison: PairedComparison


@dataclass(frozen=True)
class Overlap:
    """Overlap of the positives of two annotators (eq. 8), mean over questions and interval."""

    first: str
    second: str
    overlap: Interval
    n: int


@dataclass(frozen=True)
class TrainingPoint:
    """Measures of a retriever in training.

    Args:
        retrieval: the positives that it is trained with.
        seed: of the training.
        step: of the optimizer.
        reciprocal_rank: RR@10 of human judgments on held-out source questions.
        accuracy: of the first target LM on held-out source questions; NaN where not measured.
    """

    retrieval: str
    seed: int
    step: int
    reciprocal_rank: float
    accuracy: float


@dataclass(frozen=True)
class PassageList:
    """Passages of a question by one source: human judgments, a language model, a retriever."""

    source: str
    passages: tuple[str, ...]


@dataclass(frozen=True)
class QuestionExample:
    """A source question with its passages, as the report shows it."""

    question: str
    answers: tuple[str, ...]
    lists: tuple[PassageList, ...]


@dataclass(frozen=True)
class TrainingCounts:
    """Questions of a training set.

    Args:
        retrieval: its positives.
        questions: that are trained on.
        positives: mean number of a question.
        from_lm: share of the positives that the source LM added.
        dropped: questions without enough positives or without any negative.
    """

    retrieval: str
    questions: int
    positives: float
    from_lm: float
    dropped: int


@dataclass(frozen=True)
class DeletedAnswers:
    """A target LM on source questions, with passages of one source and without the answers in them.

    Args:
        target: name of the LM.
        source: of the passages: human judges or the source LM.
        with_answer: share of the passages that have an answer.
        whole, deleted, loss: accuracy, accuracy without the answers, and the difference.
        n: questions.
    """

    target: str
    source: str
    with_answer: float
    whole: Interval
    deleted: Interval
    loss: Interval
    n: int


@dataclass(frozen=True)
class PassageSweep:
    """Accuracy of a target LM by the number of passages that it reads."""

    task: str
    target: str
    retrieval: str
    n_passages: int
    accuracy: Interval


@dataclass(frozen=True)
class AARResult:
    """Result of `run_aar`.

    Args:
        settings: of the study.
        title: one line that names its models and data.
        accuracies: of target LMs by task and retrieval.
        gains: of adapted retrievers over the un-adapted one.
        overlaps: of positives between annotators.
        curves: measures during training.
        training: counts of training sets.
        deletions: effect of answers in passages.
        sweep: accuracy by number of passages.
        examples: questions with their passages.
        flops: mean number of floating-point operations per question of each target LM and stage.
        stages: seconds of each.
        constants: of the code.
        version: of tilefold.
    """

    settings: AARSettings
    title: str
    accuracies: tuple[TargetAccuracy, ...]
    gains: tuple[TargetGain, ...]
    overlaps: tuple[Overlap, ...]
    curves: tuple[TrainingPoint, ...]
    training: tuple[TrainingCounts, ...]
    deletions: tuple[DeletedAnswers, ...]
    sweep: tuple[PassageSweep, ...]
    examples: tuple[QuestionExample, ...]
    flops: dict[str, float]
    stages: tuple[StageTime, ...]
    constants: dict[str, float] = field(default_factory=dict)
    version: str = __version__
