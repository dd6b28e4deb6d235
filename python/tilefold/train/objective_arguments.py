"""Arguments of the loss of a training: its terms, their weights and temperatures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

from ..losses.alignment_loss import DIVERGENCES
from ..losses.invariance_loss import FORMS
from .objectives.invariance_objective import InvarianceCandidates
from .objectives.representation_mask import SwappedParts
from .objectives.representation_objective import RepresentationForm
from .schedule import Schedule

WEIGHTS = (
    "contrastive_weight",
    "distillation_weight",
    "representation_weight",
    "invariance_weight",
)
TEMPERATURES = (
    "temperature",
    "teacher_temperature",
    "representation_temperature",
    "gate_temperature",
)


@dataclass
class ObjectiveArguments:
    """Terms of the loss, each with a weight that may follow a schedule over optimizer steps."""

    temperature: float = field(default=1.0, metadata={"help": "scores are divided by it"})
    learn_temperature: bool = field(default=False, metadata={"help": "train the temperature, too"})
    symmetric: bool = field(
        default=False, metadata={"help": "average the loss with that from documents to queries"}
    )
    positives_mode: str = field(
        default="each",
        metadata={
            "help": "loss of several positives: 'each' has its own softmax without the others, or "
            "'sum' of their probabilities"
        },
    )
    contrastive_weight: str = field(
        default="1",
        metadata={
            "help": "weight of the contrastive loss: a number, or a schedule over optimizer steps "
            "as SHAPE:START:END:STEPS, such as linear:0:1:1000 or cosine:1:0:500"
        },
    )
    distillation_weight: str = field(
        default="0",
        metadata={
            "help": "weight of the KL divergence from teacher scores, those of the training file "
            "or of teacher_model, a number or a schedule; with 0 they are not used"
        },
    )
    distillation_divergence: str = field(
        default="forward_kl",
        metadata={
            "help": "forward_kl is KL(teacher || student), reverse_kl KL(student || teacher); or js"
        },
    )
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "teacher scores are divided by it"}
    )
    representation_weight: str = field(
        default="0",
        metadata={
            "help": "weight of the divergence of embeddings from a learned projection of those of "
            "teacher_model, a number or a schedule"
        },
    )
    representation_form: str = field(
        default="forward_kl",
        metadata={"help": "forward_kl, reverse_kl or js between softmaxes over dimensions, or mse"},
    )
    representation_temperature: float = field(
        default=1.0,
        metadata={
            "help": "of the softmax over dimensions; embeddings of length 1 need a low one: 0.05"
        },
    )
    invariance_weight: str = field(
        default="0",
        metadata={
            "help": "weight of the loss of differences between views, query_rewrites and "
            "document_windows; a ramp is linear:0:0.5:1000"
        },
    )
    invariance_form: str = field(
        default="consistency",
        metadata={
            "help": "consistency of rankings, risk (mean and variance of the contrastive loss over "
            "views) or variance of it alone"
        },
    )
    invariance_candidates: str = field(
        default="batch",
        metadata={
            "help": "passages that rankings are over, for consistency: all of the batch, or own, "
            "those drawn for a query"
        },
    )
    invariance_patterns: int = field(
        default=0,
        metadata={
            "help": "for consistency: passages that count as invariant, those with the highest "
            "mean - invariance_beta * standard deviation of their probability over views; 0 for all"
        },
    )
    invariance_beta: float = field(
        default=1.0, metadata={"help": "weight of the standard deviation in that choice"}
    )
    invariance_mask: str = field(
        default="none",
        metadata={
            "help": "for risk: train a mask that splits queries into an invariant and a variant "
            "part, which gates scores; rewrites or queries: whose variant parts are swapped in"
        },
    )
    gate_temperature: float = field(
        default=1.0, metadata={"help": "scores of variant parts are divided by it before they gate"}
    )

    @property
    def contrastive_schedule(self) -> Schedule:
        """The weight of the contrastive loss as a function of the step."""
        return Schedule.parse(self.contrastive_weight)

    @property
    def distillation_schedule(self) -> Schedule:
        """The weight of the distillation loss as a function of the step."""
        return Schedule.parse(self.distillation_weight)

    @property
    def representation_schedule(self) -> Schedule:
        """The weight of the alignment of embeddings as a function of the step."""
        return Schedule.parse(self.representation_weight)

    @property
    def invariance_schedule(self) -> Schedule:
        """The weight of the invariance loss as a function of the step."""
        return Schedule.parse(self.invariance_weight)

    def check_objective(self) -> None:
        """Checks weights, and that no argument of a term without weight is given.

        Raises:
            ValueError: names the argument.
        """
        for name in TEMPERATURES:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not 0 <= self.invariance_beta < math.inf:
            raise ValueError(f"invariance_beta: expected 0 or more, got {self.invariance_beta}")
        if self.invariance_patterns < 0:
            raise ValueError(
                f"invariance_patterns: expected 0 or more, got {self.invariance_patterns}"
            )
        if self.positives_mode not in ("each", "sum"):
            raise ValueError(f"positives_mode: expected each or sum, got {self.positives_mode!r}")
        self._check_weights()
        self._check_distillation()
        self._check_representation()
        self._check_invariance()

    def _check_weights(self) -> None:
        for name in WEIGHTS:
            # A number of a YAML file or of Python becomes the text that it would be on a command.
            setattr(self, name, str(getattr(self, name)))
            try:
                Schedule.parse(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        # Embeddings that follow a projection, or agree between views, may all be equal.
        if self.contrastive_schedule.is_zero and self.distillation_schedule.is_zero:
            raise ValueError("contrastive_weight and distillation_weight: expected one above 0")

    def _check_distillation(self) -> None:
        self._check_choice("distillation_divergence", DIVERGENCES)
        if self.distillation_schedule.is_zero:
            self._check_unused("distillation_weight", teacher_temperature=1.0)
            self._check_unused("distillation_weight", distillation_divergence="forward_kl")
        else:
            self._check_fixed_temperature("distillation_weight", "the student's softmax has")

    def _check_representation(self) -> None:
        self._check_choice("representation_form", get_args(RepresentationForm))
        if self.representation_schedule.is_zero:
            self._check_unused(
                "representation_weight",
                representation_form="forward_kl",
                representation_temperature=1.0,
            )
        if self.representation_form == "mse" and self.representation_temperature != 1:
            raise ValueError("representation_temperature: has no effect with mse")

    def _check_invariance(self) -> None:
        self._check_choice("invariance_form", FORMS)
        self._check_choice("invariance_candidates", get_args(InvarianceCandidates))
        self._check_choice("invariance_mask", ("none", *get_args(SwappedParts)))
        of_consistency = {"invariance_candidates": "batch", "invariance_patterns": 0}
        if self.invariance_schedule.is_zero:
            self._check_unused("invariance_weight", invariance_form="consistency", **of_consistency)
        else:
            self._check_fixed_temperature("invariance_weight", "the softmaxes of views have")
        if self.invariance_form != "consistency":
            self._check_unused("invariance_form consistency", **of_consistency)
        if self.invariance_form != "risk":
            self._check_unused("invariance_form risk", invariance_mask="none")
        if self.invariance_mask == "none":
            self._check_unused("invariance_mask", gate_temperature=1.0)
        if not self.invariance_patterns:
            self._check_unused("invariance_patterns", invariance_beta=1.0)

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            choices = f"{', '.join(known[:-1])} or {known[-1]}"
            raise ValueError(f"{name}: expected {choices}, got {getattr(self, name)!r}")

    def _check_unused(self, needed: str, **defaults: object) -> None:
        for name, default in defaults.items():
            if getattr(self, name) != default:
                raise ValueError(f"{name}: has no effect without {needed}")

    def _check_fixed_temperature(self, weight: str, softmax: str) -> None:
        if self.learn_temperature:
            raise ValueError(
                f"learn_temperature: not with {weight}, as {softmax} a fixed temperature"
            )
