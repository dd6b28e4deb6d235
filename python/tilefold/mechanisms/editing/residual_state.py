"""The residual sum behind a block's feed-forward sub-layer, where shifts of its output add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...activations.patching import patch
from ..neurons.feedforward import FeedForward
from .cloze_batch import ClozeBatch, EditableLM

_TOLERANCE = 0.02  # bfloat16 rounds to 1/256


class ResidualState:
    """The sum of a feed-forward sub-layer's output and its residual, at the subjects of prompts.

    Where a block normalizes its inputs (Llama, GPT-2), the sum is the block's output; where it
    normalizes the sum (BERT), the sum is what its last normalization reads. Which one it is, is
    found by adding to the sub-layer's output and looking where exactly that arrives.

    Args:
        model: a language model in evaluation mode.
        part: the sub-layer.
        batch: prompts.

    Raises:
        ValueError: the sum is at neither place, as in models that normalize both.
    """

    def __init__(self, model: EditableLM, part: FeedForward, batch: ClozeBatch) -> None:
        self._model, self._batch = model, batch
        block = part.blocks[part.layer]
        inside = [
            module
            for module in block.modules()
            if not any(module.children()) and module not in (part.intermediate, part.output)
        ]
        # What reads or is the sub-layer's output alone, such as dropout, is not the sum.
        readers = [(part.output, False), (block, False), *((module, True) for module in inside)]
        before = self._recorded(readers)
        width = before[0].shape[1]
        step = float(before[0].abs().max()) * torch.linspace(-1, 1, width, device=model.device)
        with patch(model, {part.output_name: lambda x: x + step.to(x.dtype)}):
            after = self._recorded(readers)
        sums = [
            place
            for place, x in after.items()  # in the order in which they run
            if x.shape == before[0].shape
            and not torch.equal(before[place], before[0])
            and (x - before[place] - step).abs().max() < _TOLERANCE * step.abs().max()
        ]
        if not sums:
            raise ValueError(
                f"Memit: the residual sum behind {part.output_name} was not found; use Rome, which "
                "does not need it"
            )
        self._place = readers[sums[-1]]

    def mean(self) -> Tensor:
        """Returns the sums at subjects, ``[edits, hidden]``, means over the prompts of an edit."""
        return self._batch.mean_by_edit(self._recorded([self._place])[0].float())

    def keys(self, part: FeedForward) -> Tensor:
        """Returns keys of a layer at subjects, means over the prompts of each edit.

        Args:
            part: reads the keys, ``[edits, neurons]``.
        """
        return self._batch.mean_by_edit(self._recorded([(part.output, True)])[0].float())

    def _recorded(self, readers: list[tuple[nn.Module, bool]]) -> dict[int, Tensor]:
        """Runs the model, and returns inputs or outputs of modules at subjects."""
        found: dict[int, Tensor] = {}
        size = self._batch.subjects.numel()

        def keep(place: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: Any, output: Any = None) -> None:
                value = args if output is None else output
                x = value[0] if isinstance(value, tuple) and value else value
                if isinstance(x, Tensor) and x.is_floating_point() and x.shape[:-1].numel() == size:
                    found[place] = self._batch.at_subjects(x).clone()

            return hook

        hooks = [
            module.register_forward_pre_hook(keep(place))
            if is_input
            else module.register_forward_hook(keep(place))
            for place, (module, is_input) in enumerate(readers)
        ]
        try:
            self._model(self._batch.tokens)
        finally:
            for hook in hooks:
                hook.remove()
        return found
