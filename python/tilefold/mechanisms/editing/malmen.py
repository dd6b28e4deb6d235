"""Edits facts by MALMEN: many edits' changes of weights as one least-squares solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .cloze_batch import EditableLM
from .edit_gradients import LayerGradient, Place
from .gradient_editor import GradientEditor
from .weight_delta import Factors


class Malmen(GradientEditor):
    """Massive language model editing network (Tan, Zhang & Fu, 2024).

    As in `Mend`, a network transforms the inputs U and output gradients V of a layer, tokens as
    rows, into U' and V'. These state by how much the output for each input is to change,

        D = -rate * rowsums(U * U') * V'

    and the weights W, ``[outputs, inputs]``, change by the ridge solution of all of them at once:

        (UᵀU + exp(damping) I) ΔWᵀ = Uᵀ D

    so that edits cancel each other less than in a sum. Rates and dampings are trained as well.

    Args:
        model: the language model that will be edited.
        rate: of every layer, before training.
        damping: logarithm of the ridge term of every layer, before training.
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
        >>> editor = Malmen(model, layers=[1]).fit(model, facts[:1], facts[1:], n_edits=1, steps=2)
        >>> sorted(editor.delta(model, facts).factors)
        [(1, 'intermediate'), (1, 'output')]
    """

    def __init__(
        self, model: EditableLM, *, rate: float = 1e-6, damping: float = 0.0, **options: Any
    ) -> None:
        super().__init__(model, **options)

        def values(value: float) -> nn.ParameterDict:
            shape = (len(self.layers),)
            return nn.ParameterDict(
                {name: nn.Parameter(torch.full(shape, value)) for name in self.networks}
            )

        self.rates, self.dampings = values(rate), values(damping)
        self.to(model.device)

    def factors(self, gradients: Mapping[Place, LayerGradient]) -> dict[Place, Factors]:
        """Computes the changes of weights from gradients; differentiable.

        Args:
            gradients: of `edit_gradients`.
        """
        found = {}
        for place, gradient in gradients.items():
            inputs, output_gradients = self._transformed(place, gradient)
            number = self.layers.index(place[0])
            rate, damping = self.rates[place[1]][number], self.dampings[place[1]][number]
            products = (gradient.inputs * inputs).sum(1, keepdim=True)
            changes = -rate * products * output_gradients
            found[place] = least_squares_factors(gradient.inputs, changes, damping.exp())
        return found


def least_squares_factors(inputs: Tensor, changes: Tensor, ridge: Tensor) -> Factors:
    """Solves for the change of weights that changes outputs as wanted; differentiable.

    Args:
        inputs: ``[tokens, inputs]``.
        changes: ``[tokens, outputs]``, of the outputs.
        ridge: added to the diagonal, above 0.

    Returns:
        The factors of ``ΔW``, where ``(UᵀU + ridge I) ΔWᵀ = Uᵀ D``.
    """
    u = inputs.double()
    if len(u) < u.shape[1]:  # the same solution by the smaller matrix
        gram = u @ u.T + ridge.double() * torch.eye(len(u), dtype=u.dtype, device=u.device)
        right = torch.linalg.solve(gram, u)
    else:
        gram = u.T @ u + ridge.double() * torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
        right = torch.linalg.solve(gram, u.T).T
    return Factors(changes.T, right.float())
