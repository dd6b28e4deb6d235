"""Edits facts at their knowledge neurons, without any optimization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...models import CausalLM
from ..neurons.activation_attribution import activation_attribution
from ..neurons.feedforward import NAMES, FeedForward, dense_weight, own_feed_forwards
from ..neurons.knowledge_neurons import Neuron, Neurons, coarse_neurons, refined_neurons
from ..neurons.recorded_pass import Tokens
from .cloze_batch import EditableLM, cloze_batch
from .editable_model import editable_digest
from .fact_edit import FactEdit, check_edits
from .weight_delta import Factors, SubLayer, WeightDelta


@dataclass(frozen=True)
class NeuronSurgery:
    """Changes the values of a fact's knowledge neurons (Dai et al., 2022, section 5).

    A neuron's value is the vector that it adds to the hidden state. To add a fact, the value
    becomes ``value - subtract * e(original) + add * e(object)``, with embeddings e of words, scaled
    to the norm of the value; to remove one, it becomes zero, whatever other edits add to it.
    Knowledge neurons are those of the original object where it is given, else of the edit's own.
    Neurons that many of the edits share are left as they are. Nothing is optimized, so that nothing
    is required of the edited model: see `edit_effects`.

    Args:
        add: factor of the object's embedding.
        subtract: factor of the embedding of `FactEdit.original`, where there is one.
        shared: neurons of more than this share of the edits are not changed, if there are ten or
            more edits.
        threshold: share of a prompt's largest attribution score that a neuron must reach.
        steps: of integrated gradients.
        neurons: of each edit; by default found by attribution, as those that most of its prompts
            share.
        leave_out: make no change for edits without neurons of their own, instead of an error.
        names: see `feed_forwards`.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=2, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> fact = FactEdit("Ada", ["Ada lives in [MASK]."], "rome", remove=True)
        >>> editor = NeuronSurgery(neurons=[{(0, 3), (1, 5)}])
        >>> sorted(editor.delta(model, [fact]).factors)
        [(0, 'output'), (1, 'output')]
    """

    add: float = 8.0
    subtract: float = 1.0
    shared: float = 0.1
    threshold: float = 0.2
    steps: int = 20
    neurons: Sequence[Neurons] | None = None
    leave_out: bool = False
    names: Sequence[tuple[str, str]] = NAMES

    def __post_init__(self) -> None:
        for name in ("shared", "threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"NeuronSurgery: {name} must be above 0 and at most 1, got "
                    f"{getattr(self, name)}"
                )
        if self.neurons is not None and (self.threshold, self.steps) != (0.2, 20):
            raise ValueError(
                "NeuronSurgery: threshold and steps have no effect where neurons are given, got "
                f"{self.threshold} and {self.steps}"
            )

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Computes the change of weights that makes edits; the model stays as it is.

        Args:
            model: a masked or causal language model.
            edits: facts to add or remove.

        Raises:
            TypeError: another kind of model.
            ValueError: edits that contradict each other; not as many sets of neurons as edits, or a
                neuron that the model does not have; an edit without neurons of its own; an object
                that the tokenizer does not know.
        """
        check_edits("NeuronSurgery", edits, causal=isinstance(model, CausalLM))
        sought = [replace(one, object=one.original or one.object) for one in edits]
        chosen = self._own(edits, self._found(model, sought))
        parts = {part.layer: part for part in own_feed_forwards("NeuronSurgery", model, self.names)}
        added: dict[Neuron, Tensor] = {}
        erased: dict[Neuron, Tensor] = {}
        for one, neurons in zip(edits, chosen, strict=True):
            direction = None if one.remove else self._direction(model, one)
            for neuron in sorted(neurons):
                layer, place = neuron
                if layer not in parts or not 0 <= place < parts[layer].neurons:
                    raise ValueError(f"NeuronSurgery: there is no neuron {place} in layer {layer}")
                value = dense_weight(parts[layer].output).detach()[:, place].float()
                if direction is None:
                    erased[neuron] = -value
                else:
                    added[neuron] = added.get(neuron, 0) + direction * value.norm()
        return WeightDelta(editable_digest(model, self.names), _factors(parts, {**added, **erased}))

    def _found(self, model: EditableLM, edits: Sequence[FactEdit]) -> Sequence[Neurons]:
        if self.neurons is not None:
            if len(self.neurons) != len(edits):
                raise ValueError(
                    f"NeuronSurgery: expected neurons of {len(edits)} edits, got "
                    f"{len(self.neurons)}"
                )
            return [frozenset(own) for own in self.neurons]
        batch = cloze_batch("NeuronSurgery", model, edits)
        places = torch.zeros(batch.subjects.shape, dtype=torch.int64, device=model.device)
        rows, columns = torch.nonzero(batch.places >= 0, as_tuple=True)
        places[rows, batch.places[rows, columns]] = 1

        def target(tokens: Tokens, numbers: Tensor) -> Tensor:
            own = replace(
                batch, tokens=tokens, places=batch.places[numbers], objects=batch.objects[numbers]
            )
            return own.log_likelihood(own.log_probabilities(model)).exp()

        scores = activation_attribution(
            model, batch.tokens, target, places, steps=self.steps, names=self.names
        ).scores
        of_prompts = coarse_neurons(scores, threshold=self.threshold)
        facts: list[list[Neurons]] = [[] for _ in edits]
        for number, neurons in zip(batch.edits.tolist(), of_prompts, strict=True):
            facts[number].append(neurons)
        return refined_neurons(facts).neurons

    def _own(self, edits: Sequence[FactEdit], neurons: Sequence[Neurons]) -> list[Neurons]:
        """Leaves out the neurons that many edits share."""
        counts = Counter(neuron for own in neurons for neuron in own)
        most = self.shared * len(edits) if len(edits) >= 10 else len(edits)
        kept = [frozenset(n for n in own if counts[n] <= most) for own in neurons]
        without = [one for one, own in zip(edits, kept, strict=True) if not own]
        if without and not self.leave_out:
            raise ValueError(
                f"NeuronSurgery: {len(without)} of {len(edits)} edits have no neurons of their "
                f"own: {without[0]!r}"
            )
        return kept

    def _direction(self, model: EditableLM, one: FactEdit) -> Tensor:
        """Returns what is added to the values of neurons, as a multiple of their norm."""
        direction = self.add * _embedding(model, one)
        if one.original is not None:
            before = replace(one, object=one.original)
            direction = direction - self.subtract * _embedding(model, before)
        return direction


def _factors(
    parts: Mapping[int, FeedForward], changes: Mapping[Neuron, Tensor]
) -> dict[tuple[int, SubLayer], Factors]:
    """Returns changes of neurons' values as products of matrices."""
    factors: dict[tuple[int, SubLayer], Factors] = {}
    for layer in sorted({layer for layer, _ in changes}):
        places = [place for number, place in changes if number == layer]
        left = torch.stack([changes[layer, place] for place in places], 1)
        right = left.new_zeros(len(places), parts[layer].neurons)
        right[torch.arange(len(places)), torch.tensor(places)] = 1
        factors[layer, "output"] = Factors(left, right)
    return factors


def _embedding(model: EditableLM, one: FactEdit) -> Tensor:
    """Returns the mean embedding of the tokens of an edit's object, of unit length.

    The embeddings are those that logits are inner products with.
    """
    ids = cloze_batch("NeuronSurgery", model, [one]).objects[0]
    whole: Any = model.model
    head = whole.get_output_embeddings()
    weights: Tensor = (whole.get_input_embeddings() if head is None else head).weight
    mean = weights.detach()[ids[ids >= 0]].float().mean(0)
    unit: Tensor = mean / mean.norm()
    return unit
