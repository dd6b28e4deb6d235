"""Arguments of the model of a training, with the names of Tevatron."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """Arguments of the model: checkpoint, pooling, lengths, adapters."""

    model_name_or_path: str = field(
        metadata={"help": "folder or hub name of the encoder; 'minilm' for all-MiniLM-L6-v2"}
    )
    untie_encoder: bool = field(
        default=False, metadata={"help": "train two encoders instead of one for both sides"}
    )
    pooling: str | None = field(
        default=None,
        metadata={
            "help": "cls, mean, last or decoder; the default is the checkpoint's own, or cls"
        },
    )
    normalize: bool | None = field(
        default=None,
        metadata={
            "help": "scale embeddings to length 1; the default is the checkpoint's own, or False",
            "nargs": "?",  # the name alone is True, as for arguments with a default
            "const": True,
        },
    )
    query_prefix: str | None = field(
        default=None,
        metadata={
            "help": "text put before every query; the default is the checkpoint's own, or none"
        },
    )
    passage_prefix: str | None = field(
        default=None,
        metadata={
            "help": "text put before every passage; the default is the checkpoint's own, or none"
        },
    )
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
