"""A chunk as its encoder saw it, to be encoded once more: data, random numbers, autocast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Replay(NamedTuple):
    """What an encoder was given, to give it the same again.

    Random states are those of the CPU and of every CUDA device in use, before a chunk was encoded.
    """

    chunk: Any
    versions: list[int]
    cpu: Tensor
    cuda: list[Tensor]
    autocast: list[dict[str, Any]]

    @classmethod
    def of(cls, chunk: Any) -> Replay:
        """What an encoder would be given now."""
        in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        autocast = [
            {
                "device_type": device,
                "enabled": torch.is_autocast_enabled(device),
                "dtype": torch.get_autocast_dtype(device),
                "cache_enabled": torch.is_autocast_cache_enabled(),
            }
            for device in (["cpu", "cuda"] if in_use else ["cpu"])
        ]
        states = torch.cuda.get_rng_state_all() if in_use else []
        return cls(chunk, _versions(chunk), torch.get_rng_state(), states, autocast)

    @contextlib.contextmanager
    def again(self, op: str) -> Iterator[Any]:
        """The chunk under the same conditions; afterwards the random numbers that come anyway.

        Raises:
            RuntimeError: a tensor of the chunk that was changed in place, as autograd does.
        """
        if _versions(self.chunk) != self.versions:
            raise RuntimeError(
                f"{op}: a tensor of a chunk was changed in place before backward(), "
                "so it cannot be encoded again; pass a copy"
            )
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=range(len(self.cuda))))
            torch.set_rng_state(self.cpu)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            for options in self.autocast:
                stack.enter_context(torch.autocast(**options))
            yield self.chunk


def tensors(chunk: Any) -> list[Tensor]:
    """A chunk that is a tensor, or those in a tuple, a list or a mapping."""
    if isinstance(chunk, Mapping):
        chunk = tuple(chunk.values())
    parts = chunk if isinstance(chunk, tuple | list) else (chunk,)
    return [x for x in parts if isinstance(x, Tensor)]


def _versions(chunk: Any) -> list[int]:
    """How often each was changed in place; tensors of inference mode do not count that."""
    return [x._version for x in tensors(chunk) if not x.is_inference()]
