"""Arguments of training a generator: those of transformers, with the author's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class GeneratorTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the recipe of the generator in Invar-RAG's repository.

    The paper gives no values. In the author's public code they are: AdamW with a learning rate of
    2e-5, 3 epochs, 4 examples per step and 4 steps of accumulation.

    Raises:
        ValueError: an option that has no effect on a generator.
    """

    output_dir: str | None = field(
        default=None, metadata={"help": "folder for checkpoints and the model"}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "peak learning rate of AdamW"})
    num_train_epochs: float = field(default=3.0, metadata={"help": "passes over the examples"})
    per_device_train_batch_size: int = field(
        default=4, metadata={"help": "examples per forward pass and process"}
    )
    gradient_accumulation_steps: int = field(
        default=4, metadata={"help": "forward passes per step of the optimizer"}
    )
    logging_steps: float = field(default=10, metadata={"help": "steps between lines of the log"})

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        for name in ("neftune_noise_alpha", "label_smoothing_factor"):
            if getattr(self, name):
                raise ValueError(f"{name}: not for generators, got {getattr(self, name)}")
        # Batches have the places where answers start, which are no argument of a model.
        self.remove_unused_columns = False
