"""Lets a model begin at a block: those below return what they returned before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
    try:
        for block, output in zip(passed, below, strict=False):
            block.forward = _returning(repeated(output, n, k))
        yield
    finally:
        for block in passed:
            block.__dict__.pop("forward", None)


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *_, **__: output
