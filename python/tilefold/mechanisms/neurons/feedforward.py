"""Finds the feed-forward sub-layers of a model, where its neurons are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# Names of the layer that computes neurons and of the one that reads them, by model family; the
# first pair that a model has is taken. tests/mechanisms/test_families.py has a model of each.
NAMES = (
    ("intermediate.dense", "output.dense"),  # BERT, RoBERTa, ELECTRA, DeBERTa, MPNet
    ("mlp.gate_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma, NomicBERT, EuroBERT
    ("ffn.lin1", "ffn.lin2"),  # DistilBERT
    ("ffn", "ffn_output"),  # ALBERT
    ("mlp.Wi", "mlp.Wo"),  # ModernBERT; the second half of Wi is the gate's other factor
    ("mlp.gate_up_proj", "mlp.down_proj"),  # Phi-3; the same
    ("mlp.fc1", "mlp.fc2"),  # Jina v3, Phi
    ("mlp.c_fc", "mlp.c_proj"),  # GPT-2, GPT-Neo, StarCoder 2
    ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon
    ("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wo"),  # T5, its encoder
    ("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wo"),  # T5 1.1, Flan-T5, mT5
    ("fc1", "fc2"),  # OPT
)

Dense = nn.Linear | Conv1D


class FeedForward(NamedTuple):
    """The neurons of a block, or of a layer that several blocks share.

    Row i of the weights of `intermediate` computes neuron i; column i of those of `output` is the
    vector that it adds to the hidden state. Where `intermediate` has two rows for each neuron, as
    in ModernBERT and Phi-3, row ``neurons + i`` computes the factor that neuron i is multiplied by.
    """

    layer: int
    intermediate_name: str
    output_name: str
    intermediate: Dense
    output: Dense
    blocks: Sequence[nn.Module]  # all blocks of the model, in order

    @property
    def neurons(self) -> int:
        """Number of neurons: inputs of the layer that reads them."""
        return dense_weight(self.output).shape[1]


def dense_weight(module: Dense) -> Tensor:
    """Returns the weights of a dense layer, ``[outputs, inputs]``.

    Args:
        module: `nn.Linear`, or GPT-2's `Conv1D`, which keeps its weights transposed.
    """
    weight: Tensor = module.weight
    return weight if isinstance(module, nn.Linear) else weight.T


def feed_forwards(model: nn.Module, names: Sequence[tuple[str, str]] = NAMES) -> list[FeedForward]:
    """Returns the feed-forward sub-layers of every block, in order.

    A layer that several blocks share, as in ALBERT, is returned once.

    Args:
        model: of transformers.
        names: pairs of names to look for; the first that fits is taken. Either the parts behind a
            block's number, such as ``("mlp.gate_proj", "mlp.down_proj")``, or with ``*`` for the
            number, such as ``("decoder.block.*.layer.2.DenseReluDense.wi",
            "decoder.block.*.layer.2.DenseReluDense.wo")`` for the decoder of T5.

    Raises:
        ValueError: no pair fits (those that were tried are named); layers with an adapter; several
            stacks of blocks; blocks without such layers, as where some have experts.
    """
    modules = dict(model.named_modules())
    kind = type(model).__name__
    for pair in names:
        places = _places(modules, *pair)
        adapted = [name for place in places for name in place[1:] if _is_adapted(modules[name])]
        if adapted:
            raise ValueError(f"feed_forwards: {adapted[0]} has an adapter; merge() it first")
        dense = [place for place in places if all(_is_dense(modules[name]) for name in place[1:])]
        if dense:
            return _in_order(kind, modules, dense, pair)
    looked = "; ".join(f"{one} and {other}" for one, other in names)
    raise ValueError(
        f"feed_forwards: {kind} has no blocks with {looked}; name them with "
        'names=[("intermediate layer", "output layer")]'
    )


def own_feed_forwards(
    op: str, model: nn.Module, names: Sequence[tuple[str, str]] = NAMES
) -> list[FeedForward]:
    """Returns the feed-forward sub-layers of a model in which every block has its own.

    Args:
        op: the public function, for the message.
        model: of transformers, or a module that has one.
        names: see `feed_forwards`.

    Raises:
        ValueError: see `feed_forwards`; or blocks share them, as in ALBERT, where a change of one
            layer would be one of all.
    """
    parts = feed_forwards(model, names)
    config: Any = getattr(getattr(model, "model", model), "config", None)
    blocks = getattr(config, "num_hidden_layers", len(parts))
    if blocks != len(parts):
        raise ValueError(
            f"{op}: {blocks} blocks of {type(model).__name__} share {len(parts)} feed-forward "
            "layers, so that a change of one layer would be one of all"
        )
    return parts


def check_widths(op: str, parts: Sequence[FeedForward]) -> tuple[int, int]:
    """Returns the numbers of outputs of the two layers, which all blocks must have alike.

    Args:
        op: the public function, for the message.
        parts: of `feed_forwards`.

    Raises:
        ValueError: blocks of several widths.
    """
    widths = {
        (dense_weight(part.intermediate).shape[0], dense_weight(part.output).shape[0])
        for part in parts
    }
    if len(widths) > 1:
        raise ValueError(f"{op}: blocks must have layers of one width, got {sorted(widths)}")
    return widths.pop()


class _Place(NamedTuple):
    """Names of a block and of its two layers."""

    block: str
    intermediate: str
    output: str


def _places(modules: Mapping[str, nn.Module], first: str, second: str) -> list[_Place]:
    """Finds the blocks that have both layers, by name."""
    if "*" not in first:
        first, second = f"*.{first}", f"*.{second}"
    shape = re.compile(r"(.*\.|)" + re.escape(first).replace(r"\*", r"(\d+)"))
    block = first[: first.rindex("*") + 1]
    found = []
    for name in modules:
        match = shape.fullmatch(name)
        if match is not None:
            prefix, *numbers = match.groups()
            other = prefix + _numbered(second, numbers)
            if other in modules:
                found.append(_Place(prefix + _numbered(block, numbers), name, other))
    return found


def _numbered(pattern: str, numbers: Sequence[str]) -> str:
    for number in numbers:
        pattern = pattern.replace("*", number, 1)
    return pattern


def _in_order(
    kind: str, modules: Mapping[str, nn.Module], places: Sequence[_Place], pair: tuple[str, str]
) -> list[FeedForward]:
    """Numbers the layers of one stack of blocks, which may be in groups as ALBERT's are."""
    by_block = {place.block: place for place in places}
    parents = sorted(dict.fromkeys(block.rpartition(".")[0] for block in by_block), key=_numbers)
    stacks = {re.sub(r"\d+", "*", parent): parent for parent in parents}
    if len(stacks) > 1:
        one, other = (f"{next(iter(stacks))}.*.{name}" for name in pair)
        raise ValueError(
            f"feed_forwards: {kind} has several stacks of such blocks, {', '.join(stacks)}; name "
            f'one with `*` for the number, names=[("{one}", "{other}")]'
        )
    blocks = {
        f"{parent}.{name}".removeprefix("."): block
        for parent in parents
        for name, block in modules[parent].named_children()
    }
    without = [name for name in blocks if name not in by_block]
    if without:
        raise ValueError(
            f"feed_forwards: {len(without)} of {len(blocks)} blocks of {kind} have no such layers, "
            f"the first is {without[0]}"
        )
    every = list(blocks.values())
    found = []
    for layer, name in enumerate(blocks):
        _, one, other = by_block[name]
        intermediate, output = modules[one], modules[other]
        assert _is_dense(intermediate)
        assert _is_dense(output)
        found.append(FeedForward(layer, one, other, intermediate, output, every))
    return found


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _is_dense(module: nn.Module) -> TypeGuard[Dense]:
    return isinstance(module, nn.Linear | Conv1D)


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "base_layer")  # of peft
