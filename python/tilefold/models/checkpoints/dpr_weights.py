"""Loads checkpoints of DPR (Karpukhin et al., EMNLP 2020) with the class of their weights.

transformers maps the type "dpr" to DPRQuestionEncoder alone, so AutoModel gives a context encoder
none of its weights: all of them stay random, and only the loading report mentions it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from .weights import load_weights, weight_names

_CLASSES = {"question_encoder": "DPRQuestionEncoder", "ctx_encoder": "DPRContextEncoder"}
_BERT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


def load_dpr(name: str | Path) -> tuple[nn.Module, nn.Module | None]:
    """Returns the BERT inside a question or context encoder of DPR, and its projection if any.

    What transformers calls pooler_output is the first token, projected where `projection_dim` is
    not 0. As BERT the encoder can be saved so that AutoModel reads it.

    Args:
        name: folder or hub name.

    Raises:
        ValueError: it is DPR's reader, or lacks weights of its class.

    Note: code published with a reproduction of "Dense Passage Retrieval: Is it Retrieving?" (Yao,
    Wang and Zuccon, arXiv 2505.07166) loads every model with AutoModel. Tried with transformers
    5.23: the context encoder then keeps random weights, different ones each time. The study's odd
    findings on DPR's passage encoder may come from that.
    """
    import transformers

    tower = _tower(name)
    encoder: Any = getattr(load_weights(getattr(transformers, _CLASSES[tower]), name), tower)
    fields = {field: getattr(encoder.config, field) for field in _BERT_FIELDS}
    model: Any = transformers.BertModel(transformers.BertConfig(**fields), add_pooling_layer=False)
    model.load_state_dict(encoder.bert_model.state_dict())
    model.name_or_path = model.config.name_or_path = str(name)
    model.eval()
    return model, encoder.encode_proj if encoder.projection_dim else None


def _tower(name: str | Path) -> str:
    prefixes = {key.partition(".")[0] for key in weight_names(name)}
    found = prefixes & set(_CLASSES)
    if len(found) != 1:
        raise ValueError(
            f"from_pretrained: {name} is of type dpr, but its weights are named "
            f"{sorted(prefixes)}..., where one of {list(_CLASSES)} was expected"
        )
    return found.pop()
