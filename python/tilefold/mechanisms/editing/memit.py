"""Edits facts by MEMIT: many facts at once, spread over the output layers of several blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...models import CausalLM
from ...models.length_batches import evaluating
from ..neurons.feedforward import NAMES
from .applied_edit import edit
from .checked_delta import checked_delta
from .cloze_batch import EditableLM, cloze_batch
from .editable_model import editable_digest, layer_of
from .fact_edit import FactEdit, check_edits
from .output_shifts import ShiftSearch, output_shifts
from .residual_state import ResidualState
from .second_moments import SecondMoments
from .weight_delta import Factors, WeightDelta, smallest


@dataclass(frozen=True)
class Memit:
    """Mass editing (Meng et al., "Mass-Editing Memory in a Transformer", 2023).

    Shifts of the last layer's output are searched for all facts together; then every layer takes
    an equal share of what is left of them. With keys K and residuals R of the edits as columns, and
    the second moments C of keys, the weights of a layer change by

        R Kᵀ (weight C + K Kᵀ)⁻¹                                     (equation 14)

    the ridge solution between the new keys and `weight` keys that are to keep their values. Keys
    and residuals are computed anew after each layer.

    Args:
        moments: of the layers, of `second_moments` over ordinary texts.
        layers: which blocks, ascending; by default three up to the middle one.
        weight: of the old keys. The published 20,000 suits 6 billion weights; a small model needs
            less for its edits to take effect.
        search: for the values; the published shifts have at most 0.75 of the output's norm.
        names: see `feed_forwards`.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit, second_moments
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=3, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> prompts = {name: [f"{name} lives in [MASK]."] for name in ("Ada", "Alan")}
        >>> facts = [FactEdit(name, own, "rome") for name, own in prompts.items()]
        >>> moments = second_moments(model, ["Ada wrote a program.", "It rains."])
        >>> search = ShiftSearch(required_probability=None)
        >>> editor = Memit(moments, [0, 1], weight=1.0, search=search)
        >>> sorted(editor.delta(model, facts).factors)
        [(0, 'output'), (1, 'output')]
    """

    moments: SecondMoments
    layers: Sequence[int] | None = None
    weight: float = 20_000.0
    search: ShiftSearch = field(default_factory=lambda: ShiftSearch(largest=0.75))
    names: Sequence[tuple[str, str]] = NAMES

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"Memit: weight must be above 0, got {self.weight}")
        if self.layers is not None and list(self.layers) != sorted({*self.layers}):
            raise ValueError(f"Memit: layers must ascend, got {list(self.layers)}")

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Computes the change of weights that makes edits; the model stays as it is.

        Args:
            model: a masked or causal language model.
            edits: facts to add or remove.

        Raises:
            TypeError: another kind of model.
            ValueError: edits that contradict each other, or do not reach the required probability;
                an object that the tokenizer does not know; no moments of a layer; a model whose
                blocks normalize neither before nor after the residual sum alone.
        """
        check_edits("Memit", edits, causal=isinstance(model, CausalLM))
        middle = layer_of("Memit", model, None, self.names).layer
        layers = self.layers if self.layers is not None else range(max(0, middle - 2), middle + 1)
        if not len(layers):
            raise ValueError("Memit: expected one layer or more, got none")
        parts = [layer_of("Memit", model, layer, self.names) for layer in layers]
        moments = {part.layer: self.moments.at("Memit", part.layer) for part in parts}
        batch = cloze_batch("Memit", model, edits)
        with evaluating(model), torch.no_grad():
            state = ResidualState(model, parts[-1], batch)
            before = state.mean()
        wanted = before + output_shifts("Memit", model, parts[-1], edits, self.search).shifts
        delta = WeightDelta(editable_digest(model, self.names))
        for place, part in enumerate(parts):
            with (
                edit(model, delta, strict=False, names=self.names),
                evaluating(model),
                torch.no_grad(),
            ):
                keys = state.keys(part)
                residuals = (wanted - state.mean()) / (len(parts) - place)
            factors = dict(delta.factors)
            factors[part.layer, "output"] = ridge_factors(
                keys, residuals, self.weight * moments[part.layer]
            )
            delta = WeightDelta(delta.model, factors)
        required = self.search.required_probability
        return checked_delta("Memit", model, delta, edits, required, self.names)


def ridge_factors(keys: Tensor, residuals: Tensor, kept: Tensor) -> Factors:
    """Solves for the change that adds residuals at keys and little at others.

    Args:
        keys: ``[edits, neurons]``.
        residuals: ``[edits, hidden]``.
        kept: ``[neurons, neurons]``, the weighted moments of keys that are to keep their values.

    Returns:
        The factors of ``R Kᵀ (kept + K Kᵀ)⁻¹``.
    """
    own = keys.double().cpu()
    right = torch.linalg.solve(kept + own.T @ own, own.T).T
    return smallest(Factors(residuals.T.float().cpu().contiguous(), right.float().contiguous()))
