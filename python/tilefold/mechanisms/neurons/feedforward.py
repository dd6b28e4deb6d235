"""Finds the feed-forward sub-layers of a model, where its neurons are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

# Names of the layer that computes neurons and of the one that reads them, by model family.
NAMES = (
    ("intermediate.dense", "output.dense"),  # BERT, RoBERTa, ELECTRA
    ("mlp.gate_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen
    ("ffn.lin1", "ffn.lin2"),  # DistilBERT
)


class FeedForward(NamedTuple):
    """The neurons of a block.

    Row i of `intermediate` computes neuron i; column i of `output` is the vector that it adds to
    the hidden state.
    """

    layer: int
    intermediate_name: str
    output_name: str
    intermediate: nn.Linear
    output: nn.Linear
    blocks: nn.ModuleList  # all blocks of the model


def feed_forwards(model: nn.Module, names: Sequence[tuple[str, str]] = NAMES) -> list[FeedForward]:
    """Returns the feed-forward sub-layers of every block, in order.

    Args:
        model: of transformers.
        names: pairs of names behind a block's number to look for, such as
            ``("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wo")`` of T5; the first that
            fits is taken.

    Raises:
        ValueError: no pair fits; names those that were tried, and how to pass others.
    """
    modules = dict(model.named_modules())
    for first, second in names:
        found = []
        for name, module in modules.items():
            match = re.fullmatch(rf"(.*?\.?)(\d+)\.{re.escape(first)}", name)
            other = name.removesuffix(first) + second
            if match is None or not isinstance(modules.get(other), nn.Linear):
                continue
            blocks, output = modules[match[1].removesuffix(".")], modules[other]
            if isinstance(module, nn.Linear) and isinstance(blocks, nn.ModuleList):
                assert isinstance(output, nn.Linear)
                found.append(FeedForward(int(match[2]), name, other, module, output, blocks))
        if found:
            return sorted(found, key=lambda part: part.layer)
    looked = "; ".join(f"{one} and {other}" for one, other in names)
    raise ValueError(
        f"feed_forwards: {type(model).__name__} has no blocks with {looked}; name them with "
        'names=[("intermediate layer", "output layer")]'
    )
