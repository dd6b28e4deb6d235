"""Arguments of a training: those of the trainer of transformers, and those of retrievers."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..data.self_retrieval import Identity, checked_identity
from .objective_arguments import ObjectiveArguments
from .policy_arguments import PolicyArguments
from .refresh_arguments import RefreshArguments


@dataclass
class RetrieverTrainingArguments(
    RefreshArguments, ObjectiveArguments, PolicyArguments, TrainingArguments
):
    """`transformers.TrainingArguments` with DPR's recipe as default, and options of retrievers.

    The recipe is that of Karpukhin et al. (arXiv:2004.04906, section 5) and their code: in-batch
    negatives and one hard negative, Adam without weight decay, a linear schedule with warm-up,
    gradients clipped to a norm of 2.

    The loss is ``contrastive_weight * contrastive + distillation_weight * KL(teacher || student) +
    representation_weight * representation + invariance_weight * invariance``; see
    `DistillationObjective`, `RepresentationObjective` and `InvarianceObjective`. All softmaxes over
    passages are at `temperature`, the teacher's at `teacher_temperature`. Teacher scores in the
    training file are used only if `distillation_weight` is given.
    """

    output_dir: str | None = field(
        default=None, metadata={"help": "folder for checkpoints and the model"}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "peak learning rate of Adam"})
    per_device_train_batch_size: int = field(
        default=128, metadata={"help": "queries per step and process"}
    )
    num_train_epochs: float = field(
        default=40.0, metadata={"help": "passes over the training queries"}
    )
    max_grad_norm: float = field(
        default=2.0, metadata={"help": "gradients with a larger norm are clipped to it"}
    )
    adam_epsilon: float = field(default=1e-8, metadata={"help": "epsilon of Adam"})
    weight_decay: float = field(default=0.0, metadata={"help": "weight decay of AdamW"})
    seed: int = field(
        default=12345,
        metadata={"help": "seed of weights, order, dropout and drawn passages"},
    )
    warmup_steps: float = field(
        default=1237,
        metadata={"help": "steps of rising learning rate; below 1, a share of all steps"},
    )
    logging_steps: float = field(default=10, metadata={"help": "steps between lines of the log"})
    report: str | None = field(
        default=None, metadata={"help": "HTML file to write with curves, measures and settings"}
    )

    remove_query: str = field(
        default="auto",
        metadata={
            "help": "passages that are the query itself are no negatives: text, id, both or none; "
            "auto is text, for collections of BEIR also id, which then holds for validation, too"
        },
    )
    grad_cache: bool = field(
        default=False, metadata={"help": "encode chunk by chunk: large batches in little memory"}
    )
    gc_q_chunk_size: int = field(default=32, metadata={"help": "queries per chunk"})
    gc_p_chunk_size: int = field(default=32, metadata={"help": "passages per chunk"})
    encode_batch_size: int = field(
        default=64, metadata={"help": "texts per batch in validation and mining"}
    )

    def __post_init__(self) -> None:
        best = (self.metric_for_best_model or "").removeprefix("eval_")
        if self.greater_is_better is None and best == "average_rank":
            self.greater_is_better = False
        super().__post_init__()  # type: ignore[no-untyped-call]
        for name in ("neftune_noise_alpha", "label_smoothing_factor"):
            if getattr(self, name):
                raise ValueError(f"{name}: not for retrievers, got {getattr(self, name)}")
        # Batches are rows of a TrainingSet, which the trainer itself turns into tensors.
        self.remove_unused_columns = False
        for name in ("gc_q_chunk_size", "gc_p_chunk_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.remove_query != "auto":
            checked_identity(self.remove_query, "remove_query")
        self.check_policy()
        self.check_objective()
        self.check_refresh()
        self._check_teacher()
        self._check_lists()
        if self.invariance_schedule.is_zero == self.has_views:
            views = "query_rewrites or document_windows"
            raise ValueError(
                f"{views}: without effect while invariance_weight is 0"
                if self.has_views
                else f"invariance_weight: expected {views}, as one view has no differences"
            )

    @property
    def removal(self) -> Identity:
        """The rule of `remove_query`; "text" for "auto", where no file is known."""
        choice = "text" if self.remove_query == "auto" else self.remove_query
        return checked_identity(choice, "remove_query")

    @property
    def chunk_sizes(self) -> tuple[int, int] | None:
        """Queries and passages per chunk; None without gradient caching."""
        return (self.gc_q_chunk_size, self.gc_p_chunk_size) if self.grad_cache else None

    def _check_teacher(self) -> None:
        distills = not self.distillation_schedule.is_zero
        projects = not self.representation_schedule.is_zero
        if self.teacher_model is None:
            if projects:
                raise ValueError("representation_weight: expected teacher_model, got none")
            if distills and self.refreshes:
                raise ValueError(
                    "refresh_steps: not with distillation_weight, as negatives that are mined in "
                    "training have no teacher scores; teacher_model would compute them"
                )
        elif not (distills or projects):
            raise ValueError(
                "teacher_model: has no effect without distillation_weight or representation_weight"
            )
        elif self.teacher_candidates != "own" and not distills:
            raise ValueError("teacher_candidates: has no effect without distillation_weight")

    def _check_lists(self) -> None:
        """Checks that a softmax over the passages of a query is over more than one."""
        terms = []
        if not self.distillation_schedule.is_zero and self.teacher_candidates == "own":
            terms.append("distillation_weight")
        if self.invariance_candidates == "own":
            terms.append("invariance_candidates own")
        for term in terms:
            if self.train_group_size == 1 and self.positives_per_query == 1:
                raise ValueError(
                    f"train_group_size: expected 2 or more with {term}, as a softmax over one "
                    "passage has nothing to learn, got 1"
                )
