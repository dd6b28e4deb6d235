"""Work shared by the processes of a training; with one process each is a plain call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from .collectives import all_gather_rows


def world() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def leave() -> None:
    """Ends the process group, if there is one: a process that exits with it may abort (gloo)."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def encode_together(
    encode: Callable[..., NDArray[np.float32]], texts: Sequence[str], *, batch_size: int
) -> NDArray[np.float32]:
    """``encode(texts)``, each process encoding its share; the result is everyone's.

    Args:
        encode: a method of `BiEncoder`; one process shows its bar.
        texts: the same on all processes.
        batch_size: texts at once.
    """
    n = world()
    if n == 1:
        return encode(texts, batch_size=batch_size)
    bounds, here = [len(texts) * i // n for i in range(n + 1)], dist.get_rank()
    part = texts[bounds[here] : bounds[here + 1]]
    own = torch.from_numpy(encode(part, batch_size=batch_size, progress=here == 0))
    sizes = [end - begin for begin, end in pairwise(bounds)]
    everyone = cast("dist.ProcessGroup", dist.group.WORLD)
    whole: NDArray[np.float32] = all_gather_rows(own, sizes, everyone).numpy()
    return whole


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
