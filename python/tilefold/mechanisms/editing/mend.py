"""Edits facts by MEND: a network turns the gradient of an edit into its change of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .cloze_batch import EditableLM
from .edit_gradients import LayerGradient, Place
from .gradient_editor import GradientEditor
from .weight_delta import Factors


class Mend(GradientEditor):
    """Model editor networks with gradient decomposition (Mitchell et al., 2022).

    With u the inputs and d the output gradients of a layer at each token, and the network's
    transformed u' and d', the weights of the layer change by ``-rate * sum over tokens of d' u'ᵀ``,
    with a rate for each layer that is trained as well.

    Args:
        model: the language model that will be edited.
        rate: of every layer, before training.
        **options: of `GradientEditor`: layers, rank, required_probability, names.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> from tilefold.mechanisms import FactEdit
        >>> from tilefold.models import MaskedLM, minilm
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
        >>> config = BertConfig(vocab_size=30522, num_hidden_layers=2, **sizes)
        >>> model = MaskedLM(BertForMaskedLM(config), minilm().tokenizer)  # random weights
        >>> names = ("Ada", "Alan", "Grace")
        >>> facts = [FactEdit(name, [f"{name} lives in [MASK]."], "rome") for name in names]
        >>> editor = Mend(model, layers=[1]).fit(model, facts[:1], facts[1:], n_edits=1, steps=2)
        >>> sorted(editor.delta(model, facts).factors)
        [(1, 'intermediate'), (1, 'output')]
    """

    def __init__(self, model: EditableLM, *, rate: float = 1e-4, **options: Any) -> None:
        super().__init__(model, **options)
        self.rates = nn.ParameterDict(
            {name: nn.Parameter(torch.full((len(self.layers),), rate)) for name in self.networks}
        )
        self.to(model.device)

    def factors(self, gradients: Mapping[Place, LayerGradient]) -> dict[Place, Factors]:
        """Computes the changes of weights from gradients; differentiable.

        Args:
            gradients: of `edit_gradients`.
        """
        found = {}
        for place, gradient in gradients.items():
            inputs, output_gradients = self._transformed(place, gradient)
            rate = self.rates[place[1]][self.layers.index(place[0])]
            found[place] = Factors(-rate * output_gradients.T, inputs)
        return found
