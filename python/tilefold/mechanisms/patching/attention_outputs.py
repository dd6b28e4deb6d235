"""Finds the layers that put the heads of attention together, in every block of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from ..neurons.feedforward import FeedForward

# Names behind a block's number, by model family; the first one that all blocks have is taken.
ATTENTION_NAMES = (
    "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa
    "attention.out_lin",  # DistilBERT
    "attention.attn.o",  # MPNet
    "attn.Wo",  # ModernBERT
    "self_attn.o_proj",  # Llama, Mistral, Qwen, Gemma, EuroBERT
    "self_attn.out_proj",  # OPT
    "attn.c_proj",  # GPT-2
    "attn.attention.out_proj",  # GPT-Neo
    "attention.dense",  # GPT-NeoX
    "self_attention.dense",  # BLOOM, Falcon
    "self_attn.dense",  # Phi
)


class AttentionOutput(NamedTuple):
    """The layer of a block whose input is the outputs of its heads, one after the other."""

    name: str
    module: nn.Module
    heads: int


def attention_outputs(
    model: nn.Module, parts: Sequence[FeedForward], names: Sequence[str] = ATTENTION_NAMES
) -> list[AttentionOutput]:
    """Returns the output layer of the attention of each block, in order.

    Args:
        model: of transformers, or a module that has one.
        parts: of `feed_forwards`, whose blocks are looked through.
        names: of the layer inside a block; the first that all blocks have is taken.

    Raises:
        ValueError: no name fits (those that were tried are listed).
    """
    config: Any = getattr(getattr(model, "model", model), "config", None)
    places = {id(module): name for name, module in model.named_modules()}
    blocks = [dict(block.named_modules()) for block in parts[0].blocks]
    for name in names:
        if all(name in block for block in blocks):
            modules = [block[name] for block in blocks]
            heads = int(config.num_attention_heads)
            return [AttentionOutput(places[id(module)], module, heads) for module in modules]
    raise ValueError(
        f"attention_outputs: {type(model).__name__} has no blocks with one of {', '.join(names)}; "
        "name it with attention=[...]"
    )
