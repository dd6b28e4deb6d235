"""Edits facts by T-Patcher: new neurons for each fact, which nothing else activates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import CausalLM
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards
from ..neurons.path_gradients import frozen
from .checked_delta import checked_delta
from .cloze_batch import EditableLM, cloze_batch
from .edit_losses import edit_losses, hidden_subjects
from .editable_model import editable_digest, layer_of
from .fact_edit import FactEdit, check_edits
from .layer_inputs import layer_inputs
from .patch_neurons import PatchNeurons, patched_log_probabilities
from .weight_delta import WeightDelta
from .wider_blocks import check_appendable


@dataclass(frozen=True)
class TPatcher:
    """Patch neurons (Huang et al., "Transformer-Patcher: One Mistake Worth One Neuron", 2023).

    Every token of an edit's object gets neurons of its own in the last block. Their keys start at
    the state h where the token is predicted, as h / |h|², so that they are active there. Keys,
    biases and values are trained by the loss of the edit, a loss of neurons that are not active on
    their own prompts, and one of neurons that ordinary texts activate; the model stays as it is.

    Args:
        texts: ordinary texts, which may have the tokenizer's mask token. The neurons are trained to
            be inactive on their tokens.
        layers: which blocks get neurons; by default the last one, as published.
        neurons: number for each token of an object, in each block.
        by_prompt: every prompt of an edit has neurons of its own, so that its paraphrases do not
            depend on the same ones; by default they share them, as published.
        dropout: share of neurons that have no effect in a step of training, drawn anew in each, so
            that the others learn to suffice; their values count 1 / (1 - dropout) times in that
            step. None by default, as published; with it all steps are made.
        steps: maximum number of steps of Adam; training stops where every edit is done, and
            activations on texts keep the margin on average.
        learning_rate, weight_decay: of AdamW.
        activation_weight: weight of the loss of activation on own prompts.
        memory_weight: weight of the losses of activation on texts.
        margin: how far below zero, and below the activation on own prompts, that on texts is to be.
        memory_size: maximum number of tokens of texts.
        stop_loss: an edit with a smaller loss is done.
        required_probability: of `ShiftSearch`.
        seed: of values and of the choice of tokens.
        names: see `feed_forwards`.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit, edit
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=2, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> fact = FactEdit("Ada", ["Ada lives in [MASK]."], "rome")
        >>> editor = TPatcher(["It rains."], steps=3, required_probability=None)
        >>> delta = editor.delta(model, [fact])
        >>> delta.neurons[1].keys.shape
        torch.Size([1, 8])
        >>> with edit(model, delta):
        ...     model.model.config.intermediate_size
        17
    """

    texts: Sequence[str]
    layers: Sequence[int] | None = None
    neurons: int = 1
    by_prompt: bool = False
    dropout: float = 0.0
    steps: int = 500
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    activation_weight: float = 1.0
    memory_weight: float = 5.0
    margin: float = 3.0
    memory_size: int = 10_000
    stop_loss: float = 0.05
    required_probability: float | None = 0.5
    seed: int = 0
    names: Sequence[tuple[str, str]] = NAMES

    def __post_init__(self) -> None:
        for name in ("neurons", "steps", "memory_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"TPatcher: {name} must be at least 1, got {getattr(self, name)}")
        if not len(self.texts):
            raise ValueError("TPatcher: expected one text or more, got none")
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"TPatcher: dropout must be at least 0 and below 1, got {self.dropout}"
            )
        if self.layers is not None and (
            not len(self.layers) or len(set(self.layers)) < len(self.layers)
        ):
            raise ValueError(
                f"TPatcher: layers must be one or more different ones, got {list(self.layers)}"
            )

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Trains the neurons of edits; the model stays as it is.

        Args:
            model: a masked or causal language model.
            edits: facts to add or remove.

        Raises:
            TypeError: another kind of model.
            ValueError: edits that contradict each other, or do not reach the required probability;
                an object that the tokenizer does not know; sub-layers with gates or without biases.
        """
        check_edits("TPatcher", edits, causal=isinstance(model, CausalLM))
        last = len(own_feed_forwards("TPatcher", model, self.names)) - 1
        layers = [last] if self.layers is None else self.layers
        parts = [layer_of("TPatcher", model, layer, self.names) for layer in layers]
        check_appendable("TPatcher", parts)
        patches = self._trained(model, parts, edits)
        neurons = {own.part.layer: own.neurons() for own in patches}
        delta = WeightDelta(editable_digest(model, self.names), {}, neurons)
        required = self.required_probability
        return checked_delta("TPatcher", model, delta, edits, required, self.names)

    def _trained(
        self, model: EditableLM, parts: Sequence[FeedForward], edits: Sequence[FactEdit]
    ) -> list[PatchNeurons]:
        batch = cloze_batch("TPatcher", model, edits)
        removed = torch.tensor([one.remove for one in edits], device=model.device)
        limit, seed = self.memory_size, self.seed
        memories = [layer_inputs(model, part, self.texts, limit=limit, seed=seed) for part in parts]
        with frozen(model), torch.enable_grad():
            with torch.no_grad():
                unspecific = hidden_subjects(model, batch).log_probabilities(model)
            patches = [
                PatchNeurons(model, part, batch, self.neurons, seed, by_prompt=self.by_prompt)
                for part in parts
            ]
            optimizer = torch.optim.AdamW(
                [parameter for own in patches for parameter in own.parameters],
                lr=self.learning_rate,
                weight_decay=self.weight_decay,
            )
            generator = torch.Generator().manual_seed(seed)
            for step in range(self.steps + 1):
                kept = self._kept(patches, generator, model.device)
                edited = patched_log_probabilities(model, batch, patches, kept)
                goals = batch.mean_by_edit(edit_losses(batch, edited, unspecific, removed))
                losses = [
                    own.losses(memory, self.margin)
                    for own, memory in zip(patches, memories, strict=True)
                ]
                done = (
                    not self.dropout
                    and all(one.others < 2 for one in losses)
                    and bool((goals < self.stop_loss).all())
                )
                if done or step == self.steps:
                    break
                loss = goals.sum()
                for active, others in losses:
                    own = self.activation_weight * active + self.memory_weight * others
                    loss = loss + len(edits) * own  # of each edit's neurons, as is its goal
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return patches

    def _kept(
        self, patches: Sequence[PatchNeurons], generator: torch.Generator, device: torch.device
    ) -> list[Tensor] | None:
        """Draws the factors of neurons' values in a step; None without dropout."""
        if not self.dropout:
            return None
        draws = [torch.rand(len(own), generator=generator) for own in patches]
        kept = 1 - self.dropout
        return [(draw >= self.dropout).float().to(device) / kept for draw in draws]
