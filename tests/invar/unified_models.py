"""Tiny unified models of several families, with tokenizers of their kind and random adapters."""

from pathlib import Path
from typing import Any

import tiny_language_models

WORDS = [*tiny_language_models.WORDS, "Q", "A", ":", "?", ".", "Context", "query", "passage", "1"]
LENGTH = 64
# The tokenizer's class of each family, what it has for a blank, and its special tokens.
FAMILIES: dict[str, tuple[str, str, list[str]]] = {
    "LlamaForCausalLM": ("LlamaTokenizer", "▁", ["<unk>", "<s>", "</s>"]),
    "MistralForCausalLM": ("LlamaTokenizer", "▁", ["<unk>", "<s>", "</s>"]),
    "Qwen2ForCausalLM": ("Qwen2Tokenizer", "Ġ", ["<|endoftext|>"]),
    "GemmaForCausalLM": ("GemmaTokenizer", "▁", ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]),
}


def save_family(name: str, folder: Path) -> Path:
    """Saves a language model with random weights beside a tokenizer of its family."""
    import transformers

    kind, blank, special = FAMILIES[name]
    vocabulary = {token: number for number, token in enumerate(special)}
    letters = sorted({letter for word in WORDS for letter in word})
    merges = []
    line = "Ċ" if blank == "Ġ" else "<0x0A>"  # a line break as a byte
    for piece in (blank, line, *letters):
        vocabulary[piece] = len(vocabulary)
    for word in WORDS:
        whole = blank
        for letter in word:
            if (whole, letter) not in merges:
                merges.append((whole, letter))
            whole += letter
            vocabulary.setdefault(whole, len(vocabulary))
    options = {"add_bos_token": True} if "<s>" in special or "<bos>" in special else {}
    tokenizer = getattr(transformers, kind)(
        vocab=vocabulary, merges=merges, model_max_length=LENGTH, **options
    )
    tokenizer.save_pretrained(folder)
    changes = {
        "vocab_size": len(vocabulary),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    build(name, **changes).save_pretrained(folder)
    return folder


def save_base(folder: Path, changes: Any = None, **tokenizer: Any) -> Path:
    """Saves a Llama with random weights beside a tokenizer of whole words."""
    build("LlamaForCausalLM", **(changes or {})).save_pretrained(folder)
    tiny_language_models.save_words(
        "LlamaForCausalLM", folder, words=WORDS, length=LENGTH, **tokenizer
    )
    return folder


def build(name: str, **changes: Any) -> Any:
    """A model that seldom writes tokens that no word has: their logit is 0."""
    model = tiny_language_models.build(name, max_position_embeddings=LENGTH, **changes)
    head = model.get_output_embeddings().weight.data
    if len(head) == 32:  # of a tokenizer of whole words; the end, 3, can be learned
        head[:3] = head[4 + len(WORDS) :] = 0
    return model


def disturb(unified: Any, seed: int = 1) -> Any:
    """Gives adapters random weights: new ones change nothing."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, weight in unified.model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator)
    return unified
