"""Edits facts by ROME: a rank-one change of one output layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ...models import CausalLM
from ..neurons.feedforward import NAMES
from .applied_edit import edit
from .checked_delta import checked_delta
from .cloze_batch import EditableLM
from .editable_model import editable_digest, layer_of
from .fact_edit import FactEdit, check_edits
from .output_shifts import ShiftSearch, output_shifts
from .second_moments import SecondMoments
from .weight_delta import Factors, WeightDelta


@dataclass(frozen=True)
class Rome:
    """Rank-one model editing (Meng et al., "Locating and Editing Factual Associations", 2022).

    An output layer W is read as a memory of values by keys. With the key k of the subject (mean
    over prompts), the value v = W k + shift that states the fact, and the second moments C of keys,
    the weights become

        W + (v - W k) uᵀ / (k · u),    u = C⁻¹ k                    (equation 2)

    which maps k to v exactly, and of all such matrices moves the outputs of other keys least.
    Several edits are made one after the other: with many, `Memit` keeps the earlier ones better.

    Args:
        moments: of the layer, of `second_moments` over ordinary texts.
        layer: which block; by default the middle one.
        search: for the value.
        names: see `feed_forwards`.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit, edit, second_moments
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=2, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> fact = FactEdit("Ada", ["Ada lives in [MASK]."], "rome")
        >>> moments = second_moments(model, ["Ada wrote a program.", "It rains."])
        >>> search = ShiftSearch(required_probability=None)
        >>> delta = Rome(moments, layer=0, search=search).delta(model, [fact])
        >>> with edit(model, delta):
        ...     edited = model.probabilities(fact.prompts, ["rome"])
        >>> delta.n_weights
        24
    """

    moments: SecondMoments
    layer: int | None = None
    search: ShiftSearch = field(default_factory=ShiftSearch)
    names: Sequence[tuple[str, str]] = NAMES

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Computes the change of weights that makes edits; the model stays as it is.

        Args:
            model: a masked or causal language model.
            edits: facts to add or remove.

        Raises:
            TypeError: another kind of model.
            ValueError: edits that contradict each other, or do not reach the required probability;
                an object that the tokenizer does not know; no moments of the layer.
        """
        check_edits("Rome", edits, causal=isinstance(model, CausalLM))
        part = layer_of("Rome", model, self.layer, self.names)
        factorized = torch.linalg.lu_factor(self.moments.at("Rome", part.layer))
        place = part.layer, "output"
        digest = editable_digest(model, self.names)
        left, right = [], []
        delta = WeightDelta(digest)
        for one in edits:
            with edit(model, delta, strict=False, names=self.names):
                found = output_shifts("Rome", model, part, [one], self.search)
            key = found.keys[0].double().cpu()
            solved = torch.linalg.lu_solve(*factorized, key[:, None])[:, 0]
            left.append(found.shifts[0].double().cpu() / (key @ solved))
            right.append(solved)
            factors = Factors(torch.stack(left, 1).float(), torch.stack(right).float())
            delta = WeightDelta(digest, {place: factors})  # type: ignore[dict-item]
        required = self.search.required_probability
        return checked_delta("Rome", model, delta, edits, required, self.names)
