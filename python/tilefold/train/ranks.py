"""What processes of a training do together; alone, all of this is a plain call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def world() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def encode_together(encode: Encode, texts: Sequence[str]) -> NDArray[np.float32]:
    """``encode(texts)``, each process encoding its share; the result is everyone's."""
    n = world()
    if n == 1:
        return encode(texts)
    bounds = [len(texts) * i // n for i in range(n + 1)]
    here = dist.get_rank()
    own = torch.from_numpy(encode(texts[bounds[here] : bounds[here + 1]]))
    whole = torch.empty(len(texts), own.shape[1])
    for rank in range(n):
        part = whole[bounds[rank] : bounds[rank + 1]]
        if rank == here:
            part.copy_(own)
        if len(part):
            dist.broadcast(part, rank)
    return whole.numpy()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over processes, in place. What has no gradient on any process keeps none."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    has = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    dist.all_reduce(has)
    for parameter, somewhere in zip(trained, has.tolist(), strict=True):
        if not somewhere:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= world()
