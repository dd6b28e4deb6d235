"""What a training is told, under the names of Tevatron and of the trainer of transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class ModelArguments:
    """The towers."""

    model_name_or_path: str = field(
        metadata={"help": "folder or hub name of the encoder; 'minilm' for all-MiniLM-L6-v2"}
    )
    untie_encoder: bool = field(
        default=False, metadata={"help": "train two towers, not one for both sides"}
    )
    pooling: str = field(default="cls", metadata={"help": "cls, mean, last or decoder"})
    normalize: bool = field(default=False, metadata={"help": "scale embeddings to length 1"})
    query_prefix: str = field(default="", metadata={"help": "before every query"})
    passage_prefix: str = field(default="", metadata={"help": "before every passage"})
    query_max_len: int = field(default=256, metadata={"help": "tokens of a query that are read"})
    passage_max_len: int = field(
        default=256, metadata={"help": "tokens of a passage that are read"}
    )
    lora: bool = field(default=False, metadata={"help": "train low-rank adapters, not the model"})
    lora_r: int = field(default=8, metadata={"help": "their rank"})
    lora_alpha: float = field(default=16.0, metadata={"help": "their scale, times the rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before them"})
    lora_target_modules: str | None = field(
        default=None,
        metadata={"help": "names of modules, separated by commas; by default peft's for the model"},
    )


@dataclass
class DataArguments:
    """What is trained and validated on."""

    train_path: str = field(metadata={"help": "training file or folder, in any format of tilefold"})
    train_split: str = field(default="train", metadata={"help": "of a folder with judgments"})
    title_format: str = field(
        default="{title} [SEP] {text}",
        metadata={"help": "how a passage's title and text are joined"},
    )
    dev_path: str | None = field(
        default=None, metadata={"help": "collection to validate on: a folder with judgments"}
    )
    dev_split: str = field(default="dev", metadata={"help": "its split"})
    dev_holdout: int = field(
        default=0,
        metadata={
            "help": "validate on so many training queries instead, which are then not trained on"
        },
    )
    dev_measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10"], metadata={"help": "what to measure there"}
    )


@dataclass
class RetrieverTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments`, with DPR's recipe as default, and what retrievers need.

    The recipe is that of Karpukhin et al. (arXiv:2004.04906, section 5) and their code: in-batch
    negatives and one hard negative, Adam without weight decay, a linear schedule with warm-up,
    gradients cut at 2.
    """

    output_dir: str | None = field(
        default=None, metadata={"help": "where checkpoints and the model are written"}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "peak rate of Adam"})
    per_device_train_batch_size: int = field(
        default=128, metadata={"help": "queries in a step, of each process"}
    )
    num_train_epochs: float = field(
        default=40.0, metadata={"help": "passes over the training queries"}
    )
    max_grad_norm: float = field(
        default=2.0, metadata={"help": "longer gradients are cut to this length"}
    )
    adam_epsilon: float = field(default=1e-8, metadata={"help": "of Adam"})
    weight_decay: float = field(default=0.0, metadata={"help": "of AdamW"})
    seed: int = field(
        default=12345, metadata={"help": "of weights, order, dropout and drawn negatives"}
    )
    warmup_steps: float = field(
        default=1237, metadata={"help": "steps of rising rate; below 1, a share of all steps"}
    )

    logging_steps: float = field(default=10, metadata={"help": "steps between lines of the log"})

    train_group_size: int = field(
        default=2, metadata={"help": "passages of a query in a step: a positive, hard negatives"}
    )
    positive_passage_no_shuffle: bool = field(
        default=False, metadata={"help": "always the first positive"}
    )
    negative_passage_no_shuffle: bool = field(
        default=False, metadata={"help": "always the first hard negatives"}
    )
    temperature: float = field(default=1.0, metadata={"help": "scores are divided by it"})
    learn_temperature: bool = field(default=False, metadata={"help": "train the temperature, too"})
    symmetric: bool = field(
        default=False, metadata={"help": "half of the loss from documents to queries"}
    )
    grad_cache: bool = field(
        default=False, metadata={"help": "encode chunk by chunk: large batches in little memory"}
    )
    gc_q_chunk_size: int = field(default=32, metadata={"help": "queries in a chunk"})
    gc_p_chunk_size: int = field(default=32, metadata={"help": "passages in a chunk"})

    refresh_steps: int = field(
        default=0, metadata={"help": "mine hard negatives again with the model every so many steps"}
    )
    refresh_at_start: bool = field(default=False, metadata={"help": "and before the first step"})
    refresh_depth: int = field(default=200, metadata={"help": "from so many of the best passages"})
    refresh_negatives: int = field(
        default=20, metadata={"help": "hard negatives kept for each query"}
    )
    refresh_skip: int = field(
        default=0, metadata={"help": "of the best passages, leave out so many"}
    )
    refresh_relative_margin: float | None = field(
        default=None,
        metadata={
            "help": "leave out passages closer than this share to the positive's score: 0.05"
        },
    )
    encode_batch_size: int = field(
        default=64, metadata={"help": "texts at once where nothing is trained"}
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
            _at_least(name, getattr(self, name), 1)
        for name in ("refresh_steps", "refresh_skip"):
            _at_least(name, getattr(self, name), 0)
        _at_least("refresh_negatives", self.refresh_negatives, 1)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: expected a number above 0, got {self.temperature}")
        room = self.refresh_depth - self.refresh_skip
        if self.refresh_negatives > room:
            raise ValueError(
                f"refresh_negatives: expected at most refresh_depth - refresh_skip, {room}, "
                f"got {self.refresh_negatives}"
            )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}: expected {least} or more, got {value}")
