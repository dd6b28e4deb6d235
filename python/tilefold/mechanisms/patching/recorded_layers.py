"""Records the dense layers of a block, so that those before a patch need not run again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class RecordedLayers:
    """Outputs of the dense layers of a block for n texts, in the order in which they ran."""

    def __init__(self) -> None:
        self._ran: list[tuple[nn.Module, Tensor]] = []

    @contextlib.contextmanager
    def recording(self, block: nn.Module) -> Iterator[None]:
        """Records the dense layers of a block while the model runs once.

        Args:
            block: of the model.
        """
        dense = [module for module in block.modules() if isinstance(module, nn.Linear | Conv1D)]
        hooks = [module.register_forward_hook(self._keep) for module in dense]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def before(self, module: nn.Module, n: int) -> dict[nn.Module, Tensor]:
        """Returns the outputs of layers that ran before another one, on which none depends.

        Args:
            module: a dense layer of the block.
            n: texts. Layers whose outputs are not ``[n, ...]`` are left out, as of tables of
                positions, and those that ran more than once; all of them where n is 1, as a table
                and activations then have the same shape.
        """
        if n == 1:
            return {}
        modules = [one for one, _ in self._ran]
        times = Counter(modules)
        earlier = self._ran[: modules.index(module)]
        return {one: out for one, out in earlier if times[one] == 1 and len(out) == n}

    def _keep(self, module: nn.Module, _: tuple[Any, ...], out: Tensor) -> None:
        self._ran.append((module, out.clone()))
