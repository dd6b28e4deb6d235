"""Records a chunk with its random states and autocast settings, so that it can be encoded again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Replay(NamedTuple):
    """A chunk with the random states and autocast settings under which it was encoded.

    Random states are those of the CPU and of every CUDA device in use before the chunk was encoded.
    """

    chunk: Any
    versions: list[int]
    cpu: Tensor
    cuda: list[Tensor]
    autocast: list[dict[str, Any]]

    @classmethod
    def record(cls, chunk: Any) -> Replay:
        """Records a chunk with the present random states and autocast settings."""
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
    def restored(self, op: str) -> Iterator[Any]:
        """Restores random states and autocast settings inside the block, and yields the chunk.

        After the block the random states are those of before it.

        Raises:
            RuntimeError: a tensor of the chunk was changed in place; autograd raises the same way.
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


def tensors_in(chunk: Any) -> list[Tensor]:
    """Lists the tensors of a chunk: itself, or those in a tuple, a list or a mapping."""
    if isinstance(chunk, Mapping):
        chunk = tuple(chunk.values())
    parts = chunk if isinstance(chunk, (tuple, list)) else (chunk,)
    return [x for x in parts if isinstance(x, Tensor)]


def _versions(chunk: Any) -> list[int]:
    """Returns how often each tensor was changed in place; inference tensors do not count that."""
    return [x._version for x in tensors_in(chunk) if not x.is_inference()]
