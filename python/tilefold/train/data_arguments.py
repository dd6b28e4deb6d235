"""Arguments of the data of a training, with the names of Tevatron."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DataArguments:
    """Arguments of the data: training file, validation collection and measures."""

    train_path: str = field(metadata={"help": "training file or folder, in any format of tilefold"})
    train_split: str = field(
        default="train", metadata={"help": "split to train on, of a folder with judgments"}
    )
    title_format: str | None = field(
        default=None,
        metadata={
            "help": "format that joins a passage's title and text; the default is the "
            "checkpoint's own, or '{title} [SEP] {text}'"
        },
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
