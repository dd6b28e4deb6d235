"""Arguments of training, with the names of Tevatron and of the trainer of transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..data.self_retrieval import Identity, checked_identity
from .schedule import Schedule


@dataclass
class ModelArguments:
    """Arguments of the model: checkpoint, pooling, lengths, adapters."""

    model_name_or_path: str = field(
        metadata={"help": "folder or hub name of the encoder; 'minilm' for all-MiniLM-L6-v2"}
    )
    untie_encoder: bool = field(
        default=False, metadata={"help": "train two encoders instead of one for both sides"}
    )
    pooling: str = field(default="cls", metadata={"help": "cls, mean, last or decoder"})
    normalize: bool = field(default=False, metadata={"help": "scale embeddings to length 1"})
    query_prefix: str = field(default="", metadata={"help": "text put before every query"})
    passage_prefix: str = field(default="", metadata={"help": "text put before every passage"})
    query_max_len: int = field(
        default=256, metadata={"help": "maximum length of a query in tokens; longer ones are cut"}
    )
    passage_max_len: int = field(
        default=256, metadata={"help": "maximum length of a passage in tokens; longer ones are cut"}
    )
    lora: bool = field(
        default=False, metadata={"help": "train low-rank adapters and freeze the model"}
    )
    lora_r: int = field(default=8, metadata={"help": "rank of the adapters"})
    lora_alpha: float = field(
        default=16.0, metadata={"help": "scale of the adapters, which is divided by their rank"}
    )
    lora_dropout: float = field(
        default=0.0, metadata={"help": "dropout of the inputs of the adapters"}
    )
    lora_target_modules: str | None = field(
        default=None,
        metadata={
            "help": "names of modules, separated by commas; the default is peft's for the model"
        },
    )


@dataclass
class DataArguments:
    """Arguments of the data: training file, validation collection and measures."""

    train_path: str = field(metadata={"help": "training file or folder, in any format of tilefold"})
    train_split: str = field(
        default="train", metadata={"help": "split to train on, of a folder with judgments"}
    )
    title_format: str = field(
        default="{title} [SEP] {text}",
        metadata={"help": "format that joins a passage's title and text"},
    )
    dev_path: str | None = field(
        default=None, metadata={"help": "collection to validate on: a folder with judgments"}
    )
    dev_split: str = field(
        default="dev", metadata={"help": "split of that collection to validate on"}
    )
    dev_holdout: int = field(
        default=0,
        metadata={
            "help": "number of training queries to validate on instead; they are not trained on"
        },
    )
    dev_holdout_last: bool = field(
        default=False,
        metadata={"help": "hold out the last training queries instead of random ones"},
    )
    dev_measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10"],
        metadata={
            "help": "measures to compute on the validation queries; with dev_holdout also loss, "
            "the training loss on them and their own hard negatives"
        },
    )


@dataclass
class RetrieverTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with DPR's recipe as default, and options of retrievers.

    The recipe is that of Karpukhin et al. (arXiv:2004.04906, section 5) and their code: in-batch
    negatives and one hard negative, Adam without weight decay, a linear schedule with warm-up,
    gradients clipped to a norm of 2.

    Teacher scores in the training file are used only if `distillation_weight` is given. The loss is
    then ``contrastive_weight * contrastive + distillation_weight * KL(teacher || student)``, with
    both softmaxes over the passages drawn for a query, the student's at `temperature`.
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
    positives_mode: str = field(
        default="each",
        metadata={
            "help": "loss of several positives: 'each' has its own softmax without the others, or "
            "'sum' of their probabilities"
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
    remove_query: str = field(
        default="auto",
        metadata={
            "help": "passages that are the query itself are no negatives: text, id, both or none; "
            "auto is text, for collections of BEIR also id, which then holds for validation, too"
        },
    )
    temperature: float = field(default=1.0, metadata={"help": "scores are divided by it"})
    learn_temperature: bool = field(default=False, metadata={"help": "train the temperature, too"})
    symmetric: bool = field(
        default=False, metadata={"help": "average the loss with that from documents to queries"}
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
            "help": "weight of the KL divergence from the teacher scores of the training file, a "
            "number or a schedule; with 0 they are not used"
        },
    )
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "teacher scores are divided by it"}
    )
    grad_cache: bool = field(
        default=False, metadata={"help": "encode chunk by chunk: large batches in little memory"}
    )
    gc_q_chunk_size: int = field(default=32, metadata={"help": "queries per chunk"})
    gc_p_chunk_size: int = field(default=32, metadata={"help": "passages per chunk"})

    refresh_steps: int = field(
        default=0,
        metadata={"help": "steps between minings of hard negatives with the model; 0 for none"},
    )
    refresh_at_start: bool = field(
        default=False, metadata={"help": "mine hard negatives before the first step, too"}
    )
    refresh_depth: int = field(
        default=200, metadata={"help": "number of best passages that negatives are drawn from"}
    )
    refresh_negatives: int = field(
        default=20, metadata={"help": "hard negatives kept for each query"}
    )
    refresh_skip: int = field(
        default=0, metadata={"help": "number of best passages that are left out"}
    )
    refresh_relative_margin: float | None = field(
        default=None,
        metadata={
            "help": "leave out passages closer than this share to the positive's score: 0.05"
        },
    )
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
        for name in ("train_group_size", "gc_q_chunk_size", "gc_p_chunk_size", "refresh_depth"):
            _check_minimum(name, getattr(self, name), 1)
        for name in ("refresh_steps", "refresh_skip", "positives_per_query"):
            _check_minimum(name, getattr(self, name), 0)
        _check_minimum("refresh_negatives", self.refresh_negatives, 1)
        if self.remove_query != "auto":
            checked_identity(self.remove_query, "remove_query")
        self._check_rotation()
        self._check_objective()
        room = self.refresh_depth - self.refresh_skip
        if self.refresh_negatives > room:
            raise ValueError(
                f"refresh_negatives: expected at most refresh_depth - refresh_skip, {room}, "
                f"got {self.refresh_negatives}"
            )

    @property
    def removal(self) -> Identity:
        """The rule of `remove_query`; "text" for "auto", where no file is known."""
        choice = "text" if self.remove_query == "auto" else self.remove_query
        return checked_identity(choice, "remove_query")

    @property
    def contrastive_schedule(self) -> Schedule:
        """The weight of the contrastive loss as a function of the step."""
        return Schedule.parse(self.contrastive_weight)

    @property
    def distillation_schedule(self) -> Schedule:
        """The weight of the distillation loss as a function of the step."""
        return Schedule.parse(self.distillation_weight)

    @property
    def chunk_sizes(self) -> tuple[int, int] | None:
        """Queries and passages per chunk; None without gradient caching."""
        return (self.gc_q_chunk_size, self.gc_p_chunk_size) if self.grad_cache else None

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

    def _check_objective(self) -> None:
        for name in ("temperature", "teacher_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if self.positives_mode not in ("each", "sum"):
            raise ValueError(f"positives_mode: expected each or sum, got {self.positives_mode!r}")
        weights = {}
        for name in ("contrastive_weight", "distillation_weight"):
            # A number of a YAML file or of Python becomes the text that it would be on a command.
            setattr(self, name, str(getattr(self, name)))
            try:
                weights[name] = Schedule.parse(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        contrastive, distillation = weights.values()
        if contrastive.is_zero and distillation.is_zero:
            raise ValueError("contrastive_weight and distillation_weight: expected one above 0")
        if distillation.is_zero:
            if self.teacher_temperature != 1:
                raise ValueError("teacher_temperature: has no effect without distillation_weight")
        else:
            self._check_distillation()

    def _check_distillation(self) -> None:
        if self.learn_temperature:
            raise ValueError(
                "learn_temperature: not with distillation_weight, as the student's softmax has a "
                "fixed temperature"
            )
        if self.refresh_steps or self.refresh_at_start:
            raise ValueError(
                "refresh_steps: not with distillation_weight, as negatives that are mined in "
                "training have no teacher scores"
            )
        if self.train_group_size == 1 and self.positives_per_query == 1:
            raise ValueError(
                "train_group_size: expected 2 or more with distillation_weight, as a softmax over "
                "one passage has nothing to learn, got 1"
            )


def _check_minimum(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise ValueError(f"{name}: expected {minimum} or more, got {value}")
