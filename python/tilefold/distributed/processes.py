"""Shares work among the processes of a training; with one process all are plain calls."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from .collectives import all_gather_rows

# Hundreds of times longer than a thread takes to drop its tensors on a busy machine.
_GLOO_SECONDS = 0.2


def world() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def leave() -> None:
    """Destroys the process group, if there is one, and waits for the threads of gloo.

    A thread of gloo drops the tensors of a finished collective after the caller has gone on. If the
    interpreter is shutting down by then, taking the GIL ends that thread inside a destructor, and
    the process aborts (torch 2.13). Collecting garbage frees the group and so joins its threads,
    unless somebody, such as a DDP module, still refers to it; those threads get a moment.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()
        time.sleep(_GLOO_SECONDS)  # releases the GIL


def encode_together(
    encode: Callable[..., NDArray[np.float32]],
    texts: Sequence[str],
    *columns: Sequence[str],
    batch_size: int,
) -> NDArray[np.float32]:
    """Computes ``encode(texts, *columns)``, each process encoding its share.

    Args:
        encode: a method of `BiEncoder`; the first process shows a progress bar.
        texts: the texts, equal on all processes.
        *columns: lists parallel to `texts`, such as their titles.
        batch_size: number of texts encoded at a time.

    Returns:
        ``[len(texts), dim]`` float32 on every process.
    """
    n = world()
    if n == 1:
        return encode(texts, *columns, batch_size=batch_size)
    bounds, here = [len(texts) * i // n for i in range(n + 1)], dist.get_rank()
    part = [column[bounds[here] : bounds[here + 1]] for column in (texts, *columns)]
    own = torch.from_numpy(encode(*part, batch_size=batch_size, progress=here == 0))
    sizes = [end - begin for begin, end in pairwise(bounds)]
    all_processes = cast("dist.ProcessGroup", dist.group.WORLD)
    whole: NDArray[np.float32] = all_gather_rows(own, sizes, all_processes).numpy()
    return whole


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Averages gradients over processes in place; a parameter without any gradient keeps none."""
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


def mean_over_processes(value: float) -> float:
    """Returns the mean of a number over processes, the same bits on each."""
    if world() == 1:
        return value
    values = torch.tensor([[value]], dtype=torch.float64)
    everyone = cast("dist.ProcessGroup", dist.group.WORLD)
    return float(all_gather_rows(values, [1] * world(), everyone).mean())
