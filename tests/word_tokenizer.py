"""A tokenizer of whole words, for tiny models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def save_tokenizer(
    folder: Path,
    words: Sequence[str],
    *,
    around: str = "[CLS] $A [SEP]",
    special: Sequence[str] = ("[CLS]", "[SEP]"),
    length: int = 24,
    **options: Any,
) -> None:
    """Saves one that knows these words, and puts special tokens around a text."""
    import tokenizers
    import transformers

    names = ["[PAD]", "[UNK]", *special, *words]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=around,
        special_tokens=[(name, vocabulary[name]) for name in special if name in around],
    )
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", **options}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, **named
    ).save_pretrained(folder)
