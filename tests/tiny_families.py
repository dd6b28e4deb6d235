"""Models of many families with random weights, of a few thousand weights each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from word_tokenizer import save_tokenizer

WORDS = ["who", "is", "of", *(f"w{i}" for i in range(20))]
_SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_KEYS = {**_SIZES, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
_DEEP = {name: value for name, value in _SIZES.items() if name != "intermediate_size"}
_T5 = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_START = {"decoder_start_token_id": 0, "pad_token_id": 0}
_SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
_GEMMA = {**_KEYS, "head_dim": 8}
_GEMMA_2 = {**_GEMMA, "query_pre_attn_scalar": 8, "sliding_window": 16}

# Class of the model, and its configuration.
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ALBERT": ("AlbertModel", {**_SIZES, "embedding_size": 16, "num_hidden_layers": 3}),
    "BERT": ("BertModel", _SIZES),
    "BLOOM": (
        "BloomModel",
        {"vocab_size": 32, "hidden_size": 32, "n_layer": 2, "n_head": 4, **_SPECIAL},
    ),
    "CamemBERT": ("CamembertModel", _SIZES),
    "DeBERTa v2": (
        "DebertaV2Model",
        {**_SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    "DistilBERT": (
        "DistilBertModel",
        {
            "vocab_size": 32,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        },
    ),
    "ELECTRA": ("ElectraModel", {**_SIZES, "embedding_size": 16}),
    "EuroBERT": ("EuroBertModel", _KEYS),
    "Falcon": ("FalconModel", {**_DEEP, **_SPECIAL, "ffn_hidden_size": 48}),
    "Gemma": ("GemmaModel", _GEMMA),
    "Gemma 2": ("Gemma2Model", _GEMMA_2),
    "Gemma 3": ("Gemma3TextModel", _GEMMA_2),
    "GPT-2": (
        "GPT2Model",
        {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **_SPECIAL},
    ),
    "GPT-Neo": (
        "GPTNeoModel",
        {
            "vocab_size": 32,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
            **_SPECIAL,
        },
    ),
    "GPT-NeoX": ("GPTNeoXModel", {**_SIZES, **_SPECIAL}),
    "Jina v3": ("JinaEmbeddingsV3Model", {**_SIZES, **_SPECIAL}),
    "Llama": ("LlamaModel", _KEYS),
    "Mistral": ("MistralModel", _KEYS),
    "ModernBERT": ("ModernBertModel", {**_SIZES, "cls_token_id": 2, "sep_token_id": 3, **_SPECIAL}),
    "MPNet": ("MPNetModel", _SIZES),
    "NomicBERT": ("NomicBertModel", _SIZES),
    "OPT": (
        "OPTModel",
        {**_DEEP, **_SPECIAL, "ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    "Phi": ("PhiModel", _KEYS),
    "Phi-3": ("Phi3Model", {**_KEYS, "original_max_position_embeddings": 64}),
    "Qwen 3": ("Qwen3Model", {**_KEYS, "head_dim": 8}),
    "RoBERTa": ("RobertaModel", _SIZES),
    "T5": ("T5EncoderModel", {**_T5, **_START}),
    "T5 1.1": ("T5EncoderModel", {**_T5, **_START, "feed_forward_proj": "gated-gelu"}),
    # Of kinds that some steps refuse.
    "Mixtral": ("MixtralModel", {**_KEYS, "num_local_experts": 2}),
    "MobileBERT": (
        "MobileBertModel",
        {**_SIZES, "embedding_size": 16, "intra_bottleneck_size": 32},
    ),
}


def build_family(name: str) -> Any:
    """A model whose layers are far from linear, with biases that are not 0."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind, sizes = FAMILIES[name]
    model: Any = getattr(transformers, kind)
    model = model(model.config_class(**sizes))
    for key, weight in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)
        elif weight.ndim == 2 and "embed" not in key:
            weight.data *= 4
    return model.eval()


def save_family(name: str, folder: Path) -> Path:
    """Saves a model beside a tokenizer that puts tokens around a text."""
    build_family(name).save_pretrained(folder)
    save_tokenizer(folder, WORDS, length=60, cls_token="[CLS]", sep_token="[SEP]")
    return folder
