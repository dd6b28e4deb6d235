"""Lets a model begin at a block: those below return what they returned before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from .feedforward import FeedForward
from .recorded_pass import repeated


@contextlib.contextmanager
def skipped_blocks(
    part: FeedForward, below: Sequence[Any], n: int, k: int, *, inclusive: bool = False
) -> Iterator[None]:
    """Makes blocks below a sub-layer's block return recorded outputs, repeated k times.

    Args:
        part: the sub-layer.
        below: outputs of all blocks for n texts, of a `RecordedPass`; empty to skip none.
        n: texts.
        k: repetitions.
        inclusive: skip the block of the sub-layer, too.
    """
    passed = list(part.blocks)[: part.layer + inclusive] if below else []
    with returning(dict(zip(passed, below, strict=False)), n, k):
        yield


@contextlib.contextmanager
def returning(outputs: Mapping[nn.Module, Any], n: int, k: int) -> Iterator[None]:
    """Makes modules return recorded outputs, repeated k times, instead of running.

    Args:
        outputs: of each module, for n texts.
        n: texts.
        k: repetitions.
    """
    replaced = {module: module.__dict__.get("forward") for module in outputs}
    try:
        for module, output in outputs.items():
            module.forward = _always(repeated(output, n, k))
        yield
    finally:
        for module, forward in replaced.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward


def _always(output: Any) -> Callable[..., Any]:
    return lambda *_, **__: output
