"""Settings of the study of invariant, LLM-aligned retrieval (Invar-RAG)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from ..settings import StudySettings

WorldSize = Literal["tiny", "small", "medium"]
Variant = Literal["full", "no alignment", "no invariance", "no lora", "augmentation"]
Alignment = Literal["scores", "representation", "likelihood"]
AlignmentDivergence = Literal["forward_kl", "reverse_kl", "js", "mse"]
InvarianceForm = Literal["consistency", "risk", "variance"]
RewriteFamily = Literal["typo", "redundancy", "formality", "ambiguity", "template", "order"]
Precision = Literal["float32", "bfloat16"]
SwappedParts = Literal["none", "rewrites", "queries"]
RetrievalInGeneration = Literal["inactive", "merged"]
FULL: Variant = "full"
_FILE_FIELDS = ("model", "coarse", "data", "test")
_NOT_WITH_WORLD = (
    "baselines",
    "split",
    "test_split",
    "answers",
    "rewrites",
    "unseen_rewrites",
    "template",
    "query_prefix",
    "passage_prefix",
    "families",
    "unseen_families",
    "n_unseen",
)


@dataclass(frozen=True, kw_only=True)
class InvarSettings(StudySettings):
    """Settings of `run_invar`; see docs/invar.md for what is the paper's.

    Args:
        world: size of a synthetic world, in which all models are trained.
        model: causal language model, a folder or Hugging Face name; or another retriever, such as
            one that AAR trained, where generator_variants are none.
        coarse: coarse encoder (MiniLM in the paper), a folder or Hugging Face name; minilm for
            all-MiniLM-L6-v2.
        baselines: further retrievers that are measured as they are, folders or Hugging Face names.
        data: questions to train on, a training file or a collection.
        split: split of a collection given as data (default: train).
        test: questions to evaluate on, a training file or a collection.
        test_split: split of a collection given as test (default: test).
        answers: file with the answers of the questions of data and test, where they have none.
        rewrites: file with rewrites of the training questions; by default rules write them.
        unseen_rewrites: file with rewrites of the test questions; by default rules of
            unseen_families write them.
        template: of prompts: author, popqa, or a text with the fields {passages} and {question}.
        query_prefix, passage_prefix: put before each text that the retriever reads (default:
            "query: " and "passage: " for a language model, its own for another retriever).
        families: rules of rewrites in training.
        unseen_families: rules of rewrites of test questions, without those of training.
        variants: retrievers to train: full, without a part, or with rewrites as further queries
            in place of the invariance loss (augmentation).
        generator_variants: variants over whose retriever stage 2 is trained; the first one has the
            baselines of answers, too. None for no stage 2.
        dtype: precision of the language model; adapters are trained in float32.
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
        n_unseen: rewrites of each test question; questions with fewer are left out.
        top_patterns: invariant passages of a query, to which the target of the invariance loss is
            restricted: those with the largest mean - beta * standard deviation over views; 0 for
            all.
        beta: of top_patterns.
        invariance_mask: with the form risk, trains a mask that splits queries into an invariant and
            a variant part, and swaps the variant parts of rewrites or of queries.
        windows: words of a chunk, each a context window in the evaluation beside whole passages.
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
        representation_temperature: vectors are divided by it before their softmax over dimensions,
            with alignment representation (default: 1).
        query_max_length, document_max_length: tokens that the retriever reads.
        generator_epochs: passes over the questions, stage 2.
        generator_batch_size: examples in a step, stage 2.
        generator_learning_rate: peak learning rate, stage 2.
        n_passages: passages in a prompt.
        gold_share: share of the examples of stage 2 whose prompt is made to have a gold passage.
        retrieval_in_generation: whether the adapter for retrieval is inactive in stage 2, or merged
            with the model.
        max_new_tokens: of an answer.
        max_length: tokens of a prompt with its answer (default: as many as the model reads).
        sweep_weights: further weights of the invariance loss, first seed.
        sweep_views: further numbers of rewrites in a step, first seed.
        cutoff: passages of a ranking that are compared between interventions.
        examples: questions that the report shows under their rewrites.
        seeds: seeds of training; intervals and tests are over questions, averaged over seeds.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.

    Example:
        >>> InvarSettings(world="tiny", variants=["full", "no invariance"]).invariance
        'consistency'
    """

    world: WorldSize | None = None
    model: str | None = None
    coarse: str | None = None
    baselines: tuple[str, ...] = ()
    data: str | None = None
    split: str | None = None
    test: str | None = None
    test_split: str | None = None
    answers: str | None = None
    rewrites: str | None = None
    unseen_rewrites: str | None = None
    template: str = "author"
    query_prefix: str | None = None
    passage_prefix: str | None = None
    families: tuple[RewriteFamily, ...] = ("redundancy", "template")
    unseen_families: tuple[RewriteFamily, ...] = ("typo", "formality", "ambiguity")
    variants: tuple[Variant, ...] = get_args(Variant)
    generator_variants: tuple[Variant, ...] = (FULL,)
    dtype: Precision = "float32"
    alignment: Alignment = "scores"
    divergence: AlignmentDivergence = "forward_kl"
    alignment_weight: float = 1.0
    invariance: InvarianceForm = "consistency"
    invariance_weight: float = 2.0
    warmup_share: float = 0.1
    ramp_share: float = 0.4
    n_views: int = 1
    training_windows: tuple[int, ...] = ()
    n_unseen: int = 2
    top_patterns: int = 0
    beta: float = 1.0
    invariance_mask: SwappedParts = "none"
    windows: tuple[int, ...] = ()
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
    representation_temperature: float | None = None
    query_max_length: int = 32
    document_max_length: int = 196
    generator_epochs: int = 3
    generator_batch_size: int = 16
    generator_learning_rate: float = 2e-5
    n_passages: int = 5
    gold_share: float = 0.7
    retrieval_in_generation: RetrievalInGeneration = "inactive"
    max_new_tokens: int = 32
    max_length: int | None = None
    sweep_weights: tuple[float, ...] = ()
    sweep_views: tuple[int, ...] = ()
    cutoff: int = 10
    examples: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = "generator_variants", "baselines"
        for name in ("variants", "seeds", "families", "unseen_families", *listed):
            self._replace(name, tuple(dict.fromkeys(getattr(self, name))))
        for name in ("variants", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{self._named(name)}: expected one or more, got none")
        if FULL not in self.variants:
            raise ValueError(f"{self._named('variants')}: expected {FULL!r} among them")
        self._check_generator()
        self._check_counts()
        self._check_numbers()
        shared = set(self.families) & set(self.unseen_families)
        if shared and self.rewrites is None and self.unseen_rewrites is None:
            raise ValueError(
                f"{self._named('unseen_families')}: expected none of families, got {min(shared)}"
            )
        if (self.divergence == "mse") > (self.alignment == "representation"):
            raise ValueError(
                f"{self._named('divergence')}: mse is for representations, not for {self.alignment}"
            )
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
        self._check_representation()
        self._check_subject()

    def _check_generator(self) -> None:
        name = self._named("generator_variants")
        for variant in self.generator_variants:
            if variant not in self.variants:
                raise ValueError(f"{name}: expected some of variants, got {variant!r}")
        if "no lora" in self.generator_variants:
            raise ValueError(
                f"{name}: expected variants with an adapter for retrieval, got 'no lora', which "
                "changes the weights that the generator would read with"
            )
        if self.generator_variants and FULL not in self.generator_variants:
            raise ValueError(f"{name}: expected {FULL!r} among them, or none")
        if self.dtype == "bfloat16" and "no lora" in self.variants:
            raise ValueError(
                f"{self._named('dtype')}: expected float32, as the variant 'no lora' trains the "
                "weights themselves, got bfloat16"
            )
        if self.refresh_steps and self.alignment == "likelihood":
            raise ValueError(
                f"{self._named('refresh_steps')}: expected 0 with alignment likelihood, which has "
                f"teacher scores of the coarse candidates alone, got {self.refresh_steps}"
            )
        if self.retrieval_in_generation == "merged" and not self.generator_variants:
            raise ValueError(
                f"{self._named('retrieval_in_generation')}: has no effect without "
                "generator_variants"
            )

    def _check_representation(self) -> None:
        if self.representation_temperature is None:
            return
        self._check_range("representation_temperature", 0, float("inf"), above=True)
        if self.alignment != "representation" or self.divergence == "mse":
            raise ValueError(
                f"{self._named('representation_temperature')}: is of alignment representation by "
                f"a divergence, not of {self.alignment} by {self.divergence}"
            )

    def _check_counts(self) -> None:
        for name in ("n_views", "n_unseen", "lora_rank", "depth", "group_negatives", "epochs"):
            self._check_min(name, 1)
        for name in (
            "cutoff",
            "train_batch_size",
            "batch_size",
            "query_max_length",
            "document_max_length",
        ):
            self._check_min(name, 1)
        self._check_min("max_length", 1)
        for name in ("generator_epochs", "generator_batch_size", "n_passages", "max_new_tokens"):
            self._check_min(name, 1)
        for name in ("windows", "sweep_views", "training_windows"):
            self._replace(name, tuple(sorted(set(getattr(self, name)))))
            self._check_min(name, 1)
        if 0 < len(self.training_windows) < max(self.n_views, *self.sweep_views, 1):
            raise ValueError(
                f"{self._named('training_windows')}: expected as many widths as views, "
                f"{max(self.n_views, *self.sweep_views, 1)}, got {len(self.training_windows)}"
            )
        for name in ("top_patterns", "examples", "seeds", "refresh_steps"):
            self._check_min(name, 0)
        if self.group_negatives > self.depth:
            raise ValueError(
                f"{self._named('group_negatives')}: expected at most depth, {self.depth}, got "
                f"{self.group_negatives}"
            )

    def _check_numbers(self) -> None:
        positive = ("temperature", "coarse_temperature", "learning_rate", "lora_alpha")
        for name in (*positive, "generator_learning_rate"):
            self._check_range(name, 0, float("inf"), above=True)
        for name in ("alignment_weight", "invariance_weight", "beta"):
            self._check_range(name, 0, float("inf"))
        for name in ("warmup_share", "ramp_share", "gold_share", "lora_dropout"):
            self._check_range(name, 0, 1)
        if self.lora_dropout == 1:
            raise ValueError(f"{self._named('lora_dropout')}: expected a number below 1, got 1")
        self._replace("sweep_weights", tuple(sorted(set(self.sweep_weights))))
        if any(not 0 < weight < float("inf") for weight in self.sweep_weights):
            raise ValueError(
                f"{self._named('sweep_weights')}: expected numbers above 0, got "
                f"{self.sweep_weights}"
            )
        if self.warmup_share + self.ramp_share > 1:
            raise ValueError(
                f"{self._named('ramp_share')}: expected at most 1 - warmup_share, "
                f"{1 - self.warmup_share:g}, got {self.ramp_share}"
            )

    def _check_range(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        value = getattr(self, name)
        if not low <= value <= high or value == float("inf") or (above and value == low):
            wanted = "above" if above else "at least"
            limit = f" and at most {high:g}" if high < float("inf") else ""
            raise ValueError(
                f"{self._named(name)}: expected a number {wanted} {low:g}{limit}, got {value}"
            )

    def _check_subject(self) -> None:
        given = [name for name in _FILE_FIELDS if getattr(self, name)]
        if self.world is not None:
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            own = [name for name in _NOT_WITH_WORLD if getattr(self, name) != defaults[name]]
            for name in (*given, *own):
                raise ValueError(f"{self._named(name)}: not with world, which has its own")
            for name, values in (("n_views", (self.n_views,)), ("sweep_views", self.sweep_views)):
                if max(values, default=1) > 1:
                    raise ValueError(
                        f"{self._named(name)}: expected 1, as a world has one rewrite of a "
                        f"question for training, got {max(values)}"
                    )
        elif len(given) < len(_FILE_FIELDS):
            missing = ", ".join(name for name in _FILE_FIELDS if name not in given)
            raise ValueError(
                f"{type(self).__name__}: expected world; or {', '.join(_FILE_FIELDS)}; missing: "
                f"{missing}"
            )
