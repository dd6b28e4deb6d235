"""Replaces weights and other attributes of layers inside a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..neurons.feedforward import Dense


def stored(module: Dense, weight: Tensor) -> nn.Parameter:
    """Returns ``[outputs, inputs]`` weights as the module keeps them."""
    kept = weight if isinstance(module, nn.Linear) else weight.T.contiguous()
    return nn.Parameter(kept, requires_grad=module.weight.requires_grad)


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Sets attributes, and sets back those of before at the end."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
