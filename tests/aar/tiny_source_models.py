"""Source LMs with random weights that read whole words, for the tests of preference signals."""

from pathlib import Path
from typing import Any

from word_tokenizer import save_tokenizer

_THINGS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "under"]
WORDS = [*_THINGS, "and", "who", "where", "question", "answer"]
_SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "T5ForConditionalGeneration": {
        "vocab_size": 32,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
        "eos_token_id": 3,
    },
    "GPT2LMHeadModel": {
        "vocab_size": 32,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        **_SPECIAL,
    },
    "LlamaForCausalLM": {
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        **_SPECIAL,
    },
    "MistralForCausalLM": {
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "sliding_window": 4,
        **_SPECIAL,
    },
}


def save(name: str, folder: Path) -> Path:
    """Saves a model whose outputs are far from uniform, and its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    model = kind(kind.config_class(**CONFIGS[name]))
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 6
    model.save_pretrained(folder)
    special: dict[str, Any] = {"special": ["[BOS]", "[EOS]"], "eos_token": "[EOS]"}
    if name.startswith("T5"):
        special["around"] = "$A [EOS]"
    else:
        special |= {"around": "[BOS] $A", "bos_token": "[BOS]"}
    save_tokenizer(folder, WORDS, length=64, **special)
    return folder
