"""Arguments of the batches of a training: passages, rewrites, windows, and a teacher of scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from .teacher_policy import TeacherCandidates


@dataclass
class PolicyArguments:
    """What is drawn for a query in a step, and what is added to it."""

    train_group_size: int = field(
        default=2,
        metadata={"help": "passages of a query in a step: one positive, the others hard negatives"},
    )
    positives_per_query: int = field(
        default=1,
        metadata={
            "help": "positives of a query in a step at most, beside the hard negatives of "
            "train_group_size; 0 for all"
        },
    )
    positive_passage_no_shuffle: bool = field(
        default=False, metadata={"help": "always take the first positives"}
    )
    negative_passage_no_shuffle: bool = field(
        default=False, metadata={"help": "always take the first hard negatives"}
    )
    negatives_rotation: bool = field(
        default=False,
        metadata={
            "help": "take the next hard negatives of a query in every epoch, in a shuffled order, "
            "instead of random ones in every step"
        },
    )
    query_rewrites: str | None = field(
        default=None,
        metadata={
            "help": "JSON lines of other wordings of the training queries, as _id and rewrites, "
            "for invariance_weight"
        },
    )
    n_query_views: int = field(
        default=1, metadata={"help": "rewrites of a query in a step, of query_rewrites"}
    )
    document_windows: list[int] = field(
        default_factory=list,
        metadata={
            "help": "numbers of words; views of a passage, for invariance_weight, are its first "
            "words, so many of them"
        },
    )
    n_document_views: int = field(
        default=1, metadata={"help": "windows of a passage in a step, of document_windows"}
    )
    teacher_model: str | None = field(
        default=None,
        metadata={
            "help": "folder or hub name of an encoder, or 'minilm', whose inner products are the "
            "teacher scores of distillation_weight, also of refreshed negatives, and whose "
            "embeddings those of representation_weight"
        },
    )
    teacher_candidates: str = field(
        default="own",
        metadata={
            "help": "passages that teacher_model scores for a query: own, those drawn for it, or "
            "batch, all of the batch"
        },
    )

    @property
    def has_views(self) -> bool:
        """Whether batches have views of queries or documents."""
        return self.query_rewrites is not None or bool(self.document_windows)

    def check_policy(self) -> None:
        """Checks numbers, and that no argument is given that another one leaves without effect.

        Raises:
            ValueError: names the argument.
        """
        for name, minimum in (
            ("train_group_size", 1),
            ("positives_per_query", 0),
            ("n_query_views", 1),
            ("n_document_views", 1),
        ):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: expected {minimum} or more, got {getattr(self, name)}")
        self._check_rotation()
        self._check_views()
        if self.teacher_candidates not in get_args(TeacherCandidates):
            raise ValueError(
                f"teacher_candidates: expected own or batch, got {self.teacher_candidates!r}"
            )
        if self.teacher_model is None and self.teacher_candidates != "own":
            raise ValueError("teacher_candidates: has no effect without teacher_model")

    def _check_rotation(self) -> None:
        if not self.negatives_rotation:
            return
        if self.negative_passage_no_shuffle:
            raise ValueError(
                "negatives_rotation: not with negative_passage_no_shuffle, which takes the same "
                "negatives in every epoch"
            )
        if self.train_group_size == 1:
            raise ValueError(
                "negatives_rotation: has no effect without hard negatives; expected "
                "train_group_size 2 or more, got 1"
            )

    def _check_views(self) -> None:
        widths = self.document_windows
        if min(widths, default=1) < 1 or len(set(widths)) < len(widths):
            raise ValueError(
                f"document_windows: expected different numbers of words, 1 or more, got {widths}"
            )
        if self.query_rewrites is None and self.n_query_views != 1:
            raise ValueError("n_query_views: has no effect without query_rewrites")
        if not widths and self.n_document_views != 1:
            raise ValueError("n_document_views: has no effect without document_windows")
        if widths and self.n_document_views > len(widths):
            raise ValueError(
                f"n_document_views: expected at most {len(widths)}, one for each of "
                f"document_windows, got {self.n_document_views}"
            )
        both = self.query_rewrites is not None and bool(widths)
        if both and self.n_query_views != self.n_document_views:
            raise ValueError(
                "n_document_views: expected as many as n_query_views where both have views, "
                f"{self.n_query_views}, got {self.n_document_views}"
            )
