"""Records the feed-forward sub-layers and the blocks of a model in a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .feedforward import FeedForward

Tokens = Mapping[str, Tensor]
# The function that is attributed: of a batch of tokens and the numbers of its texts, [rows].
Target = Callable[[Tokens, Tensor], Tensor]


class RecordedPass:
    """Inputs and outputs of every sub-layer, one for each time it runs, and the target's value.

    Copies, as some models add to an output in place. A sub-layer that several blocks share runs
    several times. Activations that a model flattens over
    texts and tokens, as OPT does, are ``[texts, tokens, width]`` here as well.

    Args:
        parts: sub-layers of the model that `target` calls.
        tokens: a batch of texts.
        shape: texts and tokens of the activations.
        target: called once, without gradients.

    Raises:
        ValueError: activations of another shape, a sub-layer that does not run.
    """

    def __init__(
        self, parts: Sequence[FeedForward], tokens: Tokens, shape: torch.Size, target: Target
    ) -> None:
        self._shape = shape
        self._inputs: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Tensor]] = {}
        self._blocks: list[tuple[int, Any]] = []
        hooks = []
        for part in parts:
            for name, module in (
                (part.intermediate_name, part.intermediate),
                (part.output_name, part.output),
            ):
                hooks.append(module.register_forward_hook(self._keep(name)))
        blocks = parts[0].blocks
        for place, block in enumerate(blocks):
            hooks.append(block.register_forward_hook(self._keep_block(place)))
        try:
            with torch.no_grad():
                self.reached = target(tokens, torch.arange(shape[0]))
        finally:
            for hook in hooks:
                hook.remove()
        in_order = [place for place, _ in self._blocks] == list(range(len(blocks)))
        replayable = all(_can_repeat(output, shape[0]) for _, output in self._blocks)
        # Outputs of blocks, in order; none where they cannot be repeated instead of computed.
        self.below = [output for _, output in self._blocks] if in_order and replayable else []

    def inputs(self, name: str) -> list[Tensor]:
        """Returns the inputs of a sub-layer, ``[texts, tokens, width]`` for each run."""
        return [self._by_token(name, x) for x in self._runs(self._inputs, name)]

    def outputs(self, name: str) -> list[Tensor]:
        """Returns the outputs of a sub-layer, ``[texts, tokens, width]`` for each run."""
        return [self._by_token(name, x) for x in self._runs(self._outputs, name)]

    def _runs(self, kept: dict[str, list[Tensor]], name: str) -> list[Tensor]:
        if name not in kept:
            raise ValueError(f"attribution: {name} does not run where the target is computed")
        return kept[name]

    def _by_token(self, name: str, x: Tensor) -> Tensor:
        if x.shape[:-1] == self._shape:
            return x
        if x.shape[:-1].numel() != self._shape.numel() or x.ndim != 2:
            raise ValueError(
                f"attribution: activations of {name} have shape {tuple(x.shape)}, expected "
                f"{tuple(self._shape)} texts and tokens"
            )
        return x.reshape(*self._shape, x.shape[-1])

    def _keep(self, name: str) -> Any:
        def keep(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            self._inputs.setdefault(name, []).append(args[0].clone())
            self._outputs.setdefault(name, []).append(out.clone())

        return keep

    def _keep_block(self, place: int) -> Any:
        return lambda _, __, out: self._blocks.append((place, _copied(out)))


def repeated(output: Any, n: int, k: int) -> Any:
    """Repeats the output of a block for n texts k times.

    A tensor that all texts share, such as T5's position bias, stays as it is.

    Args:
        output: a tensor, or a tuple with tensors.
        n: texts.
        k: repetitions.
    """
    if isinstance(output, tuple):
        return tuple(repeated(x, n, k) for x in output)
    if not isinstance(output, Tensor) or len(output) != n:
        return output
    return output.repeat(k, *[1] * (output.ndim - 1))


def _copied(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_copied(x) for x in output)
    return output.clone() if isinstance(output, Tensor) else output


def _can_repeat(output: Any, n: int) -> bool:
    if isinstance(output, tuple):
        return all(_can_repeat(x, n) for x in output)
    return output is None or (isinstance(output, Tensor) and len(output) in (1, n))
