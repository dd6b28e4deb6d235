"""Language models with random weights, saved as transformers saves them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from word_tokenizer import save_tokenizer

WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "under", "and"]
_SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}
_SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
_GPT2 = {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}
_T5 = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_CAUSAL = {**_SIZES, **_SPECIAL}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "BertForMaskedLM": _SIZES,
    "GPT2LMHeadModel": {**_GPT2, "bos_token_id": 2, "eos_token_id": 3},
    "GemmaForCausalLM": {**_CAUSAL, "num_key_value_heads": 2, "head_dim": 8},
    "LlamaForCausalLM": _CAUSAL,
    "MistralForCausalLM": {**_CAUSAL, "num_key_value_heads": 2},
    "Qwen2ForCausalLM": {**_CAUSAL, "num_key_value_heads": 2},
    "Qwen3ForCausalLM": {**_CAUSAL, "num_key_value_heads": 2, "head_dim": 8},
    "T5ForConditionalGeneration": {**_T5, "decoder_start_token_id": 0, "eos_token_id": 3},
}


def build(name: str, **changes: Any) -> Any:
    """A model whose logits are far from uniform."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind: Any = getattr(transformers, name)
    model = kind(kind.config_class(**{**CONFIGS[name], **changes}))
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 6
    return model.eval()


def save(name: str, folder: Path, **changes: Any) -> Path:
    """Saves a model beside a tokenizer: BERT's with a mask, T5's with an end, others with a start
    and an end."""
    build(name, **changes).save_pretrained(folder)
    save_words(name, folder)
    return folder


def save_words(name: str, folder: Path, **options: Any) -> None:
    """Saves the tokenizer alone."""
    special: dict[str, Any] = {"special": ["[BOS]", "[EOS]"], "eos_token": "[EOS]"}
    if name.startswith("Bert"):
        special = {"special": ["[CLS]", "[SEP]", "[MASK]"], "mask_token": "[MASK]"}
        special["around"] = "[CLS] $A [SEP]"
    elif name.startswith("T5"):
        special["around"] = "$A [EOS]"
    else:
        special |= {"around": "[BOS] $A [EOS]", "bos_token": "[BOS]"}
    save_tokenizer(folder, **{"words": WORDS, **special, **options})
