"""Settings of stage 1 of Invar-RAG: how retrievers are trained, and which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..settings import StudySettings

Variant = Literal["full", "no alignment", "no invariance", "no lora", "augmentation"]
Alignment = Literal["scores", "representation", "likelihood"]
AlignmentDivergence = Literal["forward_kl", "reverse_kl", "js", "mse"]
InvarianceForm = Literal["consistency", "risk", "variance"]
SwappedParts = Literal["none", "rewrites", "queries"]
FULL: Variant = "full"


@dataclass(frozen=True, kw_only=True)
class RetrieverSettings(StudySettings):
    """Losses, adapters and optimization of stage 1.

    Args:
        variants: retrievers to train: full, without a part, or with rewrites as further queries
            in place of the invariance loss (augmentation).
        alignment: what is aligned: scores (A1), representations (A2), or scores with the
            likelihood of answers as teacher (A3).
        divergence: of the alignment; mse is for representations alone.
        alignment_weight: weight of the alignment loss.
        invariance: form of the invariance loss: consistency (I1), risk (I2) or variance (I3).
        invariance_weight: weight of the invariance loss after its ramp.
        warmup_share: share of the training steps without the invariance loss.
        ramp_share: share of the training steps in which its weight rises.
        n_views: rewrites of a query in a step.
        training_windows: words of passages in the views of a step, n_views widths or more; none for
            whole passages in all views.
        top_patterns: invariant passages of a query, to which the target of the invariance loss is
            restricted: those with the largest mean - beta * standard deviation over views; 0 for
            all.
        beta: of top_patterns.
        invariance_mask: with the form risk, trains a mask that splits queries into an invariant and
            a variant part, and swaps the variant parts of rewrites or of queries.
        lora_rank, lora_alpha, lora_dropout: of both adapters.
        lora_targets: names of the layers with adapters; all-linear for all linear layers.
        depth: coarse candidates of a query, from which hard negatives are drawn.
        group_negatives: hard negatives of a query in a step.
        refresh_steps: steps between minings of hard negatives with the model in training; 0 to keep
            the coarse candidates.
        epochs: passes over the questions, stage 1.
        train_batch_size: questions in a step, stage 1.
        learning_rate: peak learning rate, stage 1.
        temperature: scores of the language model are divided by it in softmaxes.
        coarse_temperature: scores of the teacher are divided by it: inner products of the coarse
            encoder, or mean log-likelihoods of answers with alignment likelihood.
        invariance_temperature: scores are divided by it in the invariance loss (default:
            temperature); a higher one gives more weight to passages further down.
        representation_temperature: vectors are divided by it before their softmax over dimensions,
            with alignment representation (default: 1).
        query_max_length, document_max_length: tokens that the retriever reads.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    variants: tuple[Variant, ...] = get_args(Variant)
    alignment: Alignment = "scores"
    divergence: AlignmentDivergence = "forward_kl"
    alignment_weight: float = 1.0
    invariance: InvarianceForm = "consistency"
    invariance_weight: float = 2.0
    warmup_share: float = 0.1
    ramp_share: float = 0.4
    n_views: int = 1
    training_windows: tuple[int, ...] = ()
    top_patterns: int = 0
    beta: float = 1.0
    invariance_mask: SwappedParts = "none"
    lora_rank: int = 32
    lora_alpha: float = 64.0
    lora_dropout: float = 0.1
    lora_targets: tuple[str, ...] = ("all-linear",)
    depth: int = 100
    group_negatives: int = 5
    refresh_steps: int = 0
    epochs: int = 1
    train_batch_size: int = 32
    learning_rate: float = 1e-4
    temperature: float = 0.01
    coarse_temperature: float = 0.05
    invariance_temperature: float | None = None
    representation_temperature: float | None = None
    query_max_length: int = 32
    document_max_length: int = 196

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replace("variants", tuple(dict.fromkeys(self.variants)))
        for name in ("variants", "lora_targets"):
            if not getattr(self, name):
                raise ValueError(f"{self._named(name)}: expected one or more, got none")
        if "all-linear" in self.lora_targets and len(self.lora_targets) > 1:
            raise ValueError(
                f"{self._named('lora_targets')}: expected all-linear or names of layers, got both: "
                f"{', '.join(self.lora_targets)}"
            )
        if FULL not in self.variants:
            raise ValueError(f"{self._named('variants')}: expected {FULL!r} among them")
        self._check_sizes()
        self._check_numbers()
        for part in ("alignment", "invariance"):
            if f"no {part}" in self.variants and not getattr(self, f"{part}_weight"):
                raise ValueError(
                    f"{self._named('variants')}: 'no {part}' is the same as 'full' with "
                    f"{part}_weight 0"
                )
        self._check_alignment()
        self._check_invariance()

    def _check_sizes(self) -> None:
        counts = "n_views", "lora_rank", "depth", "group_negatives", "epochs", "train_batch_size"
        for name in (*counts, "query_max_length", "document_max_length"):
            self._check_min(name, 1)
        for name in ("top_patterns", "refresh_steps"):
            self._check_min(name, 0)
        self._replace("training_windows", tuple(sorted(set(self.training_windows))))
        self._check_min("training_windows", 1)
        if self.group_negatives > self.depth:
            raise ValueError(
                f"{self._named('group_negatives')}: expected at most depth, {self.depth}, got "
                f"{self.group_negatives}"
            )

    def _check_numbers(self) -> None:
        for name in ("temperature", "coarse_temperature", "learning_rate", "lora_alpha"):
            self._check_range(name, 0, above=True)
        if self.invariance_temperature is not None:
            self._check_range("invariance_temperature", 0, above=True)
        for name in ("alignment_weight", "invariance_weight", "beta"):
            self._check_range(name, 0)
        for name in ("warmup_share", "ramp_share", "lora_dropout"):
            self._check_range(name, 0, 1)
        for name in ("warmup_share", "lora_dropout"):
            if getattr(self, name) == 1:
                raise ValueError(f"{self._named(name)}: expected a number below 1, got 1")
        if self.warmup_share + self.ramp_share > 1:
            raise ValueError(
                f"{self._named('ramp_share')}: expected at most 1 - warmup_share, "
                f"{1 - self.warmup_share:g}, got {self.ramp_share}"
            )

    def _check_alignment(self) -> None:
        if (self.divergence == "mse") > (self.alignment == "representation"):
            raise ValueError(
                f"{self._named('divergence')}: mse is for representations, not for {self.alignment}"
            )
        if self.refresh_steps and self.alignment == "likelihood":
            raise ValueError(
                f"{self._named('refresh_steps')}: expected 0 with alignment likelihood, which has "
                f"teacher scores of the coarse candidates alone, got {self.refresh_steps}"
            )
        if self.representation_temperature is None:
            return
        self._check_range("representation_temperature", 0, above=True)
        if self.alignment != "representation" or self.divergence == "mse":
            raise ValueError(
                f"{self._named('representation_temperature')}: is of alignment representation by "
                f"a divergence, not of {self.alignment} by {self.divergence}"
            )

    def _check_invariance(self) -> None:
        if self.beta != 1.0 and not self.top_patterns:
            raise ValueError(f"{self._named('beta')}: has no effect without top_patterns")
        if self.top_patterns and self.invariance != "consistency":
            raise ValueError(
                f"{self._named('top_patterns')}: is of the form consistency, not of "
                f"{self.invariance}"
            )
        if self.invariance_mask != "none" and self.invariance != "risk":
            raise ValueError(
                f"{self._named('invariance_mask')}: is of the form risk, not of {self.invariance}"
            )
